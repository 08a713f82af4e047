"""The observers against fake heads over HTTP. Conditions are awaited; nothing is measured in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from rayservice_operator.core.decision import ScaledApp
from rayservice_operator.ray import client, probes
from tests.fakes.fake_ray import APPLICATIONS
from tests.ray.configs import BAD_IMPORT, NO_IMPORT_PATH, payload, push
from tests.ray.conftest import KEY, StartHead, Watcher, cluster, target

pytestmark = pytest.mark.timeout(30)

GET = f"GET {APPLICATIONS}"
PUT = f"PUT {APPLICATIONS}"
VERSION = "GET /api/version"
HEALTH_CHECK = "proxy 127.0.0.1 /-/healthz"


async def test_pushes_as_soon_as_the_dashboard_listens(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head(listening=False)
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until(lambda: watcher.see().error is not None)
    assert watcher.see().error == "cannot connect to the dashboard: Connection refused"
    assert watcher.see().push is None
    await head.accept()
    await head.until_asked(PUT)
    assert head.asked[GET] == 0, "the first request that gets through is the PUT"
    await watcher.until_serving(head)
    seen = watcher.see()
    assert (seen.error, seen.failing_since) == (None, None)
    assert seen.push is not None
    assert (seen.push.state, seen.push.config_hash) == ("accepted", "h1")
    assert (seen.session, seen.ray_version) == ("session_1", "2.60.0")
    assert seen.applications["q"].config["deployments"][0]["user_config"] == {"greeting": "h1"}


async def test_a_config_is_pushed_once_and_another_attempt_again(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    for _ in range(5):  # decisions repeat their targets
        watcher.pool.sync(KEY, (target(head, push=push()),))
    await head.until_asked(GET, head.asked[GET] + 3)
    assert head.asked[PUT] == 1
    watcher.pool.sync(KEY, (target(head, push=push(attempt="2")),))
    await watcher.until(lambda: watcher.see().push is not None and watcher.see().push.attempt == "2")
    assert head.asked[PUT] == 2


async def test_the_targets_of_that_moment_go_with_a_config(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    first, second = (payload(g, num_replicas=1).replace('"name": "q"', '"name": "q", "external_scaler_enabled": true')
                     for g in ("a", "b"))  # fmt: skip
    watcher.pool.sync(KEY, (target(head, push=push("a", body=first)),))
    await watcher.until_serving(head)
    head.serve.scale("q", "Greeter", 3)
    watcher.pool.sync(KEY, (target(head, push=replace(push("b", body=second), keep=(ScaledApp("q"),))),))
    await watcher.until(lambda: watcher.see().push is not None and watcher.see().push.config_hash == "b")
    assert head.serve.puts[-1]["applications"][0]["deployments"][0]["num_replicas"] == 3


async def test_a_new_config_goes_out_at_once(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push("a")),))
    await watcher.until_serving(head)
    watcher.pool.sync(KEY, (target(head, push=push("b"), fast=False),))
    await watcher.until(lambda: watcher.see().push is not None and watcher.see().push.config_hash == "b")
    await watcher.until(
        lambda: watcher.see().applications["q"].config["deployments"][0]["user_config"] == {"greeting": "b"}
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (NO_IMPORT_PATH, "applications.0.import_path: Field required"),
        (BAD_IMPORT, "the head cannot load what the config names: ModuleNotFoundError: No module named 'nomod'"),
    ],
)
async def test_a_rejected_config_is_not_tried_again(
    watcher: Watcher, start_head: StartHead, body: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push(body=body)),))
    await watcher.until(lambda: watcher.see().push is not None)
    result = watcher.see().push
    assert result is not None
    assert (result.state, result.message) == ("rejected", says)
    await head.until_asked(GET, 3)
    assert head.asked[PUT] == 1
    assert "hunter2" not in caplog.text + repr(watcher.see())


async def test_a_failing_push_is_repeated_until_it_gets_through(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    head.put_status = 503
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await head.until_asked(PUT, 3)
    await watcher.until(lambda: watcher.see().push is not None and watcher.see().seen_at is not None)
    result = watcher.see().push
    assert result is not None
    assert result.state == "failing"
    assert "HTTP 503" in result.message
    head.put_status = None
    await watcher.until(lambda: watcher.see().push is not None and watcher.see().push.state == "accepted")


async def test_a_hanging_head_delays_no_other(watcher: Watcher, start_head: StartHead) -> None:
    hanging, good = await start_head(), await start_head()
    hanging.hang = True
    slow, quick = cluster("slow"), cluster("quick")
    watcher.pool.sync(KEY, (target(hanging, of=slow, push=push()), target(good, of=quick, push=push())))
    await hanging.until_asked(PUT)
    await watcher.until_serving(good, quick)
    await good.until_asked(GET, 10)
    assert watcher.see(slow).seen_at is None
    assert hanging.asked[PUT] == 1


async def test_a_hanging_head_is_told_as_failing(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    head.hang = True
    watcher.pool.sync(KEY, (target(head),))
    await watcher.until(lambda: watcher.see().error is not None)
    assert watcher.see().error == f"no answer to {GET} within 2 s"


async def test_another_head_begins_anew_and_is_pushed_to(watcher: Watcher, start_head: StartHead) -> None:
    first, second = await start_head(), await start_head()
    watcher.pool.sync(KEY, (target(first, push=push()),))
    await watcher.until_serving(first)
    watcher.pool.sync(KEY, (target(second, uid="head-2", push=push()),))
    seen = watcher.see()
    assert (seen.head_uid, seen.seen_at, seen.push, dict(seen.applications)) == ("head-2", None, None, {})
    await watcher.until_serving(second)
    assert (first.asked[PUT], second.asked[PUT]) == (1, 1)


async def test_a_restarted_head_container_is_pushed_to_again(watcher: Watcher, start_head: StartHead) -> None:
    """Same pod, same address, another Ray session that knows nothing."""
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    await head.refuse()
    await watcher.until(lambda: watcher.see().error is not None)
    head.serve.restart("session_2")
    await head.accept()
    await watcher.until(lambda: watcher.see().session == "session_2")
    await watcher.until_serving(head)
    assert head.asked[PUT] == 2


async def test_a_head_that_kept_its_state_is_not_pushed_to_again(watcher: Watcher, start_head: StartHead) -> None:
    """GCS fault tolerance: the session goes on."""
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    versions = head.asked[VERSION]
    await head.refuse()
    await watcher.until(lambda: watcher.see().error is not None)
    await head.accept()
    await watcher.until(lambda: watcher.see().error is None)
    await head.until_asked(VERSION, versions + 1)
    await head.until_asked(GET, head.asked[GET] + 2)
    assert head.asked[PUT] == 1


async def test_nothing_new_is_not_told(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    before, seen_at = watcher.told[KEY], watcher.see().seen_at
    await head.until_asked(GET, head.asked[GET] + 8)
    assert watcher.told[KEY] == before
    assert watcher.see().seen_at != seen_at, "though it was looked at"


async def test_an_outage_is_told_when_it_begins_when_it_is_old_and_when_it_ends(
    watcher: Watcher, start_head: StartHead
) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    before = watcher.told[KEY]
    head.status = 503
    await watcher.until(lambda: watcher.told[KEY] == before + 1)
    since = watcher.see().failing_since
    assert watcher.see().error == "HTTP 503: status 503 by the test"
    assert watcher.see().applications, "what was seen last is kept"
    await watcher.until(lambda: watcher.told[KEY] == before + 2)  # older than stale_after_s
    assert watcher.see().failing_since == since
    head.status = None
    await watcher.until(lambda: watcher.told[KEY] == before + 3)
    assert watcher.see().error is None


async def test_proxies_are_asked_themselves(watcher: Watcher, start_head: StartHead) -> None:
    """The controller calls a proxy HEALTHY that answers 503."""
    head = await start_head(nodes=("127.0.0.1", "127.0.0.2"))
    watcher.pool.sync(KEY, (target(head, push=push(body=payload(num_replicas=2))),))
    await watcher.until_serving(head)
    assert watcher.see().proxies == {"127.0.0.1": True, "127.0.0.2": True}
    assert watcher.pool.load(cluster()) == {"127.0.0.1": 1, "127.0.0.2": 1}
    head.serve.draining.add("127.0.0.2")
    await watcher.until(lambda: watcher.see().proxies == {"127.0.0.1": True, "127.0.0.2": False})
    head.serve.set_nodes(["127.0.0.1"])
    await watcher.until(lambda: watcher.see().proxies == {"127.0.0.1": True})


@pytest.mark.parametrize(("silent", "believed"), [(probes.SILENT_PROBES - 1, False), (probes.SILENT_PROBES, True)])
async def test_a_proxy_that_only_answers_late_stays_healthy(
    watcher: Watcher, start_head: StartHead, monkeypatch: pytest.MonkeyPatch, silent: int, believed: bool
) -> None:
    async def impatient(http: aiohttp.ClientSession, address: str, port: int) -> bool | None:
        return await client.proxy_healthy(http, address, port, timeout_s=0.2)

    monkeypatch.setattr(probes, "proxy_healthy", impatient)
    monkeypatch.setattr(probes, "HEALTHY_S", 0.05)
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    asked = head.asked[HEALTH_CHECK]
    told = watcher.told[KEY]
    head.silent = silent
    await head.until_asked(HEALTH_CHECK, asked + silent + 2)
    assert (watcher.told[KEY] > told) is believed, "told of the change, and of the one back"


async def test_the_first_look_knows_which_proxies_answer(watcher: Watcher, start_head: StartHead) -> None:
    """As after a restart of the operator: «not asked yet» would take serving pods out of their service."""
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    again = cluster("again", "uid-2")
    watcher.pool.sync(KEY._replace(name="again"), (target(head, of=again),))
    await watcher.until(lambda: watcher.see(again).seen_at is not None)
    assert watcher.see(again).proxies == {"127.0.0.1": True}


async def test_a_proxy_that_gets_requests_is_asked_though_the_controller_does_not_list_it(
    watcher: Watcher, start_head: StartHead
) -> None:
    """A controller that has just recovered lists no proxies of workers for a moment."""
    head = await start_head(nodes=("127.0.0.1", "127.0.0.2"))
    watcher.pool.sync(KEY, (target(head, push=push(body=payload(num_replicas=2))),))
    await watcher.until_serving(head)
    head.serve.unlisted.add("127.0.0.2")
    await watcher.until(lambda: watcher.see().proxies == {"127.0.0.1": True})
    again = cluster("again", "uid-2")
    routed = replace(target(head, of=again), routed=("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    watcher.pool.sync(KEY._replace(name="again"), (routed,))
    await watcher.until(lambda: watcher.see(again).seen_at is not None)
    assert watcher.see(again).proxies == {"127.0.0.1": True, "127.0.0.2": True, "127.0.0.3": False}
    watcher.pool.sync(KEY._replace(name="again"), (replace(routed, routed=("127.0.0.1",)),))
    await watcher.until(lambda: watcher.see(again).proxies == {"127.0.0.1": True})


async def test_looks_are_rarer_when_nothing_moves(watcher: Watcher, start_head: StartHead) -> None:
    """Counted against a head of the same age that is to be looked at quickly."""
    moving, steady = await start_head(), await start_head()
    for head, name in ((moving, "moving"), (steady, "steady")):
        watcher.pool.sync(KEY._replace(name=name), (target(head, of=cluster(name), push=push()),))
    await watcher.until_serving(moving, cluster("moving"))
    await watcher.until_serving(steady, cluster("steady"))
    watcher.pool.sync(KEY._replace(name="steady"), (target(steady, of=cluster("steady"), fast=False),))
    start = moving.asked[GET], steady.asked[GET]
    await moving.until_asked(GET, start[0] + 12)
    assert 1 <= steady.asked[GET] - start[1] <= 4


async def test_a_deletion_ends_the_watch_without_delay(watcher: Watcher, start_head: StartHead) -> None:
    head, other = await start_head(), await start_head()
    watcher.pool.sync(KEY, (target(head, of=cluster("a")), target(other, of=cluster("b"))))
    await head.until_asked(GET)
    watcher.pool.sync(KEY, (target(other, of=cluster("b")),))
    assert watcher.pool.get(cluster("a")) is None
    asked = head.asked[GET]
    await other.until_asked(GET, other.asked[GET] + 4)
    assert head.asked[GET] <= asked + 1
    watcher.pool.sync(KEY, ())
    assert watcher.pool.get(cluster("b")) is None


async def test_clusters_are_told_apart_by_uid(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    watcher.pool.sync(KEY, (target(head, of=cluster(uid="old")),))
    assert watcher.pool.get(cluster(uid="new")) is None
    assert watcher.pool.load(cluster(uid="new")) is None


async def test_two_keys_share_a_watch(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    other = KEY._replace(kind="RayCluster")
    watcher.pool.sync(KEY, (target(head, push=push()),))
    watcher.pool.sync(other, (target(head, fast=False),))
    await watcher.until_serving(head)
    assert watcher.told[KEY]
    assert watcher.told[other]
    watcher.pool.sync(KEY, ())
    assert watcher.see().seen_at is not None


async def test_the_token_is_read_from_its_secret(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head(token="s3cret")
    watcher.pool.sync(KEY, (target(head, push=push(), token_secret="demo"),))
    await watcher.until(lambda: watcher.see().error is not None)
    assert watcher.see().error == "Secret demo has no auth token that can be read yet"
    watcher.tokens["default", "demo"] = "wrong"
    await watcher.until(lambda: watcher.see().push is not None)
    assert watcher.see().push is not None
    assert "refused the auth token" in watcher.see().push.message  # type: ignore[union-attr]
    watcher.tokens["default", "demo"] = "s3cret"
    await watcher.until_serving(head)
    assert "s3cret" not in repr(watcher.see())


async def test_a_dashboard_without_version_is_good_enough(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    head.version_missing = True
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await watcher.until_serving(head)
    await head.until_asked(GET, head.asked[GET] + 4)
    assert head.asked[VERSION] == 1
    assert watcher.see().session == ""


async def test_load_is_unknown_before_the_first_answer(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head(listening=False)
    watcher.pool.sync(KEY, (target(head),))
    assert watcher.pool.load(cluster()) is None
    assert watcher.see().head_uid == "head-1"


async def test_close_ends_everything(watcher: Watcher, start_head: StartHead) -> None:
    head = await start_head()
    head.hang = True
    before = asyncio.all_tasks()
    watcher.pool.sync(KEY, (target(head, push=push()),))
    await head.until_asked(PUT)
    await watcher.pool.close()
    left = {
        task.get_name()
        for task in asyncio.all_tasks() - before
        if task.get_name().startswith(("observe", "push", "probe"))
    }
    assert not left
    watcher.pool.sync(KEY, (target(head),))
    assert watcher.pool.get(cluster()) is None
