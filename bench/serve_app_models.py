"""What bench/serve_apps.py serves: a predictor, and a deployment as one would write it by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from ray import serve


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
