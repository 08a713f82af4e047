"""What the applications of serve_runtime cost and gain, on this machine, on one real Ray, without Kubernetes.

    .venv/bin/python bench/serve_apps.py [--seconds 10] [--requests 400]

batching: answers per second of a predictor whose call takes 100 ms for one item as for many (a vectorised one's on an
accelerator, played by a sleep), with batches of up to 32 and without, from 64 clients that each ask again as soon as
they have an answer.
overhead: p50 of the predictor application against a deployment written by hand, for a model that takes 20 ms and for
one that takes nothing; one client, the two asked in turn, so that what else the machine does meets both. In blocks: the
median of their ratios, and the least and the greatest.
processor: what a request costs in the replica, in the application's own part (bench/serve_app_cpu.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.ray import real_ray
from tests.serve_runtime.live import Live

MODELS = "bench.serve_app_models"
CLIENTS = 64
BLOCKS = 8
TAKES_S = {"20 ms": 0.02, "0 ms": 0.0}


def predictor(name: str, **args: Any) -> dict[str, Any]:
    """One application."""
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.predictor:app",
        "args": args,
        "deployments": [{"name": "Predictor", "ray_actor_options": {"num_cpus": 0}}],
    }


def applications() -> list[dict[str, Any]]:
    """All that is measured."""
    one_call = {"predictor": "serve_runtime.predictor.samples:Scorer", "init": {"cost_s": 0.1}, "timeout_s": None}
    found = [
        predictor("alone", **one_call),
        predictor("batched", **one_call, batching={"max_batch_size": 32, "wait_s": 0.005}),
    ]
    for index, seconds in enumerate(TAKES_S.values()):
        found.append(predictor(f"app{index}", predictor=f"{MODELS}:Takes", init={"seconds": seconds}))
        hand = {"name": f"hand{index}", "route_prefix": f"/hand{index}", "import_path": f"{MODELS}:minimal"}
        found.append({**hand, "args": {"seconds": seconds}})
    return found


async def ask(session: aiohttp.ClientSession, url: str) -> float:
    """Seconds until the whole answer."""
    begun = time.perf_counter()
    async with session.post(url, json="1") as got:
        await got.read()
        got.raise_for_status()
    return time.perf_counter() - begun


async def per_second(session: aiohttp.ClientSession, url: str, seconds: float) -> float:
    """Answers per second."""
    await asyncio.gather(*(ask(session, url) for _ in range(CLIENTS)))  # connections are made, batches are warm
    answers = 0
    begun = time.perf_counter()

    async def client() -> None:
        nonlocal answers
        while time.perf_counter() < begun + seconds:
            await ask(session, url)
            answers += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answers / (time.perf_counter() - begun)


async def in_turn(session: aiohttp.ClientSession, urls: tuple[str, str], requests: int) -> list[float]:
    """p50 in seconds for each of two."""
    found: tuple[list[float], list[float]] = ([], [])
    both = list(zip(urls, found, strict=True))
    for number in range(requests + 20):
        both.reverse()  # neither is always the one that comes after the other
        for url, times in both:
            took = await ask(session, url)
            if number >= 20:
                times.append(took)
    return [statistics.median(times) for times in found]


async def measure(base: str, seconds: float, requests: int) -> None:
    """Prints the ratios."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        alone = await per_second(session, f"{base}/alone/predict", seconds)
        batched = await per_second(session, f"{base}/batched/predict", seconds)
        print(
            f"batching: {alone:.0f}/s alone, {batched:.0f}/s batched, {batched / alone:.1f} times as many", flush=True
        )
        for index, name in enumerate(TAKES_S):
            urls = (f"{base}/app{index}/predict", f"{base}/hand{index}")
            blocks = [await in_turn(session, urls, requests // BLOCKS) for _ in range(BLOCKS)]
            app, hand = (1000 * statistics.median(block[which] for block in blocks) for which in (0, 1))
            more = sorted(100 * (block[0] / block[1] - 1) for block in blocks)
            print(
                f"overhead, a model of {name}: p50 {app:.2f} ms, by hand {hand:.2f} ms, "
                f"{statistics.median(more):+.1f} % ({more[0]:+.1f} to {more[-1]:+.1f} in {BLOCKS} blocks)",
                flush=True,
            )


def processor() -> None:
    """Prints what a request costs."""
    script = Path(__file__).with_name("serve_app_cpu.py")
    done = subprocess.run([str(real_ray.ray_python()), str(script)], check=True, capture_output=True, text=True)
    least = json.loads(done.stdout)
    print(f"processor, a model of 0 ms: {least['app']:.0f} microseconds, by hand {least['hand']:.0f}", flush=True)


def main() -> None:
    """One Ray, all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each figure of batching")
    parser.add_argument("--requests", type=int, default=1600, help="to each of the two, for a figure of overhead")
    options = parser.parse_args()
    processor()
    with real_ray.running() as ray:
        live = Live(ray, {})
        live.put(applications())
        live.await_running()
        asyncio.run(measure(f"http://127.0.0.1:{ray.serve_port}", options.seconds, options.requests))


if __name__ == "__main__":
    main()
