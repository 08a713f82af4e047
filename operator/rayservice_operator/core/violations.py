"""A refusal of something in a manifest: where it is, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """``field`` is the path as kubectl writes it (``spec.rayClusterConfig.workerGroupSpecs[0].groupName``)."""

    field: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}. {self.fix}"


def summary(violations: Iterable[Violation]) -> str:
    """All of them as one message."""
    return " | ".join(str(v) for v in violations)
