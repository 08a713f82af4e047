"""The observers and a real head: the first PUT goes out before the API was ever asked, a hot update keeps replicas."""

from __future__ import annotations

import functools
import json

import aiohttp
import pytest

from rayservice_operator.core.decision import ObserveTarget, ServePush
from rayservice_operator.serveconfig.canonical import ServeConfig, canonical_json, config_hash, parse
from rayservice_operator.serveconfig.drift import drifted_apps, missing_apps
from tests.ray import real_ray
from tests.ray.conftest import KEY, Watcher, cluster

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

CONFIG = """
http_options: {{host: 0.0.0.0, port: {port}}}
applications:
  - name: greeter
    route_prefix: /
    import_path: serve_runtime.quickstart:app
    a_typo: ignored by Ray
    deployments:
      - name: Greeter
        graceful_shutdown_timeout_s: 5
        user_config: {{greeting: {greeting}}}
"""


def target(ray: real_ray.RealRay, greeting: str) -> ObserveTarget:
    """A target that pushes the greeter."""
    config = parse(CONFIG.format(port=ray.serve_port, greeting=greeting))
    assert config is not None
    return ObserveTarget(
        cluster=cluster(),
        head_ip="127.0.0.1",
        head_uid="head-1",
        dashboard_port=ray.dashboard_port,
        serve_port=ray.serve_port,
        push=ServePush(config_hash(config), canonical_json(config)),
    )


def deployed(watcher: Watcher, ray: real_ray.RealRay, push: ServePush, config: ServeConfig) -> bool:
    """Whether the observation shows that push accepted and its application serving."""
    ray.check()
    seen = watcher.see()
    greeter = seen.applications.get("greeter")
    return bool(
        seen.push
        and (seen.push.state, seen.push.config_hash) == ("accepted", push.config_hash)
        and greeter
        and greeter.status == "RUNNING"
        and seen.proxies
        and all(seen.proxies.values())
        and not drifted_apps(config, seen)
    )


async def test_from_nothing_to_an_answer_and_a_hot_update(watcher: Watcher) -> None:
    with real_ray.running() as ray:
        for greeting in ("hello", "hi"):
            wanted = target(ray, greeting)
            config = parse(CONFIG.format(port=ray.serve_port, greeting=greeting))
            assert wanted.push is not None
            assert config is not None
            watcher.pool.sync(KEY, (wanted,))
            await watcher.until(functools.partial(deployed, watcher, ray, wanted.push, config))
            assert missing_apps(config, watcher.see()) == ()
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{ray.serve_port}/") as response:
                answer = json.loads(await response.text())
            assert answer["greeting"] == greeting
            if greeting == "hello":
                pid = answer["pid"]
                assert watcher.see().push.message == ""  # type: ignore[union-attr]
            assert answer["pid"] == pid
            assert watcher.see().session.startswith("session_")
            assert sum((watcher.pool.load(cluster()) or {}).values()) == 1
