"""Small applications for the quickstart, the end-to-end tests and the benchmarks; they need only ``ray[serve]``.

``app`` greets. ``autoscaling`` holds a request as long as it is told, for load. ``broken`` fails to construct.
``patient`` falls ill when it is told to. All use few CPUs so that several replicas fit on a laptop.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import tempfile
import time
from typing import Any

from starlette.requests import Request

from ray import serve

_MAX_SLEEP_S = 120.0


def _bound(deployment: Any, **arguments: str) -> serve.Application:
    """Its application. Type checkers take a decorated class for the class, which has no ``bind``."""
    return deployment.bind(**arguments)


def _seconds(request: Request, default: float) -> float:
    """``?seconds=`` of the request, between 0 and two minutes; ``default`` when absent or no number."""
    try:
        asked = float(request.query_params.get("seconds", default))
    except ValueError:
        asked = default
    return min(max(asked, 0.0), _MAX_SLEEP_S)


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.1)
class Greeter:
    """Answers ``{"greeting", "pod", "pid", "version"}``; ``/slow?seconds=2`` answers after two seconds.

    The greeting comes from ``user_config`` and changes without a restart: ``pid`` stays the same.
    """

    def __init__(self, version: str = "1") -> None:
        """Raises ValueError for an empty version."""
        if not version:
            raise ValueError("version must not be empty")
        self._greeting = "Hello"
        self._version = version

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Called by Ray Serve at start and whenever ``user_config`` changes."""
        self._greeting = str(config.get("greeting", "Hello"))

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One greeting."""
        if request.url.path.endswith("/slow"):
            await asyncio.sleep(_seconds(request, 1.0))
        return {
            "greeting": self._greeting,
            "pod": os.environ.get("RAY_CLOUD_INSTANCE_ID") or socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
        }


def build(args: dict[str, str]) -> serve.Application:
    """Application builder: ``args: {version: "2"}`` in the serve config reaches the constructor."""
    return _bound(Greeter, version=args.get("version", "1"))


app = _bound(Greeter)


@serve.deployment(
    ray_actor_options={"num_cpus": 0.5},
    max_ongoing_requests=4,
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 2,
        "downscale_delay_s": 10,
        "look_back_period_s": 4,
    },
)
class Sleeper:
    """Holds each request for ``?seconds=`` (default 1), so that a few clients make it scale."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers ``{"slept", "pid"}``."""
        started = time.monotonic()
        await asyncio.sleep(_seconds(request, 1.0))
        return {"slept": time.monotonic() - started, "pid": os.getpid()}


autoscaling = _bound(Sleeper)


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Broken:
    """Raises when constructed: an application that can never become ready."""

    def __init__(self) -> None:
        raise RuntimeError("this application fails on purpose: its constructor raises")

    async def __call__(self, _request: Request) -> str:
        """Never reached."""
        return "unreachable"


broken = _bound(Broken)


_ILLNESS = pathlib.Path(tempfile.gettempdir()) / "serve_runtime-patient-is-ill"


@serve.deployment(
    ray_actor_options={"num_cpus": 0.1},
    health_check_period_s=1,
    health_check_timeout_s=5,
    graceful_shutdown_wait_loop_s=0.1,
)
class Patient:
    """Fails its health checks once ``/fall-ill`` was asked for, or while ``user_config`` says ``{ill: true}``.

    The former is a file in the pod, so that the replicas which follow are ill too, and those of another pod are well.
    """

    def __init__(self) -> None:
        self._ill = False

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Called by Ray Serve at start and whenever ``user_config`` changes."""
        self._ill = bool(config.get("ill"))

    def check_health(self) -> None:
        """Called by Ray Serve each second; raises RuntimeError while it is ill."""
        if self._ill or _ILLNESS.exists():
            raise RuntimeError("this application is ill on purpose")

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers ``{"pod", "pid"}``."""
        if request.url.path.endswith("/fall-ill"):
            _ILLNESS.touch()
        return {"pod": os.environ.get("RAY_CLOUD_INSTANCE_ID") or socket.gethostname(), "pid": os.getpid()}


patient = _bound(Patient)
