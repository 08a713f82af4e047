"""What pydantic refused, in words: the value, its bounds, and what to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.serveconfig.model.values import BAD_VALUE, shown

Complaint = tuple[str, str, str]
"""A rule, what is wrong, what to do."""

_EXPECTED: Final[Mapping[str, tuple[str, str]]] = {
    "int": ("a whole number", "Write a whole number without quotes"),
    "float": ("a number", "Write a number without quotes"),
    "bool": ("true or false", "Write true or false"),
    "string": ("text", "Put it in quotes"),
    "list": ("a list", "Write a list, each entry behind a dash"),
    "dict": ("a mapping", "Write keys and values below it"),
    "model": ("a mapping", "Write keys and values below it"),
}
"""By the first word of pydantic's error types: ``int_parsing``, ``float_type``, …"""

_BOUNDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "greater_than": ("gt", "is not above", "Write more than"),
    "greater_than_equal": ("ge", "is below", "Write at least"),
    "less_than": ("lt", "is not below", "Write less than"),
    "less_than_equal": ("le", "is above", "Write at most"),
}

_ADVICE: Final[Mapping[str, str]] = {
    "import_path": "Write module:application, for example my_package.app:app",
    "name": "Give it the name that the code has",
    "applications": "List the applications there, each with `name` and `import_path`",
    "gang_size": "Write how many replicas make one gang",
    "actor_class": "Write module:Class",
}
"""What to write into a field that is missing."""


def complaint_of(error: Mapping[str, Any], field: str) -> Complaint:
    """A rule, the problem and the fix for one of ``ValidationError.errors()``; ``field`` is the key it is about."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == BAD_VALUE:
        return "bad-value", context["problem"], context["fix"]
    if kind == "missing":
        return "missing-field", "is missing", _ADVICE.get(field, f"Add {field}")
    if kind in _BOUNDS:
        key, relation, advice = _BOUNDS[kind]
        return "bad-value", f"{shown(value)} {relation} {context[key]:g}", f"{advice} {context[key]:g}"
    if kind == "literal_error":
        return "bad-value", f"{shown(value)} is not allowed", f"Write {context['expected'].replace(chr(39), '')}"
    if kind == "string_too_short":
        return "bad-value", "is empty", "Give it a name of its own"
    if kind == "finite_number":
        return "bad-value", f"{shown(value)} is not finite", "Write a finite number"
    expected, advice = _EXPECTED.get(kind.partition("_")[0], ("something else", "Correct it"))
    if kind == "int_from_float":
        return "wrong-type", f"{shown(value)} has a fraction where a whole number is expected", "Round it"
    return "wrong-type", f"{_described(value)} where {expected} is expected", advice


def _described(value: Any) -> str:
    if value is None:
        return "is null"
    if isinstance(value, Mapping):
        return "is a mapping"
    if isinstance(value, list):
        return "is a list"
    if isinstance(value, str):
        return f"{shown(value)} is text"
    return f"{shown(value)} is {'true or false' if isinstance(value, bool) else 'a number'}"
