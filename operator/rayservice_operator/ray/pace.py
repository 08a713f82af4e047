"""How long to wait before the next look at a head: a table, no I/O.

Quick where a person waits, slow where nothing moves, slower when there are many of a kind, so that the cost of
all heads together stays bounded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Motion(enum.Enum):
    """What a head is doing, as far as the pace is concerned."""

    STARTING = "starting"
    """Its API never answered; a refused connection costs next to nothing."""
    LOST = "lost"
    """It answered before and does not now."""
    MOVING = "moving"
    """Something is to change, or is not as it should be."""
    STEADY = "steady"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks. ``steps``: (while younger than, seconds); the last one has no end.

    ``per_second`` bounds the looks at all heads in the same motion; ``longest`` bounds what that does to one.
    """

    steps: tuple[tuple[float, float], ...]
    per_second: float = 200.0
    longest: float = 8.0

    def delay(self, age_s: float, crowd: int) -> float:
        """``age_s``: how long this motion has brought no news; ``crowd``: how many heads are in it."""
        step = next((seconds for younger_than, seconds in self.steps if age_s < younger_than), self.steps[-1][1])
        return max(step, min(crowd / self.per_second, self.longest))


_EVER = float("inf")

PACES: dict[Motion, Pace] = {
    Motion.STARTING: Pace(((60, 0.1), (600, 0.5), (_EVER, 2.0)), per_second=400, longest=2.0),
    Motion.LOST: Pace(((10, 0.25), (120, 0.5), (_EVER, 1.0)), longest=2.0),
    Motion.MOVING: Pace(((30, 0.25), (300, 0.5), (_EVER, 1.0)), longest=2.0),
    Motion.STEADY: Pace(((_EVER, 2.0),)),
}

PUSH_RETRY_MAX_S = 5.0


def push_retry(failures: int) -> float:
    """Seconds before a failing push is tried again: from a quarter second, doubling, to five."""
    return min(PUSH_RETRY_MAX_S, 0.25 * 2.0 ** min(failures - 1, 8))
