"""An open loop: requests are due at times that do not depend on the answers, and are measured from when they were due.

A loop that waits for answers sends less while the service stands still, and so hides the very seconds that matter
(coordinated omission). Here what is late because too many are in flight is late in the figures, too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Arrivals: TypeAlias = Literal["poisson", "constant"]
CUT: Final = "cut"
"""Outcome of a request that was under way when the load was ended."""
OK: Final = "ok"


@dataclass(slots=True)
class Sample:
    """One request; times in seconds since the load began. first: of the answer, or of its first token.

    tokens: told by the server, else parts with text. gaps: between parts with text.
    """

    due: float
    began: float = 0.0
    first: float | None = None
    ended: float = 0.0
    outcome: str = CUT
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """From when it was due to the last byte."""
        return self.ended - self.due


@dataclass(slots=True)
class Load:
    """What became of a load. unsent: due, and not begun before its end. lag: how late the generator itself woke."""

    samples: list[Sample] = field(default_factory=list)
    unsent: int = 0
    seconds: float = 0.0
    most_in_flight: int = 0
    lag: list[float] = field(default_factory=list)
    interrupted: bool = False


Send: TypeAlias = Callable[[int, Sample, Callable[[], float]], Awaitable[str]]
"""Sends request number n, notes in its sample when what came, by a clock, and returns the outcome."""


@dataclass(frozen=True, slots=True)
class Plan:
    """rate: requests per second. duration_s: of sending. max_in_flight: at a time, beyond it they wait.

    grace_s: for answers after the last one was sent.
    """

    rate: float
    duration_s: float
    max_in_flight: int
    grace_s: float
    arrivals: Arrivals = "poisson"
    seed: int | None = None

    def due(self) -> Iterator[float]:
        """When requests are due, in seconds from the beginning."""
        chance = random.Random(self.seed)
        number, at = 0, 0.0
        while at < self.duration_s:
            yield at
            number += 1
            at = number / self.rate if self.arrivals == "constant" else at + chance.expovariate(self.rate)


async def run(plan: Plan, send: Send, stop: asyncio.Event) -> Load:
    """The whole load, or what there is of it when ``stop`` is set."""
    loop = asyncio.get_running_loop()
    load, began = Load(), loop.time()
    tasks: set[asyncio.Task[None]] = set()
    slots = asyncio.Semaphore(plan.max_in_flight)
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())

    def clock() -> float:
        return loop.time() - began

    async def one(number: int, sample: Sample) -> None:
        try:
            sample.outcome = await send(number, sample, clock)
        finally:
            sample.ended = clock()
            slots.release()

    due = plan.due()
    for number, at in enumerate(due):
        if (early := at - clock()) > 0:
            await asyncio.wait({stopped}, timeout=early)
            load.lag.append(max(0.0, clock() - at))
        if stop.is_set() or not await _slot(slots, plan.duration_s - clock(), stopped):
            until = min(clock(), plan.duration_s) if stop.is_set() else plan.duration_s
            load.unsent = sum(1 for each in (at, *due) if each <= until)
            break
        sample = Sample(at, clock())
        load.samples.append(sample)
        task = asyncio.create_task(one(number, sample))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        load.most_in_flight = max(load.most_in_flight, len(tasks))
    load.seconds = min(clock(), plan.duration_s)
    await _end(tasks, stopped, plan.grace_s)
    load.interrupted = stop.is_set()
    stopped.cancel()
    return load


async def _slot(slots: asyncio.Semaphore, limit_s: float, stopped: asyncio.Future[Any]) -> bool:
    """Whether one more may be begun, as soon as that is so; not after ``limit_s`` or when the load is stopped."""
    if not slots.locked():
        await slots.acquire()
        return True
    taking: asyncio.Future[Any] = asyncio.ensure_future(slots.acquire())
    await asyncio.wait({taking, stopped}, timeout=max(limit_s, 0), return_when=asyncio.FIRST_COMPLETED)
    if taking.done() and not stopped.done():
        return True
    taking.cancel()
    return False


async def _end(tasks: set[asyncio.Task[None]], stopped: asyncio.Future[Any], grace_s: float) -> None:
    """Wait for what is under way, and cut off what is so after the grace or a stop."""
    if tasks and not stopped.done():
        everything: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait({everything, stopped}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
