"""``status.upgrade.analysis``: how far the analysis is, read from the status and written to it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339

MAX_MESSAGE = 512


class Phase(enum.StrEnum):
    """Phases of a check, and but for the first of the analysis as a whole."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


OVER = frozenset({Phase.SUCCESSFUL, Phase.FAILED, Phase.INCONCLUSIVE})


@dataclass(frozen=True, slots=True)
class CheckState:
    """One check. Times are epoch seconds; ``window_started``: of a window that goes on with the next measurement."""

    name: str
    phase: Phase = Phase.PENDING
    dry_run: bool = False
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    value: str = ""
    stable_value: str = ""
    message: str = ""
    measured_at: float | None = None
    window_started: float | None = None

    @property
    def measured(self) -> int:
        """How many measurements were taken: the number of the next one."""
        return self.successful + self.failed + self.inconclusive

    @property
    def over(self) -> bool:
        """Nothing more is measured."""
        return self.phase in OVER

    def manifest(self) -> dict[str, Any]:
        """As it is stored; what is empty is left out."""
        told: dict[str, Any] = {
            "name": self.name,
            "phase": str(self.phase),
            "dryRun": self.dry_run,
            "successful": self.successful,
            "failed": self.failed,
            "inconclusive": self.inconclusive,
            "value": self.value,
            "stableValue": self.stable_value,
            "message": shorten(self.message, MAX_MESSAGE),
            "measuredAt": _time(self.measured_at),
            "windowStarted": _time(self.window_started),
        }
        return {key: value for key, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class State:
    """The analysis of one candidate. ``subject``: hash of what is analysed and how; ``started``: epoch seconds.

    resting: nothing is measured now, because the candidate is not ready; this is not stored.
    """

    phase: Phase
    subject: str
    started: float
    message: str
    checks: tuple[CheckState, ...]
    resting: bool = False

    @property
    def over(self) -> bool:
        """The verdict is there."""
        return self.phase in OVER

    def manifest(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "phase": str(self.phase),
            "subject": self.subject,
            "started": to_rfc3339(self.started),
            "message": shorten(self.message, 2 * MAX_MESSAGE),
            "checks": [check.manifest() for check in self.checks],
        }


def read(stored: Mapping[str, Any]) -> State | None:
    """The stored analysis; None for none, or for what is not of this form (the status is not ours alone)."""
    try:
        started = from_rfc3339(stored.get("started"))
        if started is None:
            return None
        return State(
            phase=Phase(stored["phase"]),
            subject=str(stored["subject"]),
            started=started,
            message=str(stored.get("message") or ""),
            checks=tuple(_check(check) for check in stored.get("checks") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _check(stored: Mapping[str, Any]) -> CheckState:
    return CheckState(
        name=str(stored["name"]),
        phase=Phase(stored["phase"]),
        dry_run=bool(stored.get("dryRun")),
        successful=_count(stored, "successful"),
        failed=_count(stored, "failed"),
        inconclusive=_count(stored, "inconclusive"),
        value=str(stored.get("value") or ""),
        stable_value=str(stored.get("stableValue") or ""),
        message=str(stored.get("message") or ""),
        measured_at=from_rfc3339(stored.get("measuredAt")),
        window_started=from_rfc3339(stored.get("windowStarted")),
    )


def _count(stored: Mapping[str, Any], key: str) -> int:
    value = int(stored.get(key) or 0)
    if value < 0:
        raise ValueError(f"{key} is {value}")
    return value


def _time(at: float | None) -> str:
    return "" if at is None else to_rfc3339(at)
