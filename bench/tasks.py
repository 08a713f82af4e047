"""The task queue on a real Ray with a real Redis: tasks submitted per second, and from zero consumers to a result.

    python -m bench.tasks [--tasks 5000]

Redis writes each change to its disk (``appendonly``), by default once a second, and with ``--fsync always`` before it
answers. Beside it stands a deployment that answers at once and writes nothing: as much as Ray Serve takes here. Prints
JSON; the parts of the way from zero come from the ledger's times and from Serve's states.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from e2e import redis_process
from tests.serve_runtime.live import Live, served, until

_CLIENTS = 8
_HAND: dict[str, Any] = {
    "name": "hand", "route_prefix": "/hand", "import_path": "bench.serve_app_models:minimal", "args": {"seconds": 0},
}  # fmt: skip


def application(redis: str, name: str, least: int) -> dict[str, Any]:
    """A queue whose handler does nothing."""
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.tasks:app",
        "args": {
            "broker_url": redis, "queue": name, "handlers": {"echo": {"use": "serve_runtime.tasks.samples:echo"}},
            "concurrency": 4, "autoscaling": {"min_replicas": least, "max_replicas": 1, "downscale_delay_s": 1.0},
        },
        "deployments": [{"name": each, "ray_actor_options": {"num_cpus": 0}} for each in ("Tasks", "Consumer")],
    }  # fmt: skip


def submitted(live: Live, path: str, bodies: list[Any]) -> float:
    """Seconds until all are accepted, by several clients with a connection each."""

    def client(part: list[Any]) -> None:
        with live.connection() as to:
            for body in part:
                to.request("POST", path, json.dumps(body), {"content-type": "application/json"})
                answer = to.getresponse()
                content = answer.read()
                assert answer.status in {200, 202}, content

    begun = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(client, [bodies[first::_CLIENTS] for first in range(_CLIENTS)]))
    return time.monotonic() - begun


def drained(live: Live, name: str) -> None:
    """Until nothing waits or runs."""

    def empty() -> bool:
        counts = live.ask("GET", f"/{name}/queue").json
        return bool(counts["queued"] + counts["running"] == 0)

    until(empty, live.ray)


def from_zero(live: Live) -> dict[str, float]:
    """Seconds of each part, from the submission to the result."""

    def consumers() -> list[str]:
        return [each["state"] for each in live.states()["zero"]["deployments"]["Consumer"]["replicas"]]

    until(lambda: not consumers(), live.ray)
    begun = time.time()
    task = live.ask("POST", "/zero/tasks/echo", 1).json["id"]
    accepted = time.time()
    until(consumers, live.ray)
    decided = time.time()
    until(lambda: "RUNNING" in consumers(), live.ray)
    until(lambda: live.ask("GET", f"/zero/tasks/{task}").json["state"] == "succeeded", live.ray)
    record = live.ask("GET", f"/zero/tasks/{task}").json
    parts = {
        "accepted": accepted - begun,
        "consumer wanted": decided - accepted,
        "replica started, task taken": record["started_at"] - decided,
        "run": record["changed_at"] - record["started_at"],
        "all": record["changed_at"] - begun,
    }
    return {name: round(seconds, 2) for name, seconds in parts.items()}


def measured(live: Live, tasks: int, name: str = "many") -> dict[str, Any]:
    """What the bench is about."""
    submitted(live, f"/{name}/batches/echo", [[1] * 100] * _CLIENTS)  # warm
    drained(live, name)
    batches = submitted(live, f"/{name}/batches/echo", [list(range(100))] * (tasks // 100))
    drained(live, name)
    singly = list(range(tasks // 10))
    rounds: list[tuple[float, float]] = []
    for _ in range(4):  # in turn, so that what else the machine does hits both
        rounds.append((submitted(live, f"/{name}/tasks/echo", singly), submitted(live, "/hand", singly)))
        drained(live, name)
    single, hand = (statistics.median(times) for times in zip(*rounds, strict=True))
    return {
        "submitted per second, batches of 100": round(tasks / batches),
        "submitted per second, one by one": round(len(singly) / single),
        "requests per second, a deployment that does nothing": round(len(singly) / hand),
        "seconds from zero consumers to a result": from_zero(live),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--fsync", choices=["everysec", "always"], default="everysec")
    options = parser.parse_args()
    settings = f'appendonly yes\nappendfsync {options.fsync}\nsave ""'
    with redis_process.running(settings=settings) as redis:
        applications = [application(redis.url, "many", 1), application(redis.url, "zero", 0), _HAND]
        with served(applications) as live:
            print(json.dumps({"fsync": options.fsync, **measured(live, options.tasks)}, indent=2))


if __name__ == "__main__":
    main()
