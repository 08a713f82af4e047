"""What can become of a task. The Lua scripts of :mod:`~serve_runtime.tasks.scripts` allow these changes and no other;
tests drive them through every sequence and compare.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["queued", "running", "retrying", "succeeded", "failed", "unprocessable", "cancelled"]

TRANSITIONS: Final[dict[State, dict[str, State]]] = {
    "queued": {"claim": "running", "cancel": "cancelled"},
    "running": {
        "succeed": "succeeded",
        "retry": "retrying",
        "fail": "failed",
        "refuse": "unprocessable",
        "give_back": "queued",
        "lose": "queued",
        "cancel": "cancelled",
    },
    "retrying": {"due": "queued", "cancel": "cancelled"},
    "succeeded": {},
    "failed": {"requeue": "queued"},
    "unprocessable": {"requeue": "queued"},
    "cancelled": {},
}
"""State -> event -> state. ``lose``: the worker showed no sign of life for ``lease_s``; the last loss that is allowed
leads to ``unprocessable`` instead.
"""

LIVE: Final[tuple[State, ...]] = ("queued", "running", "retrying")
DEAD_LETTERS: Final[tuple[State, ...]] = ("failed", "unprocessable")
