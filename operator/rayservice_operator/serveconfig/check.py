"""Judges a serve config: what Ray refuses, what it ignores, and what it will not know in the version that is used.

Three passes over the document, each linear: a walk along the models (keys that are unknown, newer than the version
or deprecated, and values that Ray converts), pydantic's validation of types and bounds, and the rules between fields
of every part that is right by itself. ``docs/serve-config.md`` lists the rules for users.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.serveconfig.complaints import complaint_of
from rayservice_operator.serveconfig.model.base import NEWEST, Fault, Part, Version, minor_version
from rayservice_operator.serveconfig.model.deploy import Deploy
from rayservice_operator.serveconfig.rules import (
    BAD_VALUE,
    CONVERTED_VALUE,
    DEPRECATED_FIELD,
    MISSING_FIELD,
    NEWER_FIELD,
    ROOT,
    UNKNOWN_KEY,
    WRONG_TYPE,
)
from rayservice_operator.serveconfig.walk import Walk

__all__ = ["ROOT", "RULES", "check"]


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
    walk = Walk(version, [], [])
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
