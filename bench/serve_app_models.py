"""What bench/serve_apps.py serves: a vectorised predictor, and deployments as one would write them by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse

from ray import serve

WIDTH = 2048
LAYERS = 4


class Layers:
    """Four dense layers of 16 MiB each: for one item the time goes into reading them, for many hardly more."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self._layers = [random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / WIDTH**0.5 for _ in range(LAYERS)]

    def predict(self, item: int) -> float:
        """One item."""
        return self.predict_batch([item])[0]

    def predict_batch(self, items: list[int]) -> list[float]:
        """All at once."""
        state = np.ones((WIDTH, len(items)), np.float32) * np.asarray(items, np.float32)
        for layer in self._layers:
            state = np.tanh(layer @ state)
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
