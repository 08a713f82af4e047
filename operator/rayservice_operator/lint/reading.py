"""Reading documents whose shape nobody has promised: a wrong type is as good as nothing there.

That it is wrong is for the schema's own rules to say; the others must neither fail on it nor say it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rayservice_operator.core.findings import Path

Map = Mapping[str, Any]

_HOLDERS: Final = (dict, list)
_LARGEST: Final = 1e18
"""Nothing that people count is more; beyond it numbers are no longer exact."""


def as_map(value: Any) -> Map:
    """A mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """A string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_number(value: Any) -> float | None:
    """A finite number that is none of the booleans; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        return None
    return float(value)


def as_count(value: Any) -> int | None:
    """A whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def maps_in(value: Any, path: Path) -> Iterator[tuple[Path, Map]]:
    """The mappings of a list, each with its own path."""
    for index, item in enumerate(as_list(value)):
        if isinstance(item, dict):
            yield (*path, index), item


def plain(number: float) -> str:
    """``2`` for 2.0, ``0.5`` for 0.5: a number as people write it."""
    return f"{number:.0f}" if number == int(number) else f"{number:g}"


def counted(number: float, what: str) -> str:
    """``1 GPU``, ``2 GPUs``."""
    return f"{plain(number)} {what}" if number == 1 else f"{plain(number)} {what}s"


def walk(value: Any, path: Path) -> Iterator[tuple[Path, Map]]:
    """Every mapping at or below ``value``, outer ones first; no recursion, as the depth is the user's."""
    waiting = [(path, value)]
    while waiting:
        at, item = waiting.pop()
        if isinstance(item, dict):
            yield at, item
            waiting += [((*at, key), child) for key, child in reversed(item.items()) if isinstance(child, _HOLDERS)]
        elif isinstance(item, list):
            last = len(item) - 1
            waiting += [((*at, n), item[n]) for n in range(last, -1, -1) if isinstance(item[n], _HOLDERS)]
