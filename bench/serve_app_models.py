"""What bench/serve_apps.py serves: a vectorised predictor, and deployments as one would write them by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse

from ray import serve

WIDTH = 4096
LAYERS = 24


class Layers:
    """Dense layers of 64 MiB: for one item the time goes into reading them, so many items cost little more.

    All have the same weights, so that a laptop has room for two replicas.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self._layer = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)

    def predict(self, item: int) -> float:
        """One item."""
        return self.predict_batch([item])[0]

    def predict_batch(self, items: list[int]) -> list[float]:
        """All at once."""
        state = np.ones((WIDTH, len(items)), np.float32) * np.asarray(items, np.float32)
        for _ in range(LAYERS):
            state = np.tanh(self._layer @ state)
        return [float(value) for value in state.mean(axis=0)]


class Takes:
    """Holds a thread for so long, as a call that waits for an accelerator does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def predict(self, item: Any) -> Any:
        """The item."""
        if self._seconds:
            time.sleep(self._seconds)
        return item


class Minimal:
    """The least that serves :class:`Takes` without holding up the replica."""

    def __init__(self, seconds: float) -> None:
        self._takes = Takes(seconds)

    async def __call__(self, request: Request) -> JSONResponse:
        """JSON in, JSON out."""
        return JSONResponse(await asyncio.to_thread(self._takes.predict, await request.json()))


def minimal(args: dict[str, float]) -> Any:
    """Application builder."""
    deployment = serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})(Minimal)
    return deployment.bind(args["seconds"])
