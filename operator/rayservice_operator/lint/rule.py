"""What a rule is: a name for life, how bad a breach is, what to tell about it, and the function that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.lint.subject import Subject


@dataclass(frozen=True, slots=True)
class Problem:
    """One breach of a rule. ``problem`` goes on after the name of the field at ``path``: "is 4, but …"."""

    path: Path
    problem: str
    fix: str


Check = Callable[[Subject], Iterator[Problem]]
"""Looks at one manifest. Pure, and it takes any document: wrong types are for other rules."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule and its page of ``docs/lint.md``.

    ``name`` is stable: people search for it and switch it off by it. ``why`` says what happens otherwise, ``fix`` what
    to do, ``example`` is YAML that breaks the rule. ``check`` is None for a rule whose breaches others find: the checks
    of ``api.validation`` and of the serve config's schema.
    """

    name: str
    severity: Severity
    title: str
    why: str
    fix: str
    example: str
    check: Check | None = None

    def findings(self, subject: Subject) -> Iterator[Finding]:
        """What the rule has to say about a manifest."""
        if self.check is None:
            return
        for found in self.check(subject):
            yield Finding(self.name, self.severity, found.path, found.problem, found.fix)
