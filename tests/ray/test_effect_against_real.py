"""Each kind of change is PUT to a real Ray, and what it did to the replicas is what the preview said.

Seen from outside: which replicas (by id) are still there, which deployments the controller's log says that it updated
in place, what the details and the proxy answer. Every step starts from where the one before it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rayservice_operator.serveconfig.effect import ConfigEffect, effect
from rayservice_operator.serveconfig.fields import Reach
from tests.ray import real_ray
from tests.ray.scenario import Driver

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(900)]

STARTUP_S = 180.0
Document = dict[str, Any]
Edit = Callable[[Document], None]

REPLACED = frozenset({Reach.RESTART, Reach.REBUILD})
UPDATED = frozenset({Reach.REPLICA, Reach.RECONFIGURE})


def _d(**options: Any) -> Edit:
    return lambda document: _deployment(document, "D").update(options)


def _e(**options: Any) -> Edit:
    return lambda document: _deployment(document, "E").update(options)


def _app(**options: Any) -> Edit:
    return lambda document: document["applications"][0].update(options)


def _top(**options: Any) -> Edit:
    return lambda document: document.update(options)


def _without(key: str) -> Edit:
    return lambda document: _deployment(document, "D").pop(key)


def _deployment(document: Document, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in document["applications"][0]["deployments"] if d["name"] == name)
    return found


def _both(*edits: Edit) -> Edit:
    def edit(document: Document) -> None:
        for each in edits:
            each(document)

    return edit


def _swap(document: Document) -> None:
    document["applications"][0]["deployments"].reverse()


def _timeout(document: Document) -> None:
    document["http_options"]["request_timeout_s"] = 77


POLICY = {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"}

STEPS: dict[str, tuple[Edit, Reach, Reach]] = {
    # What is changed, and what that does to D and to E: by hand, so that preview and Ray are both held to it.
    "nothing": (lambda _: None, Reach.NONE, Reach.NONE),
    "user_config": (_d(user_config={"a": 1}), Reach.RECONFIGURE, Reach.NONE),
    "max_queued_requests": (_d(max_queued_requests=50), Reach.CONTROLLER, Reach.NONE),
    "health_check_timeout_s": (_d(health_check_timeout_s=40), Reach.REPLICA, Reach.NONE),
    "num_replicas": (_d(num_replicas=2), Reach.CONTROLLER, Reach.NONE),
    "num_replicas: auto": (_e(num_replicas="auto"), Reach.NONE, Reach.RECONFIGURE),
    "the first autoscaling_config": (_e(autoscaling_config={"max_replicas": 3}), Reach.REBUILD, Reach.REBUILD),
    "max_replicas": (_e(autoscaling_config={"max_replicas": 4}), Reach.NONE, Reach.CONTROLLER),
    "look_back_period_s": (
        _e(autoscaling_config={"max_replicas": 4, "look_back_period_s": 20}),
        Reach.NONE,
        Reach.RECONFIGURE,
    ),
    "another order": (_swap, Reach.NONE, Reach.NONE),
    "actor options": (_d(ray_actor_options={"num_cpus": 0.1, "resources": {}}), Reach.RESTART, Reach.NONE),
    "max_replicas_per_node": (_d(max_replicas_per_node=10), Reach.RESTART, Reach.NONE),
    "another max_replicas_per_node": (_d(max_replicas_per_node=11), Reach.IGNORED, Reach.NONE),
    "max_replicas_per_node and something else": (
        _both(_d(max_replicas_per_node=12), _d(max_queued_requests=60)),
        Reach.RESTART,
        Reach.NONE,
    ),
    "a key goes": (_without("max_queued_requests"), Reach.CONTROLLER, Reach.NONE),
    "an unknown key": (_d(max_replica_per_node=3), Reach.IGNORED, Reach.NONE),
    "http_options": (_timeout, Reach.NONE, Reach.NONE),
    "proxy_location": (_top(proxy_location="HeadOnly"), Reach.NONE, Reach.NONE),
    "logging of the application": (_app(logging_config={"log_level": "DEBUG"}), Reach.RECONFIGURE, Reach.RECONFIGURE),
    "the route": (_app(route_prefix="/other"), Reach.RECONFIGURE, Reach.NONE),
    "args": (_app(args={"version": "2"}), Reach.REBUILD, Reach.REBUILD),
    "a router": (
        _e(request_router_config={"request_routing_stats_period_s": 5}),
        Reach.REBUILD,
        Reach.REBUILD,
    ),
    "target_capacity": (_top(target_capacity=50), Reach.CONTROLLER, Reach.CONTROLLER),
    "another name": (_app(name="b"), Reach.NEW, Reach.NEW),
}


@dataclass
class Seen:
    """One step: the config before and after, replicas by deployment before and after, and what was updated in place."""

    before: Document
    after: Document
    replicas_before: dict[str, set[str]]
    replicas_after: dict[str, set[str]]
    updated: set[str]
    details: dict[str, Any]
    answers: dict[str, int] = field(default_factory=dict)

    @property
    def told(self) -> ConfigEffect:
        """The preview of the step."""
        return effect(self.before, self.after, seen=_targets(self.replicas_before))

    def reach(self, deployment: str) -> Reach:
        """What the preview says about a deployment; a route is the ingress' own."""
        app = self.told.applications[0]
        own = next(d.reach for d in app.deployments if d.name == deployment)
        routed = any(cause.key == "route_prefix" for cause in app.causes) and deployment == "D"
        return max(own, Reach.RECONFIGURE, key=lambda reach: reach.rank) if routed else own


def _targets(replicas: dict[str, set[str]]) -> dict[str, dict[str, int | None]]:
    return {"a": {name: len(ids) for name, ids in replicas.items()}}


@pytest.fixture(scope="module")
def steps() -> dict[str, Seen]:
    """All steps, one after another, on one Ray."""
    return asyncio.run(_run())


async def _run() -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    with real_ray.running() as ray:
        async with aiohttp.ClientSession() as http:
            driver = Driver(http, ray.dashboard, ray.serve_port)
            await _answers(driver, ray)
            document: Document = {
                "http_options": {"host": "0.0.0.0", "port": ray.serve_port},
                "applications": [
                    {
                        "name": "a",
                        "route_prefix": "/",
                        "import_path": "tests.ray.pair:build",
                        "args": {"version": "1"},
                        "deployments": [{"name": "D", "num_replicas": 1}, {"name": "E", "num_replicas": 1}],
                    }
                ],
            }
            record = await driver.put(document, deadline_s=STARTUP_S)
            details = await _at_rest(driver, record.last)
            for name, (edit, _, _) in STEPS.items():
                after = copy.deepcopy(document)
                edit(after)
                offset = len(_controller_log(ray))
                record = await driver.put(after, deadline_s=STARTUP_S)
                assert record.status == 200, record.body
                now = await _at_rest(driver, record.last)
                answers = {path: (await driver.answer(path))[0] for path in ("/", "/other")}
                updated = _updated(_controller_log(ray)[offset:])
                seen[name] = Seen(document, after, _replicas(details), _replicas(now), updated, now, answers)
                document, details = after, now
    return seen


async def _answers(driver: Driver, ray: real_ray.RealRay) -> None:
    until = time.monotonic() + STARTUP_S
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            await driver.get()
            return
        ray.check()
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


async def _at_rest(driver: Driver, details: dict[str, Any]) -> dict[str, Any]:
    """Until every deployment has its target of running replicas and no other: those that stop take a while."""
    until = time.monotonic() + STARTUP_S
    while not all(
        deployment["status"] == "HEALTHY"
        and [r["state"] for r in deployment["replicas"]] == ["RUNNING"] * deployment["target_num_replicas"]
        for app in details["applications"].values()
        for deployment in app["deployments"].values()
    ):
        assert time.monotonic() < until, details
        await asyncio.sleep(0.05)
        _, details = await driver.get()
    return details


def _replicas(details: dict[str, Any]) -> dict[str, set[str]]:
    (app,) = details["applications"].values()
    return {name: {r["replica_id"] for r in d["replicas"]} for name, d in app["deployments"].items()}


def _controller_log(ray: real_ray.RealRay) -> str:
    logs = sorted(Path(ray.temp_dir).glob("session_2*/logs/serve/controller_*.log"))
    return "".join(log.read_text(errors="replace") for log in logs)


def _updated(log: str) -> set[str]:
    """Deployments whose replicas the controller says that it has updated without a restart."""
    return set(re.findall(r"Updating \d+ replicas of .*?name='(\w+)'", log))


@pytest.mark.parametrize("name", STEPS)
def test_the_preview_says_what_is_known(steps: dict[str, Seen], name: str) -> None:
    _, of_d, of_e = STEPS[name]
    if of_d is not Reach.NEW:
        assert (steps[name].reach("D"), steps[name].reach("E")) == (of_d, of_e)
    else:
        assert {app.name: app.reach for app in steps[name].told.applications} == {"b": Reach.NEW, "a": Reach.DELETED}


@pytest.mark.parametrize("name", STEPS)
def test_the_replicas_do_what_the_preview_says(steps: dict[str, Seen], name: str) -> None:
    step = steps[name]
    for deployment, before in step.replicas_before.items():
        after = step.replicas_after[deployment]
        reach = step.reach(deployment) if STEPS[name][1] is not Reach.NEW else Reach.NEW
        if reach in REPLACED or reach is Reach.NEW:
            assert not before & after, deployment
        else:
            assert before <= after or after <= before, deployment
            assert (deployment in step.updated) == (reach in UPDATED), deployment


@pytest.mark.parametrize("name", STEPS)
def test_there_are_as_many_replicas_as_the_preview_says(steps: dict[str, Seen], name: str) -> None:
    step = steps[name]
    told = step.told.applications[0]
    assert {d.name: d.replicas.after for d in told.deployments} == {n: len(r) for n, r in step.replicas_after.items()}


def test_what_is_ignored_is_not_there(steps: dict[str, Seen]) -> None:
    def deployed(name: str) -> dict[str, Any]:
        config: dict[str, Any] = steps[name].details["applications"]["a"]["deployments"]["D"]["deployment_config"]
        return config

    assert deployed("another max_replicas_per_node")["max_replicas_per_node"] == 10
    assert deployed("max_replicas_per_node and something else")["max_replicas_per_node"] == 12
    assert steps["http_options"].details["http_options"].get("request_timeout_s") is None
    assert steps["proxy_location"].details["proxy_location"] == "EveryNode"
    ignored = {name: {cause.key for _, cause in steps[name].told.ignored} for name in STEPS}
    assert {name: keys for name, keys in ignored.items() if keys} == {
        "another max_replicas_per_node": {"max_replicas_per_node"},
        "an unknown key": {"max_replica_per_node"},
        "http_options": {"http_options.request_timeout_s"},
        "proxy_location": {"proxy_location"},
    }


def test_a_route_that_moves_is_gone_at_once(steps: dict[str, Seen]) -> None:
    assert steps["proxy_location"].answers == {"/": 200, "/other": 200}
    assert steps["the route"].answers == {"/": 404, "/other": 200}
    assert str(steps["the route"].told.requests) == "fail"
