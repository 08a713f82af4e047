"""Where the seconds go between `ray start` and the first answered request, on this machine, without Kubernetes.

    .venv/bin/python bench/ray_start.py [--first put|get] [--runs N] [--arg=--no-monitor …] [--env NAME=VALUE …]

`--first put` sends the config as soon as the dashboard listens (what the operator does), `get` asks for the state
first. Each line is seconds after the process was started; the last lines are medians over the runs, and what
processor time each of Ray's processes had used by then: on few cores that, not waiting, is where the time goes,
and unlike the rest it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.ray import real_ray

APPLICATIONS = "/api/serve/applications/"
POLL_S = 0.02
DEADLINE_S = 120.0


async def measure(ray: real_ray.RealRay, first: str) -> dict[str, float]:
    """Milestone to seconds after the start."""
    marks: dict[str, float] = {}
    config = {
        "http_options": {"host": "0.0.0.0", "port": ray.serve_port},
        "applications": [{"name": "q", "import_path": "serve_runtime.quickstart:app"}],
    }

    def mark(name: str) -> None:
        marks.setdefault(name, time.monotonic() - ray.started_at)

    async def until(attempt: Callable[[], Awaitable[bool]]) -> None:
        """Repeats ``attempt`` until it is true; a refused or broken connection is false."""
        while time.monotonic() - ray.started_at < DEADLINE_S:
            try:
                if await attempt():
                    return
            except aiohttp.ClientError:
                ray.check()
            await asyncio.sleep(POLL_S)
        raise TimeoutError("Ray did not come up")

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:

        async def ok(url: str) -> bool:
            async with http.get(url) as response:
                return response.status == 200

        async def put() -> bool:
            async with http.put(ray.dashboard + APPLICATIONS, json=config) as response:
                return response.status == 200

        async def deployed() -> bool:
            async with http.get(ray.dashboard + APPLICATIONS) as response:
                if response.status != 200:
                    return False
                app = json.loads(await response.text())["applications"].get("q", {})
            if app.get("deployments"):
                mark("application built")
            return bool(app.get("status") == "RUNNING")

        async def milestone(name: str, attempt: Callable[[], Awaitable[bool]]) -> None:
            await until(attempt)
            mark(name)

        side = [
            asyncio.create_task(milestone("dashboard answers", lambda: ok(f"{ray.dashboard}/api/version"))),
            asyncio.create_task(
                milestone("agent healthy", lambda: ok(f"http://127.0.0.1:{ray.agent_port}/api/healthz"))
            ),
        ]
        if first == "get":
            await milestone("Serve API answers a GET", lambda: ok(ray.dashboard + APPLICATIONS))
        await milestone("PUT accepted", put)
        await milestone("application RUNNING", deployed)
        await milestone("proxy healthy", lambda: ok(f"http://127.0.0.1:{ray.serve_port}/-/healthz"))
        await milestone("request answered", lambda: ok(f"http://127.0.0.1:{ray.serve_port}/"))
        await asyncio.gather(*side)
    return marks


def cpu_seconds(ray: real_ray.RealRay) -> Counter[str]:
    """Processor seconds by kind of process, children that have ended included."""
    used: Counter[str] = Counter()
    for pid in ray.pids():
        try:
            fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        words = " ".join(part.decode(errors="replace") for part in command).split()
        script = next((word for word in words if word.endswith((".py", "/ray", "forkserver"))), words[0])
        ticks = sum(int(fields[index]) for index in (11, 12, 13, 14))  # utime, stime, cutime, cstime
        used[Path(script).name] += ticks / os.sysconf("SC_CLK_TCK")
    return used


def main() -> None:
    """Prints each run and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", choices=("put", "get"), default="put")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--arg", action="append", default=[], help="one more argument of `ray start`")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for Ray's processes")
    options = parser.parse_args()
    runs: list[dict[str, float]] = []
    for _ in range(options.runs):
        env = dict(entry.split("=", 1) for entry in options.env)
        with real_ray.running(args=tuple(options.arg), env=env) as ray:
            try:
                runs.append(asyncio.run(measure(ray, options.first)))
            except (real_ray.RayUnavailableError, TimeoutError) as error:
                sys.exit(str(error))
            cpu = cpu_seconds(ray)
            runs[-1]["processor seconds"] = sum(cpu.values())
        print("  ".join(f"{name} {seconds:.1f}" for name, seconds in runs[-1].items()), flush=True)
    for name in runs[-1]:
        print(f"{name:26} {statistics.median(run[name] for run in runs):6.1f} s")
    for name, seconds in cpu.most_common():
        print(f"    {name:28} {seconds:6.1f} s of processor")


if __name__ == "__main__":
    main()
