"""Processor time of one request in a replica, of the predictor application and of a deployment written by hand.

Run by bench/serve_apps.py with the interpreter that has Ray; no cluster, no sockets: both get the same request as Ray
Serve hands it over. What is measured is the application's own part of a request, so load by others hardly matters.
Prints ``{"app": microseconds, "hand": microseconds}``, each the least of several rounds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from starlette.requests import Request

from bench.serve_app_models import Minimal
from serve_runtime.predictor.args import PredictorArgs
from serve_runtime.predictor.deployment import Predictor

ROUNDS, REQUESTS = 9, 400
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"1"), (b"x-request-id", b"a"), (b"host", b"b")]


def scope() -> dict[str, Any]:
    """``POST /predict``."""
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "root_path": "", "query_string": b"", "headers": HEADERS,
        "client": ("a", 1), "server": ("b", 2),
    }  # fmt: skip


async def receive() -> dict[str, Any]:
    """The body, which is all that either of them asks for."""
    return {"type": "http.request", "body": b"1", "more_body": False}


async def send(_message: Any) -> None:
    """Nobody listens."""


async def measure() -> dict[str, float]:
    """Microseconds."""
    predictor = object.__new__(Predictor)
    arguments = {"predictor": "bench.serve_app_models:Takes", "init": {"seconds": 0.0}}
    await Predictor.__init__(predictor, PredictorArgs.model_validate(arguments))
    application = predictor.__serve_build_asgi_app__()
    minimal = Minimal(0.0)

    async def app() -> None:
        await application(scope(), receive, send)

    async def hand() -> None:
        asked = scope()
        response = await minimal(Request(asked, receive, send))
        await response(asked, receive, send)

    both: dict[str, Callable[[], Awaitable[None]]] = {"app": app, "hand": hand}
    least = dict.fromkeys(both, float("inf"))
    for _ in range(ROUNDS):
        for name, one in both.items():
            begun = time.process_time()
            for _ in range(REQUESTS):
                await one()
            least[name] = min(least[name], 1e6 * (time.process_time() - begun) / REQUESTS)
    return least


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
