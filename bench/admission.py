"""How long the admission webhook takes to answer, through its real HTTPS server in a process of its own.

    .venv/bin/python bench/admission.py [--calls N]

For 1, 10, 100 and 1,000 deployments: a create and an update that changes one value, each to a config that was never
seen before, as the API server sends them: one kept-alive connection, one call at a time. What an update comes from was
seen before, as the replica that leads has; then once more where it was not, as for a standby. Prints p50, p99 and the
largest in milliseconds, the server's processor time for each call (which grows less when the machine has other work),
and each p50 as a ratio to that of 1 deployment; then the same with eight calls at once.
The goal of 50 ms is for 100 deployments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from rayservice_operator.admission import pki
from rayservice_operator.admission.reviewer import Scope, reviewer
from rayservice_operator.admission.server import PATH, Webhook
from rayservice_operator.admission.settings import AdmissionSettings
from rayservice_operator.admission.sources import Files
from rayservice_operator.cli.main import settle_memory

SIZES = (1, 10, 100, 1000)
GOAL_MS, GOAL_SIZE = 50.0, 100
GOAL_WORDS = ("create", "update")
HOST = "127.0.0.1"

FORMER: dict[str, Callable[[int], int | None]] = {
    "create": lambda _: None,
    "update": lambda version: version - 1,
    "update, unseen": lambda version: -version,
}
"""What is measured, and from which version to which."""


def serve(folder: str, tell: Connection) -> None:
    """The server, until its process is ended."""

    async def run() -> None:
        webhook = Webhook(AdmissionSettings(host=HOST, port=0), Files(Path(folder)), reviewer(Scope()))
        await webhook.refresh()
        settle_memory()
        tell.send(webhook.port)
        await asyncio.Event().wait()

    asyncio.run(run())


def processor_ms(pid: int) -> float:
    """Processor time that a process has used, all its threads together; 0 where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return 1000 * (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def deployment(number: int, version: int) -> dict[str, Any]:
    """One deployment with what people usually set."""
    return {
        "name": f"Model{number}",
        "max_ongoing_requests": 32,
        "user_config": {"temperature": 0.5, "version": version, "stop": ["\n", "###"]},
        "ray_actor_options": {"num_cpus": 1, "num_gpus": 0, "runtime_env": {"env_vars": {"A": "1"}}},
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 2},
    }


def manifest(size: int, version: int) -> dict[str, Any]:
    """A RayService with ``size`` deployments, ten an application; another for each ``version``."""
    numbers = range(size)
    applications = [
        {
            "name": f"app{start}",
            "import_path": "package.module:app",
            "route_prefix": f"/app{start}",
            "deployments": [deployment(number, version) for number in numbers[start : start + 10]],
        }
        for start in range(0, size, 10)
    ]
    limits = {"cpu": "8", "memory": "16Gi"}
    template = {"spec": {"containers": [{"name": "ray", "image": "ray:1", "resources": {"limits": limits}}]}}
    group = {"groupName": "g", "replicas": 1, "minReplicas": 1, "maxReplicas": 500, "rayStartParams": {}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {
            "serveConfigV2": yaml.safe_dump({"applications": applications}, sort_keys=False),
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "headGroupSpec": {"rayStartParams": {}, "template": template},
                "workerGroupSpecs": [{**group, "template": template}],
            },
        },
    }


def review(size: int, version: int, old: int | None = None) -> bytes:
    """The body of one call; ``old``: the version that is updated."""
    request = {
        "uid": str(version),
        "kind": {"group": "ray.io", "version": "v1", "kind": "RayService"},
        "namespace": "default",
        "operation": "CREATE" if old is None else "UPDATE",
        "userInfo": {"username": "jane"},
        "object": manifest(size, version),
        "oldObject": None if old is None else manifest(size, old),
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


async def ask(session: aiohttp.ClientSession, port: int, body: bytes) -> float:
    """Milliseconds until the answer is there."""
    began = time.perf_counter()
    async with session.post(f"https://{HOST}:{port}{PATH}?timeout=30s", data=body) as response:
        answer = await response.json()
    took = 1000 * (time.perf_counter() - began)
    if not answer["response"]["allowed"] or "not checked" in str(answer):
        raise SystemExit(f"an unexpected answer: {answer}")
    return took


@contextlib.asynccontextmanager
async def connected(authority: bytes) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that trusts ``authority``."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority.decode()), keepalive_timeout=90)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def measure(port: int, pid: int, authority: bytes, calls: int) -> bool:
    """Print the tables; whether the goal was met."""
    met, version = True, 0
    async with connected(authority) as session:
        await ask(session, port, review(1, 10**6))  # the handshake, and what is imported late
        for word, former in FORMER.items():
            base = 0.0
            print(f"\n{word:<14} deployments  calls    p50    p99    max    CPU  p50 to that of 1")
            for size in SIZES:
                await ask(session, port, review(size, version))
                times, used = [], processor_ms(pid)
                for _ in range(calls if size < 1000 else max(5, calls // 10)):
                    version += 1
                    times.append(await ask(session, port, review(size, version, former(version))))
                middle, worst = statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[98]
                base, used = base or middle, (processor_ms(pid) - used) / len(times)
                numbers = "".join(f"{number:>7.1f}" for number in (middle, worst, max(times), used))
                print(f"{size:>26}{len(times):>7}{numbers}  {middle / base:>6.1f}")
                if size == GOAL_SIZE and word in GOAL_WORDS:
                    met &= worst <= GOAL_MS
        bodies = [review(GOAL_SIZE, version + n, version + n - 1) for n in range(1, calls + 1)]
        limit = asyncio.Semaphore(8)

        async def one(body: bytes) -> float:
            async with limit:
                return await ask(session, port, body)

        times = await asyncio.gather(*map(one, bodies))
        middle, worst = statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[98]
        print(f"\n8 updates at once, {GOAL_SIZE} deployments: p50 {middle:.1f} ms, p99 {worst:.1f} ms")
    return met


def main() -> int:
    """0 when the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100, help="per line of the table")
    calls = parser.parse_args().calls
    now, day = datetime.datetime.now(tz=datetime.UTC), datetime.timedelta(days=1)
    authority = pki.new_authority(now, day)
    served = pki.issue(authority, (HOST,), now, day)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tls.crt").write_bytes(served.cert)
        Path(folder, "tls.key").write_bytes(served.key)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(folder, there), daemon=True)
        process.start()
        try:
            if not here.poll(60):
                raise SystemExit("the server did not start")
            met = asyncio.run(measure(here.recv(), process.pid or 0, authority.cert, calls))
        finally:
            process.terminate()
            process.join()
    print(f"p99 of {GOAL_SIZE} deployments {'within' if met else 'NOT within'} {GOAL_MS:.0f} ms")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
