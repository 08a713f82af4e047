"""What becomes of a run that failed; no I/O, no clock, no dice."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

from serve_runtime.errors import Refusal
from serve_runtime.tasks.args import Retries


@dataclass(frozen=True, slots=True)
class Verdict:
    """to: the task's next state. delay_s: until it is tried again."""

    to: Literal["retrying", "failed", "unprocessable"]
    delay_s: float = 0.0


def delay_s(retries: Retries, failures: int, dice: float) -> float:
    """Seconds until the next run after so many failures, at least one; ``dice`` is from 0 to 1."""
    try:
        grown = retries.first_s * retries.factor ** (failures - 1)
    except OverflowError:
        grown = retries.max_s
    return min(grown, retries.max_s) * (1 - retries.jitter * dice)


def verdict(
    error: BaseException, failures: int, retries: Retries, hopeless: tuple[type[Exception], ...], dice: float
) -> Verdict:
    """After ``failures`` runs that failed, this one included.

    Refusals that blame the input, and ``hopeless`` exceptions, are not tried again. One that says when to come back is
    tried again then, and not earlier.
    """
    if isinstance(error, hopeless) or (isinstance(error, Refusal) and error.status < 500):
        return Verdict("unprocessable")
    if failures > retries.max:
        return Verdict("failed")
    wait = delay_s(retries, failures, dice)
    if isinstance(error, Refusal) and error.retry_after_s is not None:
        wait = max(wait, error.retry_after_s)
    return Verdict("retrying", wait)


def described(error: BaseException, limit: int = 4000) -> dict[str, Any]:
    """For the ledger: type, message, and the last lines of the traceback."""
    lines = "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error)[:limit], "traceback": lines[-limit:]}
