"""Room for pods: what is asked before an upgrade begins, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

from rayservice_operator.core.objects import Manifest


@dataclass(frozen=True, slots=True)
class PodsWanted:
    """Pods of one group. ``pod`` is one of them, as the API server knows or would know it.

    ``to_create`` do not exist yet, so a quota has still to admit them; ``to_place`` have no node yet.
    """

    group: str
    pod: Manifest
    to_create: int
    to_place: int


@dataclass(frozen=True, slots=True)
class Room:
    """Whether there is room now. ``fit`` of ``pods`` can run at once, None: not known.

    ``message`` has the numbers and what happens to those that do not fit. ``short``: a warning is due.
    """

    pods: int
    fit: int | None
    message: str

    @property
    def short(self) -> bool:
        """Whether pods are known to have no place."""
        return self.fit is not None and self.fit < self.pods


@dataclass(frozen=True, slots=True)
class RoomAnswer:
    """Times are epoch seconds. ``at`` and ``room`` are None until the first answer is there."""

    asked_at: float
    at: float | None = None
    room: Room | None = None
