"""Refusals of a manifest whose shape is wrong, in the words of the person who wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rayservice_operator.core.violations import Violation, summary

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# pydantic's error type -> what to write instead. Types not named here are described by pydantic's own message.
_EXPECTED = {
    "missing": ("is required", "Add it"),
    "string_type": ("must be text", 'Write one value, in quotes if it looks like a number: "4"'),
    "int_type": ("must be a whole number", "Write digits without quotes, a unit or a fraction"),
    "int_parsing": ("must be a whole number", "Write digits without quotes, a unit or a fraction"),
    "int_parsing_size": ("is too large a number", "Write a number that fits in 32 bits"),
    "int_from_float": ("must be a whole number", "Write it without a fraction"),
    "float_type": ("must be a number", "Write digits without quotes or a unit"),
    "float_parsing": ("must be a number", "Write digits without quotes or a unit"),
    "bool_type": ("must be true or false", "Write true or false without quotes"),
    "bool_parsing": ("must be true or false", "Write true or false without quotes"),
    "list_type": ("must be a list", "Write each entry on a line of its own that starts with a dash"),
    "dict_type": ("must be a mapping", "Write `key: value` lines, indented under the field"),
    "model_type": ("must be a mapping", "Write `key: value` lines, indented under the field"),
    "model_attributes_type": ("must be a mapping", "Write `key: value` lines, indented under the field"),
}


class SpecError(ValueError):
    """A manifest cannot be read. ``violations`` has one entry for each thing wrong, never empty."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        super().__init__(summary(self.violations))


def field_path(parts: Sequence[str | int]) -> str:
    """``("spec", "workerGroupSpecs", 0, "rayStartParams", "num-cpus")`` as kubectl writes it.

    >>> field_path(("spec", "workerGroupSpecs", 0, "rayStartParams", "num-cpus"))
    'spec.workerGroupSpecs[0].rayStartParams[num-cpus]'
    """
    path = ""
    for part in parts:
        if isinstance(part, int) or not _PLAIN.fullmatch(part):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def from_pydantic(error: ValidationError, prefix: Sequence[str | int] = ()) -> list[Violation]:
    """Every error of pydantic as a violation. ``prefix`` is the path of the object that was parsed."""
    return [_violation(detail, prefix) for detail in error.errors(include_url=False, include_context=False)]


def _violation(detail: ErrorDetails, prefix: Sequence[str | int]) -> Violation:
    path = field_path((*prefix, *detail["loc"]))
    if detail["type"] == "enum":
        options = detail["msg"].removeprefix("Input should be ")
        return Violation(path, f"is {_describe(detail['input'])}, which is no choice here", f"Write one of {options}")
    problem, fix = _EXPECTED.get(detail["type"], ("", ""))
    if not problem:
        return Violation(path, f"is not valid ({detail['msg']})", "Compare it with docs/api.md")
    if detail["type"] != "missing":
        problem = f"{problem}, but is {_describe(detail['input'])}"
    return Violation(path, problem, fix)


def _describe(value: object) -> str:
    """What a person wrote, short, and without the contents of mappings and lists (they may hold secrets)."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."
