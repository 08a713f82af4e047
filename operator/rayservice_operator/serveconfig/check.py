"""Judges a serve config: what Ray refuses, what it ignores, and what it will not know in the version that is used.

Three passes over the document, each linear: a walk along the models (keys that are unknown, newer than the version
or deprecated, and values that Ray converts), pydantic's validation of types and bounds, and the rules between fields
of every part that is right by itself. ``docs/serve-config.md`` lists the rules for users.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.serveconfig.complaints import complaint_of
from rayservice_operator.serveconfig.model.base import (
    NEWEST,
    STRICT_TYPES_SINCE,
    Fault,
    FieldShape,
    Part,
    Shape,
    Version,
    fields_of,
    minor_version,
    version_text,
)
from rayservice_operator.serveconfig.model.deploy import Deploy
from rayservice_operator.serveconfig.model.values import shown

ROOT: Final[Path] = ("spec", "serveConfigV2")

UNKNOWN_KEY: Final = "unknown-key"
NEWER_FIELD: Final = "newer-field"
DEPRECATED_FIELD: Final = "deprecated-field"
CONVERTED_VALUE: Final = "converted-value"
WRONG_TYPE: Final = "wrong-type"
BAD_VALUE: Final = "bad-value"
MISSING_FIELD: Final = "missing-field"

RULES: Final[Mapping[str, str]] = {
    UNKNOWN_KEY: "A key that Ray does not know. Ray ignores it without a word, except where it refuses it.",
    NEWER_FIELD: "A field that the Ray version of the cluster does not know yet; it ignores or refuses it.",
    DEPRECATED_FIELD: "A field that still works but is to go.",
    CONVERTED_VALUE: "A value of another type than the field's, which Ray converts.",
    WRONG_TYPE: "A value of a type that Ray refuses.",
    BAD_VALUE: "A value that Ray refuses, by itself or together with others.",
    MISSING_FIELD: "A field that has to be there is not.",
}
"""Every rule of this module, with what it is about."""


def check(document: Mapping[str, Any], ray_version: str | None) -> list[Finding]:
    """What is wrong with a serve config, in the order of the document's parts; empty if nothing is.

    ``document`` is plain JSON and stays as it is. ``ray_version`` is the cluster's (``2.54.0``); one that is unknown
    or cannot be read is taken for the newest that the models describe. An error is what Ray answers with HTTP 400 or
    500, or what ends in DEPLOY_FAILED whatever the code is.
    """
    version = minor_version(ray_version) or NEWEST
    walk = _Walk(version, [], [])
    plain = walk.part(Deploy, document, ())
    root, errors = _validated(Deploy, plain)
    refused = list(_errors(errors, plain))
    said = {finding.path for finding in refused}
    wrong = [*walk.broken, *(path[len(ROOT) :] for path in said)]
    broken = {path[:depth] for path in wrong for depth in range(len(path) + 1)}
    faults: list[Finding] = []
    instances: dict[Path, Part] = {} if root is None else {(): root}
    for path, part, value in reversed(walk.parts):  # parents come before what is in them
        faults.extend(_findings(part.plain_faults(value), path, version, said))
        if path in broken:
            continue
        instance = _instance(instances, path) or _validated(part, value)[0]
        if instance is not None:
            instances[path] = instance
            faults.extend(_findings(instance.faults(), path, version, ()))
    findings = [*walk.findings, *refused, *faults]
    return sorted(findings, key=_order(document))


def _order(document: Mapping[str, Any]) -> Callable[[Finding], list[int]]:
    """Findings in the order of the document's text, as far as it has one."""
    places: dict[int, dict[str, int]] = {}

    def key(finding: Finding) -> list[int]:
        at: Any = document
        order: list[int] = []
        for step in finding.path[len(ROOT) :]:
            if isinstance(at, Mapping):
                known = places.get(id(at)) or places.setdefault(id(at), {name: n for n, name in enumerate(at)})
                order.append(known.get(str(step), len(known)))
                at = at.get(str(step))
            else:
                order.append(step if isinstance(step, int) else 0)
                at = at[step] if isinstance(at, list) and isinstance(step, int) and step < len(at) else None
        return order

    return key


def _validated(part: type[Part], value: Any) -> tuple[Part | None, list[Any]]:
    try:
        return part.model_validate(value), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _instance(instances: Mapping[Path, Part], path: Path) -> Part | None:
    """The part at a path, if one that holds it is there already."""
    for depth in range(len(path), -1, -1):
        at: Any = instances.get(path[:depth])
        if at is not None:
            for step in path[depth:]:
                at = at[step] if isinstance(step, int) else getattr(at, str(step))
            return at if isinstance(at, Part) else None
    return None


def _findings(faults: Iterator[Fault], path: Path, version: Version, said: Container[Path]) -> Iterator[Finding]:
    """Faults of this version, other than about values ``said`` to be wrong already."""
    for fault in faults:
        where = (*ROOT, *path, *fault.path)
        if fault.since <= version and (fault.until is None or version <= fault.until) and where not in said:
            yield Finding(BAD_VALUE, Severity(fault.severity), where, fault.problem, fault.fix)


def _errors(errors: Sequence[Any], document: Any) -> Iterator[Finding]:
    """One finding for each value that pydantic refuses, however many reasons a choice of types gives."""
    seen: set[Path] = set()
    for error in errors:
        path = _trimmed(error, document)
        if path not in seen:
            seen.add(path)
            rule, problem, fix = complaint_of(error, str(path[-1]) if path else "")
            yield Finding(rule, Severity.ERROR, (*ROOT, *path), problem, fix)


def _trimmed(error: Any, document: Any) -> Path:
    """The path of an error as far as it leads through the document: pydantic adds names of choices to it."""
    path: list[str | int] = []
    at = document
    for step in error["loc"]:
        if isinstance(at, Mapping) and (step in at or error["type"] == "missing"):
            at = at.get(step)
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        else:
            break
        path.append(step)
    return tuple(path)


# -- the walk --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Walk:
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
