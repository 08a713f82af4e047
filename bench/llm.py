"""What prefix routing gains with real vLLM, and where the time goes from no replica to the first answer. On this
machine's CPUs, with a model made on the spot, on a Ray of its own; nothing is downloaded.

    PYTHONPATH=. python bench/llm.py routing [--requests 96] [--routers default prefix]
    PYTHONPATH=. python bench/llm.py zero

with a Python that has the extra `llm` (or its build for CPUs), and 1.5 GB of memory for each replica.

routing: a model for each router, with three replicas; each replica has a KV cache for five of the twelve long
beginnings that all prompts share, as a fleet has whose caches together are large enough. Streams, two at a time; the
time to the first token is what the client sees. The routers get the same prompts and are asked in turn, so that what
else the machine does meets all of them.
zero: a model with min_replicas 0; the first request finds no replica.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "VLLM_NO_USAGE_STATS": "1"}
os.environ |= {"RAY_worker_niceness": "0"}  # else Ray's workers stand behind all else that the machine does

import ray
from ray import serve
from serve_runtime.llm import OpenAiArgs, openai

MODEL = "tiny"
HIDDEN, LAYERS = 512, 8  # large enough that reading a prompt takes longer than all that is around it, as with real ones
SHAPE = ["--hidden", str(HIDDEN), "--layers", str(LAYERS), "--context", "2048"]
REPLICAS, BEGINNINGS, FIT, CLIENTS, TURN = 3, 12, 5, 2, 12
TOKENS = 1500  # of a beginning
TOKEN_BYTES = LAYERS * (HIDDEN // 64) * 32 * 2 * 2  # layers, KV heads, width of a head, key and value, bfloat16
WORDS = ("model", "question", "answer", "words", "piece", "machine", "token", "cache", "read", "serve", "wait", "long")


def arguments(folder: Path, models: dict[str, dict[str, Any]]) -> OpenAiArgs:
    """The application. models: by id, what is special of each."""
    common = {
        "source": str(folder / "model"),
        "accelerator": {"kind": "cpu"},
        "engine": {
            "dtype": "bfloat16",
            "enforce_eager": True,
            "max_model_len": 2048,
            "max_num_seqs": 8,
            "gpu_memory_utilization": 0.05,
            "kv_cache_memory_bytes": FIT * TOKENS * TOKEN_BYTES * 11 // 10,
            "block_size": 32,
        },
        "stream_interval_ms": 0,
        "drain_timeout_s": 5,
    }
    ingress = {"replicas": 1, "num_cpus": 0, "drain_timeout_s": 5}
    made = [{"id": name, **common, **more} for name, more in models.items()]
    return OpenAiArgs.model_validate({"models": made, "ingress": ingress})


def first_token(port: int, model: str, prompt: str) -> float:
    """Seconds until a stream's first part; the stream is read to its end."""
    body = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0, "stream": True}
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.read()!r}")
        answer.readline()
        took = time.perf_counter() - begun
        answer.read()
        return took
    finally:
        connection.close()


def prompts(count: int, rng: random.Random) -> list[str]:
    """Some words of one of the beginnings, then some of their own."""
    beginnings = [" ".join(rng.choices(WORDS, k=TOKENS * 10 // 21)) for _ in range(BEGINNINGS)]
    return [f"{rng.choice(beginnings)} {' '.join(rng.choices(WORDS, k=8))}" for _ in range(count)]


def loads(model: str, replicas: int) -> list[dict[str, float]]:
    """What each replica says of itself."""
    handle = serve.get_deployment_handle(f"LLM:{model}", "llm")
    found: dict[float, dict[str, float]] = {}
    while len(found) < replicas:
        load = handle.load.remote().result()
        found[load["began_at"]] = load
    return list(found.values())


def tokens(model: str) -> tuple[float, float]:
    """Of prompts so far, and how many of them were cached."""
    now = loads(model, REPLICAS)
    return sum(load["prompt_tokens"] for load in now), sum(load["cached_tokens"] for load in now)


def routing(folder: Path, port: int, asked: argparse.Namespace) -> None:
    """Prints a line for each router, and the ratio of the first two."""
    models = {router: {"replicas": REPLICAS, "routing": router} for router in asked.routers}
    serve.run(openai(arguments(folder, models)), name="llm")
    before = {router: tokens(router) for router in asked.routers}
    times: dict[str, list[float]] = {router: [] for router in asked.routers}
    made = prompts(asked.requests, random.Random(asked.seed))
    with ThreadPoolExecutor(CLIENTS) as pool:
        for start in range(0, len(made), TURN):
            for router in asked.routers:
                turn = made[start : start + TURN]
                times[router] += pool.map(first_token, [port] * len(turn), [router] * len(turn), turn)
    for router, took in times.items():
        told, hit = (after - first for after, first in zip(tokens(router), before[router], strict=True))
        p50, p90 = statistics.median(took), statistics.quantiles(took, n=10)[-1]
        print(f"{router:10} cached {hit / told:5.0%}   TTFT p50 {p50:6.3f} s   p90 {p90:6.3f} s   {len(took)} requests")
    if len(asked.routers) > 1:
        first, second = (statistics.median(times[router]) for router in asked.routers[:2])
        print(f"p50 of {asked.routers[0]} / {asked.routers[1]}: {first / second:.2f}")


def zero(folder: Path, port: int, asked: argparse.Namespace) -> None:  # noqa: ARG001
    """Prints the parts of the time from the first request to its first token."""
    scaling = {"min_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0}
    serve.run(openai(arguments(folder, {MODEL: {"autoscaling": scaling}})), name="llm")
    with ThreadPoolExecutor(1) as pool:
        asked_at = time.time()
        answered = pool.submit(first_token, port, MODEL, "a question")
        while not serve.status().applications["llm"].deployments[f"LLM:{MODEL}"].replica_states:
            time.sleep(0.05)
        decided = time.time() - asked_at
        total = answered.result()
    (load,) = loads(MODEL, 1)
    began = load["began_at"] - asked_at
    parts = {
        "until Ray Serve wants a replica": decided,
        "process, imports of Ray and vLLM": began - decided,
        "engine: weights, KV cache": load["engine_s"],
        "warm-up": load["warm_up_s"],
    }
    parts["until the request is there and answered"] = total - sum(parts.values())
    for what, seconds in parts.items():
        print(f"{what:42} {seconds:6.1f} s")
    print(f"{'first token':42} {total:6.1f} s")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["routing", "zero"])
    parser.add_argument("--requests", type=int, default=144)
    parser.add_argument("--routers", nargs="+", default=["default", "prefix"])
    parser.add_argument("--port", type=int, default=18123)
    parser.add_argument("--seed", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm") as scratch:
        folder = Path(scratch)
        subprocess.run([sys.executable, "-m", "serve_runtime.llm.samples", scratch, *SHAPE], check=True)
        ray.init(
            num_cpus=2 + REPLICAS * len(asked.routers),
            include_dashboard=False,
            object_store_memory=100 << 20,
            _temp_dir=f"{scratch}/ray",
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": asked.port})
            {"routing": routing, "zero": zero}[asked.what](folder, asked.port, asked)
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    main()
