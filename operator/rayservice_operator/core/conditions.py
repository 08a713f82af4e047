"""Conditions as metav1.Condition: kept in a fixed order, transition times only where the status flips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rayservice_operator.core.timestamps import to_rfc3339

Status = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 1024
"""Longest message in a condition or event, in characters (events.k8s.io refuses notes over 1 KiB)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as decided; :func:`merge` turns it into the stored form."""

    type: str
    status: Status
    reason: str
    message: str = ""


def find(conditions: Iterable[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    """The stored condition of that type."""
    return next((c for c in conditions if c.get("type") == type_), None)


def is_true(conditions: Iterable[Mapping[str, Any]], type_: str) -> bool:
    """Whether the stored condition is present and True."""
    found = find(conditions, type_)
    return found is not None and found.get("status") == "True"


def merge(
    stored: Sequence[Mapping[str, Any]], wanted: Iterable[Condition], *, generation: int, now: float
) -> list[dict[str, Any]]:
    """The list to store: exactly ``wanted``, in its order; times kept where the status is the same.

    Conditions of types not in ``wanted`` are dropped: each decision states all that it owns.
    """
    result: list[dict[str, Any]] = []
    for condition in wanted:
        old = find(stored, condition.type)
        same = old is not None and old.get("status") == condition.status
        since = old["lastTransitionTime"] if same and old and old.get("lastTransitionTime") else to_rfc3339(now)
        result.append(
            {
                "type": str(condition.type),
                "status": condition.status,
                "reason": str(condition.reason),
                "message": shorten(condition.message),
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return result


def shorten(text: str, limit: int = MAX_MESSAGE) -> str:
    """``text`` cut to ``limit`` characters with an ellipsis in the middle, where tracebacks say least."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
