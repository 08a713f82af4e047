"""Durations as users write them in annotations."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration (``1h30m``, ``90s``) or of a bare whole number of seconds; None for anything else.

    >>> parse_duration("1m30s"), parse_duration("90"), parse_duration("soon")
    (90.0, 90.0, None)
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        return float(text)
    if not _WHOLE.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
