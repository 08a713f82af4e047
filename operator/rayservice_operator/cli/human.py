"""Times, sizes and texts as people expect to read them."""

from __future__ import annotations

import re
from typing import Final

from rayservice_operator.core.timestamps import from_rfc3339

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400

# Below so many seconds: the unit and the smaller one beside it (0: none). kubectl's steps (apimachinery duration.go).
_STEPS: Final = (
    (2 * _MINUTE, 1, 0),
    (10 * _MINUTE, _MINUTE, 1),
    (3 * _HOUR, _MINUTE, 0),
    (8 * _HOUR, _HOUR, _MINUTE),
    (2 * _DAY, _HOUR, 0),
    (8 * _DAY, _DAY, _HOUR),
    (2 * _YEAR, _DAY, 0),
    (8 * _YEAR, _YEAR, _DAY),
)
_UNITS: Final = {1: "s", _MINUTE: "m", _HOUR: "h", _DAY: "d", _YEAR: "y"}


def duration(seconds: float) -> str:
    """``95`` -> ``95s``, ``190`` -> ``3m10s``, ``100000`` -> ``27h``: as kubectl writes ages."""
    whole = max(0, int(seconds))
    unit, rest = next(((unit, rest) for limit, unit, rest in _STEPS if whole < limit), (_YEAR, 0))
    text = f"{whole // unit}{_UNITS[unit]}"
    over = whole % unit // rest if rest else 0
    return f"{text}{over}{_UNITS[rest]}" if over else text


def age(time: str | None, now: float) -> str:
    """Time since an RFC 3339 time; empty for none."""
    moment = from_rfc3339(time)
    return "" if moment is None else duration(now - moment)


def until(time: str | None, now: float) -> str:
    """``in 5m``, or ``5m ago``; empty for no time."""
    moment = from_rfc3339(time)
    if moment is None:
        return ""
    return f"in {duration(moment - now)}" if moment >= now else f"{duration(now - moment)} ago"


def count(number: int, one: str, many: str = "") -> str:
    """``1 pod``, ``2 pods``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """``text`` without colour codes and other control characters; lines stay."""
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def line(text: str, limit: int = 0) -> str:
    """``text`` on one line, cut at ``limit`` characters with an ellipsis (0: not cut)."""
    whole = " ".join(clean(text).split())
    return whole if not limit or len(whole) <= limit else whole[: limit - 1].rstrip() + "…"
