"""Sizes as people write and read them."""

from __future__ import annotations

from typing import Final

_STEP: Final = 1024
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes for people: ``512 B``, ``1.5 GiB``."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def seconds(count: float) -> str:
    """A length of time for people: ``40 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(count)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
