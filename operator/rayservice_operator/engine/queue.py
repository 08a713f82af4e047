"""The work queue: which key is to be reconciled next.

The contract is client-go's: a key is queued once however often it is marked, never handed to two workers at a
time, queued again if it was marked meanwhile, and held back longer each time it fails. It holds names, not
changes: a worker looks at the newest state, so what came in between costs nothing.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import random
from dataclasses import dataclass
from typing import Final

from rayservice_operator.core.keys import Key
from rayservice_operator.engine.clock import Clock


class Priority(enum.Enum):
    """Why a key is due; the value is the head start in seconds that others have over it.

    A deadline rather than a rank: a flood of the urgent delays the rest, but never shuts it out.
    """

    SPEC = 0.0
    CHILD = 1.0
    RESYNC = 10.0


BACKOFF_BASE_S: Final = 0.1
BACKOFF_CAP_S: Final = 10.0


@dataclass(slots=True)
class _Entry:
    """A key that is ready. ``deadline`` orders the heap; ``since`` is when it became ready."""

    deadline: float
    since: float


class WorkQueue:
    """Keys ready now, keys for later, keys in work. All times are of the clock's ``monotonic``."""

    def __init__(self, clock: Clock, *, rng: random.Random | None = None, cap_s: float = BACKOFF_CAP_S) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._cap = cap_s
        self._ready: dict[Key, _Entry] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._later: dict[Key, float] = {}
        self._later_heap: list[tuple[float, int, Key]] = []
        self._working: dict[Key, float] = {}
        self._again: dict[Key, Priority] = {}
        self._failures: dict[Key, int] = {}
        self._order = itertools.count()
        self._wake = asyncio.Event()

    # --- marking

    def add(self, key: Key, priority: Priority = Priority.CHILD) -> None:
        """Mark ``key`` dirty. While it is in work: it comes again when that is done."""
        if key in self._working:
            known = self._again.get(key)
            if known is None or priority.value < known.value:
                self._again[key] = priority
            return
        now = self._clock.monotonic()
        entry = self._ready.get(key)
        deadline = now + priority.value
        if entry is None:
            self._ready[key] = _Entry(deadline, now)
        elif deadline < entry.deadline:
            entry.deadline = deadline
        else:
            return
        heapq.heappush(self._heap, (deadline, next(self._order), key))
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Mark ``key`` dirty in that many seconds; of several such wishes the earliest counts."""
        due = self._clock.monotonic() + max(0.0, seconds)
        if due >= self._later.get(key, float("inf")):
            return
        self._later[key] = due
        heapq.heappush(self._later_heap, (due, next(self._order), key))
        self._wake.set()

    # --- working

    async def get(self) -> Key:
        """The next key, as soon as there is one. The caller owes a :meth:`done`."""
        while True:
            key = self.pop()
            if key is not None:
                return key
            self._wake.clear()
            due = self.next_due()
            await self._clock.wait(self._wake, None if due is None else max(0.0, due - self._clock.monotonic()))

    def pop(self) -> Key | None:
        """The next key if one is ready now, else None. The caller owes a :meth:`done`."""
        self._promote()
        while self._heap:
            deadline, _, key = heapq.heappop(self._heap)
            entry = self._ready.get(key)
            if entry is None or entry.deadline != deadline:
                continue  # an older place in the line of a key that moved forward or is done
            del self._ready[key]
            self._working[key] = self._clock.monotonic()
            return key
        return None

    def done(self, key: Key, *, failed: bool = False) -> None:
        """The work on ``key`` has ended. After a failure it comes again by itself, later each time, up to the cap.

        A key that failed waits even if it was marked meanwhile: what fails is often what marks it.
        """
        self._working.pop(key, None)
        again = self._again.pop(key, None)
        if failed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            delay = min(self._cap, BACKOFF_BASE_S * 2.0 ** min(failures, 30)) * self._rng.uniform(0.5, 1.0)
            self.add_after(key, delay)
            if again is not Priority.SPEC:
                return
        else:
            self._failures.pop(key, None)
        if again is not None:
            self.add(key, again)
        elif self._later or self._ready:
            self._wake.set()

    def forget(self, key: Key) -> None:
        """The object is gone: no failures, no wishes for later."""
        self._failures.pop(key, None)
        self._later.pop(key, None)

    # --- looking

    def next_due(self) -> float | None:
        """When the earliest key for later is due, in ``monotonic`` seconds."""
        while self._later_heap:
            due, _, key = self._later_heap[0]
            if self._later.get(key) == due:
                return due
            heapq.heappop(self._later_heap)
        return None

    def depth(self) -> int:
        """Keys ready and not in work."""
        return len(self._ready)

    def working(self) -> int:
        """Keys in work."""
        return len(self._working)

    def failures(self, key: Key) -> int:
        """Failures of ``key`` in a row."""
        return self._failures.get(key, 0)

    def oldest_age(self) -> float:
        """Seconds that the longest waiting ready key, or the longest work, has taken so far; 0 when idle."""
        starts = [entry.since for entry in self._ready.values()] + list(self._working.values())
        return self._clock.monotonic() - min(starts) if starts else 0.0

    def _promote(self) -> None:
        while (due := self.next_due()) is not None and due <= self._clock.monotonic():
            _, _, key = heapq.heappop(self._later_heap)
            del self._later[key]
            self.add(key, Priority.CHILD)
