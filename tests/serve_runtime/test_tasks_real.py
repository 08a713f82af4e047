"""``serve_runtime.tasks:app`` on a real Ray with a real Redis, through HTTP."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e import redis_process
from e2e.localkube.errors import LocalKubeError
from e2e.redis_process import RedisProcess
from tests.serve_runtime.live import Live, served, until

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(240)]

HERE = "tests.serve_runtime.sample_tasks"
DURABLE = 'appendonly yes\nappendfsync always\nsave ""'
LEASE_S = 6.0


def application(name: str, redis: str, handlers: dict[str, Any], **args: Any) -> dict[str, Any]:
    """One of the config."""
    quick = {"min_replicas": 1, "max_replicas": 1, "downscale_delay_s": 0.5, "poll_s": 0.3}
    own: list[dict[str, Any]] = [{"name": each, "ray_actor_options": {"num_cpus": 0}} for each in ("Tasks", "Consumer")]
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.tasks:app",
        "args": {
            "broker_url": redis, "queue": name, "lease_s": LEASE_S, "handlers": handlers, "drain_s": 2,
            **args, "autoscaling": {**quick, **args.get("autoscaling", {})},
        },
        "deployments": own,
    }  # fmt: skip


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """A Redis that loses nothing when it is killed."""
    try:
        with redis_process.running(settings=DURABLE) as server:
            yield server
    except LocalKubeError as error:
        pytest.skip(f"no redis-server here: {error}")


@pytest.fixture(scope="module")
def live(redis: RedisProcess, marks: Path) -> Iterator[Live]:
    """All applications, running."""
    recorder = {"use": f"{HERE}:Recorder", "init": {"path": str(marks / "runs")}}
    plain = {
        "record": recorder,
        "flaky": {"use": f"{HERE}:Flaky", "init": {"path": str(marks / "flaky")}},
        "size": {"use": f"{HERE}:size"},
        "unwritable": {"use": f"{HERE}:unwritable"},
        "value_error": {"use": f"{HERE}:value_error"},
    }
    applications = [
        application(
            "plain", redis.url, plain, retries={"max": 1, "first_s": 0.1}, concurrency=4, max_batch=3,
            caller_errors=["builtins.ValueError"],
        ),
        application("chaos", redis.url, {"record": recorder, "kill": {"use": f"{HERE}:Murderer"}}, concurrency=8,
                    max_losses=2, autoscaling={"min_replicas": 0, "max_replicas": 2, "per_replica": 16.0}),
    ]  # fmt: skip
    with served(applications) as found:
        yield found


def submitted(live: Live, path: str, body: Any, **headers: str) -> str:
    """The id of a new task."""
    answer = live.ask("POST", path, body, **headers)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def ended(live: Live, application: str, task: str) -> dict[str, Any]:
    """A task's record once it has ended."""
    until(lambda: live.ask("GET", f"/{application}/tasks/{task}").json["state"] not in {"queued", "running", "retrying"},
          live.ray)  # fmt: skip
    return dict(live.ask("GET", f"/{application}/tasks/{task}").json)


def test_a_task_from_submission_to_result(live: Live) -> None:
    task = submitted(live, "/plain/tasks/record", {"number": 21})
    got = live.ask("GET", f"/plain/tasks/{task}/result?wait_s=60")
    assert (got.status, got.json) == (200, {"double": 42})
    record = live.ask("GET", f"/plain/tasks/{task}").json
    assert (record["state"], record["attempts"], record["losses"]) == ("succeeded", 1, 0)
    assert live.ask("POST", f"/plain/tasks/{task}/cancel").status == 409


def test_bytes_in_and_out(live: Live) -> None:
    task = submitted(live, "/plain/tasks/size", b"\0" * 7, content_type="application/octet-stream")
    got = live.ask("GET", f"/plain/tasks/{task}/result?wait_s=60")
    assert (got.body, got.headers["content-type"]) == (b"7", "application/octet-stream")
