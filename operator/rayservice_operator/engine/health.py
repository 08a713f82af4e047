"""What the process tells about itself: /healthz, /readyz, /metrics.

Liveness asks for progress, not for an open port: a loop that turns, watches that at least try, keys that come out of
the queue. An API server that is away makes nothing unhealthy: a restart would not bring it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from rayservice_operator.engine.queue import WorkQueue
from rayservice_operator.kube.reflector import Reflector
from rayservice_operator.telemetry.metrics import Metrics

MAX_LAG_S: Final = 10.0
MAX_SILENCE_S: Final = 600.0
"""Longer than the longest time between two full lists: a watch that did nothing for so long is dead."""

MAX_KEY_AGE_S: Final = 300.0
_BEAT_S: Final = 0.5


class CannotListen(Exception):  # noqa: N818
    """The port for health and metrics is taken, or not ours to take."""


class LoopLag:
    """How late the event loop runs timers; a reconcile that computes for long shows here."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._beat_at: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(_BEAT_S)
            self.seconds = max(loop.time() - began - _BEAT_S, self.seconds * 0.8)


@dataclass(slots=True)
class Health:
    """Collects the signs. ``phase`` is one word for people: starting, standby, syncing, running, stopping.

    ``settled``: whether the parts that answer others while we stand by have found their feet.
    """

    queue: WorkQueue
    reflectors: Sequence[Reflector]
    lag: LoopLag = field(default_factory=LoopLag)
    phase: str = "starting"
    extra: Callable[[], dict[str, Any]] = dict
    trouble: Callable[[], str] = str
    settled: Callable[[], bool] = lambda: True

    def problems(self) -> list[str]:
        """Why this process should be restarted; empty: healthy."""
        found = []
        if self.lag.seconds > MAX_LAG_S:
            found.append(f"the event loop is {self.lag.seconds:.0f} s late")
        found += [f"nothing happens to {r}" for r in self.reflectors if r.trying_age() > MAX_SILENCE_S]
        found += [f"kopf's watch of {r} tells nothing any more" for r in self.reflectors if r.deaf]
        if trouble := self.trouble():
            found.append(trouble)
        if self.queue.oldest_age() > MAX_KEY_AGE_S:
            found.append(f"a key has been waiting or in work for {self.queue.oldest_age():.0f} s")
        return found

    def ready(self) -> bool:
        """Ready to lead, or to take over: a standby is ready too, so that a rolling update goes on."""
        return self.phase in {"standby", "running"} and self.settled()

    def report(self) -> dict[str, Any]:
        """For whoever looks with curl."""
        return {
            "phase": self.phase,
            "problems": self.problems(),
            "loopLagSeconds": round(self.lag.seconds, 3),
            "queue": {
                "depth": self.queue.depth(),
                "working": self.queue.working(),
                "oldestSeconds": round(self.queue.oldest_age(), 1),
            },
            "watches": {
                str(r): {"synced": r.synced.is_set(), "ageSeconds": round(r.age(), 1)} for r in self.reflectors
            },
            **self.extra(),
        }


async def serve(health: Health, metrics: Metrics, host: str, port: int) -> web.AppRunner:
    """Listen; the caller cleans the runner up. Port 0 takes a free one. Raises CannotListen."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(health.report(), status=503 if health.problems() else 200)

    async def readyz(_: web.Request) -> web.Response:
        return web.json_response(health.report(), status=200 if health.ready() else 503)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise CannotListen(f"cannot listen on port {port}: {error.strerror}; set HTTP_PORT to a free one") from error
    return runner
