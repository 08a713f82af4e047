"""What a check has to say about a manifest: a rule, how bad it is, where, why, and what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Keys and list indexes from the manifest's root. A path inside the serve config goes on after
``("spec", "serveConfigV2")`` as if that text were part of the manifest."""


class Severity(enum.StrEnum):
    """``ERROR``: Ray or the operator refuses it, or it can never work. ``WARNING``: it works, but not as written, or
    it will fail under conditions that are to be expected. ``HINT``: there is a better way."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule`` is the stable name that people search for and switch off (``unknown-key``)."""

    rule: str
    severity: Severity
    path: Path
    problem: str
    fix: str
    position: Position | None = None
