"""Comparison of what is stored with what is wanted: is there anything to write?"""

from __future__ import annotations

from typing import Any


def covers(stored: Any, wanted: Any) -> bool:
    """Whether ``stored`` already says everything that ``wanted`` says.

    Keys that only ``stored`` has are the API server's defaults or somebody else's and do not count. Lists are
    compared element by element at equal length; None in ``wanted`` means «absent».
    """
    if isinstance(wanted, dict):
        if not isinstance(stored, dict):
            return not wanted and stored is None
        return all(
            (stored.get(key) is None) if value is None else covers(stored.get(key), value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(stored, list):
            return not wanted and stored is None
        return len(stored) == len(wanted) and all(covers(s, w) for s, w in zip(stored, wanted, strict=True))
    return bool(stored == wanted)
