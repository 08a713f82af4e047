"""JSON merge patches (RFC 7386): what to send so that the stored becomes the wanted."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.core.objects import Manifest

_SCALAR: Final = (str, int, float, bool)
"""Asked first: most values are, and it is cheaper to see than that something is no Mapping."""


def merge_diff(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Manifest:
    """The smallest patch from ``stored`` to ``wanted``; empty when they are equal.

    Keys that ``wanted`` lacks are removed (null). A None in ``wanted`` means the same as its absence: in a merge
    patch no null can be stored. Lists are replaced whole.
    """
    patch: Manifest = {}
    for key in stored.keys() | wanted.keys():
        old, new = stored.get(key), wanted.get(key)
        if new is None:
            if key in stored:
                patch[key] = None
        elif not isinstance(new, _SCALAR) and isinstance(new, Mapping):
            if not isinstance(old, Mapping):
                patch[key] = without_nulls(new)
            elif inner := merge_diff(old, new):
                patch[key] = inner
        else:
            clean = without_nulls(new)
            if old is None or not _same(old, clean):
                patch[key] = clean
    return patch


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: to Python, False is 0 and True is 1, in lists too."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def without_nulls(value: Any) -> Any:
    """``value`` as the API server would store it: object members that are null are not there, words are plain text."""
    if isinstance(value, _SCALAR):
        return str(value) if isinstance(value, enum.StrEnum) else value
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(inner) for inner in value]
    return value
