"""One manifest, all rules."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Collection, Iterator
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.raycluster import RayCluster, parse_raycluster
from rayservice_operator.api.rayservice import RayService, parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import validate_raycluster, validate_rayservice
from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.core.objects import Manifest
from rayservice_operator.lint.reading import as_map, as_text
from rayservice_operator.lint.rules import refused
from rayservice_operator.lint.subject import Subject
from rayservice_operator.lint.table import BY_NAME, IGNORE, RULES, UNKNOWN_RULE
from rayservice_operator.serveconfig.canonical import ServeConfig, ServeConfigError, parse

KINDS: Final = frozenset({"RayService", "RayCluster"})


def is_ours(manifest: Manifest) -> bool:
    """Whether there are rules for it: a RayService or RayCluster."""
    return manifest.get("kind") in KINDS and as_text(manifest.get("apiVersion")).startswith(f"{names.GROUP}/")


def lint_manifest(manifest: Manifest, *, ignore: Collection[str] = ()) -> list[Finding]:
    """What the rules have to say, without places, in the order of the rules; empty for kinds that have none.

    Takes any JSON object and raises nothing. Rules in ``ignore`` or in the annotation ``ray.io/lint-ignore`` are left
    out, whatever their severity.
    """
    if not is_ours(manifest):
        return []
    ignored = {*ignore, *ignored_by(manifest)}
    return [finding for finding in _once(_findings(manifest)) if finding.rule not in ignored]


def ignored_by(manifest: Manifest) -> frozenset[str]:
    """Rules that the object itself switches off."""
    text = as_text(as_map(as_map(manifest.get("metadata")).get("annotations")).get(IGNORE))
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _once(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Of two errors about the same place, the first: the rules that know more come first."""
    wrong: set[Path] = set()
    for finding in findings:
        if finding.severity is Severity.ERROR:
            if finding.path in wrong:
                continue
            wrong.add(finding.path)
        yield finding


def _findings(manifest: Manifest) -> Iterator[Finding]:
    yield from _about_the_object(manifest)
    yield from _about_metadata(manifest)
    if any(not isinstance(value, dict) for _, value in _metadata(manifest)):
        return
    parsed: RayService | RayCluster
    try:
        parsed = parse_rayservice(manifest) if manifest["kind"] == "RayService" else parse_raycluster(manifest)
    except SpecError as error:
        yield from refused.findings(manifest, error.violations, refused.FIELD_TYPE)
        return
    config: ServeConfig | None = None
    if isinstance(parsed, RayService):
        config = _read(parsed.spec.serve_config_v2)
        yield from refused.findings(manifest, validate_rayservice(manifest, parsed))
    else:
        yield from refused.findings(manifest, validate_raycluster(manifest, parsed, from_service=False))
    subject = Subject(manifest, parsed, config.document if config else None)
    for rule in RULES:
        yield from rule.findings(subject)


@functools.lru_cache(maxsize=64)
def _read(text: str) -> ServeConfig | None:
    """The serve config; None for one that cannot be read, which validation says."""
    try:
        return parse(text)
    except ServeConfigError:
        return None


def _about_the_object(manifest: Manifest) -> Iterator[Finding]:
    version = manifest["apiVersion"]
    if version != names.API_VERSION:
        problem = f"is {version}, which the operator does not read"
        yield Finding("api-version", Severity.ERROR, ("apiVersion",), problem, f"Write {names.API_VERSION}")
    for name in sorted(ignored_by(manifest) - BY_NAME.keys()):
        close = difflib.get_close_matches(name, BY_NAME, 1)
        fix = f"Write {close[0]}" if close else "Remove it; docs/lint.md lists the rules"
        path = ("metadata", "annotations", IGNORE)
        yield Finding(UNKNOWN_RULE, Severity.WARNING, path, f"names {name!r}, which is no rule", fix)


def _metadata(manifest: Manifest) -> Iterator[tuple[Path, Any]]:
    """The parts of metadata that must be mappings for anything to be read, where they are set."""
    meta = manifest.get("metadata")
    if meta is None:
        return
    yield ("metadata",), meta
    for key in ("annotations", "labels"):
        if as_map(meta).get(key) is not None:
            yield ("metadata", key), meta[key]


def _about_metadata(manifest: Manifest) -> Iterator[Finding]:
    for path, value in _metadata(manifest):
        if not isinstance(value, dict):
            fix = "Write `key: value` lines, indented under the field"
            yield Finding(refused.FIELD_TYPE, Severity.ERROR, path, "must be a mapping", fix)
