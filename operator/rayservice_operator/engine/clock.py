"""Time, injected: the real one, and one that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """``now`` is what decisions count in and may jump with the machine's clock; ``monotonic`` never goes back."""

    def now(self) -> float:
        """Epoch seconds."""

    def monotonic(self) -> float:
        """Seconds from some beginning."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Wait for ``event``, at most that long (None: for ever)."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class ManualClock:
    """Moves only by :meth:`advance`: for tests and the simulation."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._start = start
        self._timers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            await self._timer(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        if seconds is None:
            await event.wait()
            return
        timer = self._timer(seconds)
        waiter = asyncio.ensure_future(event.wait())
        waiter.add_done_callback(lambda _: _fire(timer))
        try:
            await timer
        finally:
            waiter.cancel()

    def _timer(self, seconds: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._timers, (self._now + seconds, next(self._order), future))
        return future

    def advance(self, seconds: float) -> None:
        """Let that much time pass and wake, at the next turn of the loop, who waited for less."""
        self._now += seconds
        while self._timers and self._timers[0][0] <= self._now:
            future = heapq.heappop(self._timers)[2]
            _fire(future)


def _fire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
