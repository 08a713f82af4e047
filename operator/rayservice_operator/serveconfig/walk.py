"""What a version of Ray sees of a serve config: unknown and newer keys are gone, old conversions are made.

Ray up to 2.54 is on pydantic 1, which turns numbers into text and cuts fractions off; ours is pydantic 2, so the walk
does that before it is asked.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.serveconfig.model.base import (
    STRICT_TYPES_SINCE,
    FieldShape,
    Part,
    Shape,
    Version,
    fields_of,
    version_text,
)
from rayservice_operator.serveconfig.model.values import shown
from rayservice_operator.serveconfig.rules import (
    CONVERTED_VALUE,
    DEPRECATED_FIELD,
    NEWER_FIELD,
    ROOT,
    UNKNOWN_KEY,
    WRONG_TYPE,
)


@dataclass(slots=True)
class Walk:
    """Goes through a document along the models and returns what this version of Ray would see of it."""

    version: Version
    findings: list[Finding]
    parts: list[tuple[Path, type[Part], Any]]
    """Every mapping that is a part of the config, with its model."""
    broken: list[Path] = field(default_factory=list)
    """Values that the walk itself found refused."""
    guesses: int = 200
    """Unknown keys that are still compared with all known ones, which takes longer than all the rest."""

    def part(self, part: type[Part], value: Any, path: Path) -> Any:
        """The mapping without keys that are unknown or too new."""
        if not isinstance(value, Mapping):
            return {} if self._is_empty_mapping(value) else value
        fields = fields_of(part)
        result: dict[str, Any] = {}
        for key, child in value.items():
            known = fields.get(key)
            if known is None:
                self._unknown(part, key, path)
            elif known.since > self.version:
                self._newer(part, known, path)
            else:
                if known.deprecated is not None:
                    self._add(DEPRECATED_FIELD, Severity.WARNING, (*path, key), "is deprecated", known.deprecated)
                result[key] = self._child(part, known.shape, child, (*path, key))
        self.parts.append((path, part, result))
        return result

    def _child(self, part: type[Part], shape: Shape, value: Any, path: Path) -> Any:
        if not part.VERBATIM:
            return self._value(shape, value, path)
        return self.part(shape.part, value, path) if shape.part and isinstance(value, Mapping) else value

    def _value(self, shape: Shape, value: Any, path: Path) -> Any:
        if value is None:
            return None
        if shape.part is not None:
            return self.part(shape.part, value, path)
        if shape.item is not None and isinstance(value, list):
            return [self._value(shape.item, item, (*path, index)) for index, item in enumerate(value)]
        if shape.value is not None:
            if self._is_empty_mapping(value):
                return {}
            if isinstance(value, Mapping) and shape.value != _OWN:
                return {key: self._value(shape.value, item, (*path, key)) for key, item in value.items()}
        if shape.formerly_whole and self.version < STRICT_TYPES_SINCE:
            return self._formerly_whole(value, path)
        if shape.scalar is not None and type(value) is not shape.scalar:
            return self._converted(shape, value, path)
        return value

    def _is_empty_mapping(self, value: Any) -> bool:
        """Whether old Ray takes it for a mapping without keys."""
        return self.version < STRICT_TYPES_SINCE and value in ([], "")

    def _formerly_whole(self, value: Any, path: Path) -> Any:
        """A number, or text that is one, where old Ray made a whole number of it before it looked any further."""
        is_number = isinstance(value, float) and math.isfinite(value)
        if not (is_number or (isinstance(value, str) and _is_whole(value))):
            return value
        self._no_longer(value, int(value), path)
        return int(value)

    def _no_longer(self, value: Any, read: Any, path: Path) -> None:
        since = version_text(STRICT_TYPES_SINCE)
        problem = f"{shown(value)} is read as {shown(read)}; from Ray {since} on it is refused"
        self._add(CONVERTED_VALUE, Severity.WARNING, path, problem, f"Write {_literal(read)}")

    def _converted(self, shape: Shape, value: Any, path: Path) -> Any:
        """A scalar of another type: as Ray reads it, if it does."""
        scalar = shape.scalar
        if scalar is float and type(value) is int:
            return value
        read = value
        if self.version < STRICT_TYPES_SINCE and not shape.strict:
            if scalar is str and isinstance(value, int | float):
                read = str(value)
            elif scalar is int and isinstance(value, float) and math.isfinite(value):
                read = int(value)
            elif scalar is int and isinstance(value, str) and not _is_whole(value):
                self.broken.append(path)
                problem = f"{shown(value)} is text where a whole number is expected"
                self._add(WRONG_TYPE, Severity.ERROR, path, problem, "Write it without quotes and as a whole number")
                return 1  # any number: what is said about it is said
        if read is not value:
            self._no_longer(value, read, path)
        elif _is_converted(scalar, value) and not shape.strict:
            problem = f"{shown(value)} is {_kind(value)} where {_KINDS[scalar]} is expected; Ray converts it"
            self._add(CONVERTED_VALUE, Severity.HINT, path, problem, f"Write {_KINDS[scalar]}")
        return read

    def _unknown(self, part: type[Part], key: str, path: Path) -> None:
        strict = part.STRICT_SINCE is not None and self.version >= part.STRICT_SINCE
        severity = Severity.ERROR if strict else Severity.WARNING
        what = "is not known to Ray, which refuses it" if strict else "is not known to Ray, which ignores it"
        self._add(UNKNOWN_KEY, severity, (*path, key), f"{what} in {part.LABEL}", self._advice(part, key))
        if strict:
            self.broken.append((*path, key))

    def _advice(self, part: type[Part], key: str) -> str:
        """What to do about a key that is not known: where it belongs, or what may have been meant."""
        if key in part.MOVED:
            return part.MOVED[key]
        names = [name for name, known in fields_of(part).items() if known.since <= self.version]
        folded = {name.replace("_", ""): name for name in names}
        near = folded.get(key.replace("_", "").replace("-", "").casefold())
        if near is None and self.guesses > 0 and len(key) <= _LONGEST:
            self.guesses -= 1
            near = next(iter(difflib.get_close_matches(key, names, n=1, cutoff=0.7)), None)
        if near is not None:
            return f"Did you mean {near}?"
        return f"Remove it, or write one of {', '.join(names)}" if len(names) <= _FEW else "Remove it"

    def _newer(self, part: type[Part], known: FieldShape, path: Path) -> None:
        strict = part.STRICT_SINCE is not None and self.version >= part.STRICT_SINCE
        severity = Severity.ERROR if strict else Severity.WARNING
        done = "refuses" if strict else "ignores"
        since = version_text(known.since)
        problem = f"is new in Ray {since}; Ray {version_text(self.version)} {done} it"
        self._add(NEWER_FIELD, severity, (*path, known.name), problem, f"Use Ray {since} or newer, or remove it")
        if strict:
            self.broken.append((*path, known.name))

    def _add(self, rule: str, severity: Severity, path: Path, problem: str, fix: str) -> None:
        self.findings.append(Finding(rule, severity, (*ROOT, *path), problem, fix))


_OWN: Final = Shape()

_KINDS: Final[Mapping[type | None, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    None: "a value",
}


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "something else")


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _is_converted(scalar: type | None, value: object) -> bool:
    """Whether pydantic may make the field's type of it; if it does not, that is said as an error."""
    if scalar in (int, float):
        return isinstance(value, bool | str) or (scalar is int and isinstance(value, float))
    return scalar is bool and isinstance(value, int | float | str)


_FEW: Final = 12
_LONGEST: Final = 60
