"""Policies and routers in a real Ray Serve: replicas follow load, and requests stick to replicas."""

from __future__ import annotations

import functools
import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from serve_runtime.autoscaling import Each, QueueDepth, application_policy
from tests.ray import real_ray

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(400)]

MODULE = """
import asyncio, os
from ray import serve
from serve_runtime.autoscaling import Max, Predictive, QueueDepth, deployment_policy
from serve_runtime.routing import router_config

FAST = {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 0.5, "downscale_delay_s": 1, "look_back_period_s": 2,
        "metrics_interval_s": 0.5}
SMALL = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.1}

def me():
    return serve.get_replica_context().replica_id.unique_id

class Waits:
    async def __call__(self, request):
        await asyncio.sleep(float(request.query_params["seconds"]))
        return me()

policy = deployment_policy(Max(of=[QueueDepth(per_replica=2), Predictive(per_replica=2)]))
own = serve.deployment(Waits, name="Own", autoscaling_config={**FAST, "policy": policy}, **SMALL).bind()
shared = serve.deployment(Waits, name="Shared", autoscaling_config=FAST, **SMALL).bind()

@serve.deployment(num_replicas=3, request_router_config=router_config("sticky", header="X-User"), **SMALL)
class Sticky:
    async def __call__(self, request):
        if "die" in request.query_params:
            os._exit(1)
        return me()

sticky = Sticky.bind()

@serve.deployment(num_replicas=2, request_router_config=router_config("prefix"), **SMALL)
class Model:
    async def __call__(self, request):
        return me()

class Odd:
    @property
    def prompt(self):
        raise RuntimeError("no prompt")

@serve.deployment(**SMALL)
class Ingress:
    def __init__(self, model):
        self._model = model
    async def __call__(self, request):
        if "odd" in request.query_params:
            return await self._model.remote(Odd())
        return await self._model.remote({"prompt": (await request.body()).decode()})

prefix = Ingress.bind(Model.bind())

@serve.deployment(num_replicas=2, request_router_config=router_config("kv_cache", stats_period_s=0.5), **SMALL)
class Cached:
    def record_routing_stats(self):
        return {"kv_cache_usage": 0.9 if serve.get_replica_context().rank.rank == 0 else 0.1}
    async def __call__(self, request):
        return str(serve.get_replica_context().rank.rank)

kv = Cached.bind()
"""
APPLICATIONS = ("own", "shared", "sticky", "prefix", "kv", "typo", "sleeper", "sessions")


TYPO = {
    "name": "typo",
    "route_prefix": "/typo",
    "import_path": "serve_runtime.quickstart:autoscaling",
    "autoscaling_policy": {
        "policy_function": "serve_runtime.autoscaling.adapter:ApplicationPolicy",
        "policy_kwargs": {"policy": {"type": "each", "of": {"type": "queue_depth", "per_replca": 2}}},
    },
    "deployments": [
        {
            "name": "Sleeper",
            "ray_actor_options": {"num_cpus": 0},
            "request_router_config": {
                "request_router_class": "serve_runtime.routing.routers:StickyRouter",
                "request_router_kwargs": {"heder": "x"},
            },
        }
    ],
}


def until(probe: Callable[[], Any], head: real_ray.RealRay) -> Any:
    """What ``probe`` answers once that is true; what it raises until then is «not yet»."""
    while True:
        head.check()
        try:
            if found := probe():
                return found
        except (OSError, KeyError, http.client.HTTPException):
            pass
        time.sleep(0.1)


def serve_api(head: real_ray.RealRay, config: dict[str, Any] | None = None) -> Any:
    """Serve's details, or a new config."""
    url = f"{head.dashboard}/api/serve/applications/"
    body = None if config is None else json.dumps(config).encode()
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json"}, method="GET" if body is None else "PUT"
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"{}")


def ask(head: real_ray.RealRay, path: str, body: bytes | None = None, **headers: str) -> str:
    """The answer: the replica that gave it."""
    url = f"http://127.0.0.1:{head.serve_port}{path}"
    request = urllib.request.Request(url, body, {k.replace("_", "-"): v for k, v in headers.items()})
    with urllib.request.urlopen(request, timeout=60) as response:
        text: str = response.read().decode()
    return text


def examples() -> Iterator[dict[str, Any]]:
    """The applications of the example manifests as they are, each at a route of its own."""
    for name in ("autoscaling-policies", "sticky-routing"):
        manifest = yaml.safe_load((real_ray.ROOT / "examples" / f"{name}.yaml").read_text())
        for application in yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]:
            yield {**application, "route_prefix": f"/{application['name']}"}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_ray.RealRay]:
    """A head with the four applications, which run."""
    path = tmp_path_factory.mktemp("applications")
    (path / "applications.py").write_text(MODULE)
    fast = {f"RAY_SERVE_{who}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5" for who in ("HANDLE", "REPLICA")}
    with real_ray.running(pythonpath=(path,), env=fast) as ray:
        applications: list[dict[str, Any]] = [
            {"name": name, "route_prefix": f"/{name}", "import_path": f"applications:{name}"}
            for name in APPLICATIONS[:5]
        ]
        applications[1]["autoscaling_policy"] = application_policy(Each(of=QueueDepth(per_replica=2)))
        applications.append(TYPO)
        applications += examples()
        config = {"http_options": {"port": ray.serve_port}, "applications": applications}
        until(lambda: serve_api(ray, config) is not None, ray)

        def all_run() -> bool:
            found = serve_api(ray)["applications"]
            failed = {n: found[n].get("message") for n in found if found[n]["status"] == "DEPLOY_FAILED"}
            assert not failed, failed
            return all(found[name]["status"] == "RUNNING" for name in APPLICATIONS)

        until(all_run, ray)
        yield ray


@pytest.mark.parametrize(("application", "deployment"), [("own", "Own"), ("shared", "Shared")])
def test_a_policy_scales_up_with_load_and_down_without(
    head: real_ray.RealRay, application: str, deployment: str
) -> None:
    def targets() -> int:
        found: int = serve_api(head)["applications"][application]["deployments"][deployment]["target_num_replicas"]
        return found

    until(lambda: targets() == 1, head)
    with ThreadPoolExecutor(8) as clients:
        loading = True

        def client() -> None:
            while loading:
                ask(head, f"/{application}?seconds=0.5")

        running = [clients.submit(client) for _ in range(8)]
        try:
            until(lambda: targets() == 2, head)
        finally:
            loading = False
        for one in running:
            one.result()
    until(lambda: targets() == 1, head)


def test_a_key_sticks_to_its_replica_until_that_is_gone(head: real_ray.RealRay) -> None:
    users = [f"user-{number}" for number in range(12)]
    home = {user: ask(head, "/sticky", x_user=user) for user in users}
    assert len(set(home.values())) > 1
    for _ in range(3):
        assert {user: ask(head, "/sticky", X_USER=user) for user in users} == home
    assert len({ask(head, "/sticky") for _ in range(30)}) > 1  # without a key: the power of two choices

    victim = home[users[0]]
    with pytest.raises(OSError):
        ask(head, "/sticky?die=1", x_user=users[0])
    moved = until(lambda: ask(head, "/sticky", x_user=users[0]), head)
    assert moved != victim
    for user in users:
        now = until(functools.partial(ask, head, "/sticky", x_user=user), head)
        came = now not in home.values()  # its replacement may have come meanwhile
        assert (now != victim) if home[user] == victim else (now == home[user] or came)


def test_prompts_with_the_same_beginning_go_to_the_same_replica(head: real_ray.RealRay) -> None:
    beginnings = [f"system prompt {number} ".encode() * 60 for number in range(6)]
    home = [ask(head, "/prefix", beginning + b"first question") for beginning in beginnings]
    for question in range(4):
        assert [ask(head, "/prefix", b + f"question {question}".encode()) for b in beginnings] == home


def test_a_prompt_that_no_router_can_read_is_answered(head: real_ray.RealRay) -> None:
    assert ask(head, "/prefix?odd=1", b"")


def test_the_examples_work_from_their_manifests(head: real_ray.RealRay) -> None:
    home = {user: json.loads(ask(head, "/sessions", X_User=user))["pid"] for user in ("anna", "ben", "cem", "dora")}
    for _ in range(3):
        assert {user: json.loads(ask(head, "/sessions", X_User=user))["pid"] for user in home} == home
    with ThreadPoolExecutor(6) as clients:
        list(clients.map(lambda _: ask(head, "/sleeper?seconds=0.1"), range(6)))
    sleeper = serve_api(head)["applications"]["sleeper"]["deployments"]["Sleeper"]
    assert 1 <= sleeper["target_num_replicas"] <= 3


def test_the_replica_with_the_least_used_cache_answers(head: real_ray.RealRay) -> None:
    until(lambda: {ask(head, "/kv") for _ in range(10)} == {"1"}, head)  # once the stats have come


def test_wrong_settings_are_logged_and_requests_are_answered(head: real_ray.RealRay) -> None:
    assert json.loads(ask(head, "/typo?seconds=0"))["slept"] >= 0

    def logged(kind: str, *words: str) -> bool:
        logs = (head.temp_dir / "session_latest" / "logs" / "serve").glob(f"{kind}_*.log")
        return any(all(word in text for word in words) for text in (log.read_text() for log in logs))

    until(lambda: logged("controller", "has wrong settings", "per_replca"), head)
    until(lambda: logged("proxy", "routes by the power of two choices", "heder"), head)
