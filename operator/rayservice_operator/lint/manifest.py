"""One manifest, all rules."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.raycluster import RayCluster, parse_raycluster
from rayservice_operator.api.rayservice import RayService, parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import serve_config, validate_raycluster, validate_rayservice
from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.core.objects import Manifest
from rayservice_operator.lint.reading import as_map, as_text
from rayservice_operator.lint.rules import refused
from rayservice_operator.lint.rules.schema import findings as schema_findings
from rayservice_operator.lint.subject import Subject
from rayservice_operator.lint.table import BY_NAME, IGNORE, RULES, UNKNOWN_RULE
from rayservice_operator.serveconfig.canonical import ServeConfig

KINDS: Final = frozenset({"RayService", "RayCluster"})


def is_ours(manifest: Manifest) -> bool:
    """Whether there are rules for it: a RayService or RayCluster."""
    return as_text(manifest.get("kind")) in KINDS and as_text(manifest.get("apiVersion")).startswith(f"{names.GROUP}/")


def lint_manifest(manifest: Manifest, *, ignore: Collection[str] = ()) -> list[Finding]:
    """What the rules have to say, without places, in the order of the rules; empty for kinds that have none.

    Takes any JSON object and raises nothing. Rules in ``ignore`` or in the annotation ``ray.io/lint-ignore`` are left
    out, whatever their severity.
    """
    if not is_ours(manifest):
        return []
    ignored = {*ignore, *ignored_by(manifest)}
    return [finding for finding in _once(_findings(manifest)) if finding.rule not in ignored]


def faults(manifest: Manifest) -> list[Finding]:
    """Errors and warnings: what is said unasked. Hints are for those who ask for them."""
    return [finding for finding in lint_manifest(manifest) if finding.severity is not Severity.HINT]


def ignored_by(manifest: Manifest) -> frozenset[str]:
    """Rules that the object itself switches off."""
    text = as_text(as_map(as_map(manifest.get("metadata")).get("annotations")).get(IGNORE))
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Of two errors about the same place the first, as rules that know more come first; and no hint beside an error."""
    found = list(findings)
    wrong = {finding.path for finding in found if finding.severity is Severity.ERROR}
    told: set[Path] = set()
    for finding in found:
        repeated = finding.severity is Severity.ERROR and finding.path in told
        if repeated or (finding.severity is Severity.HINT and finding.path in wrong):
            continue
        if finding.severity is Severity.ERROR:
            told.add(finding.path)
        yield finding


def _findings(manifest: Manifest) -> Iterator[Finding]:
    yield from _about_the_object(manifest)
    unreadable = list(_about_metadata(manifest))
    yield from unreadable
    if unreadable:
        return
    parsed: RayService | RayCluster
    try:
        parsed = parse_rayservice(manifest) if manifest["kind"] == "RayService" else parse_raycluster(manifest)
    except SpecError as error:
        yield from refused.findings(manifest, error.violations, refused.FIELD_TYPE)
        return
    config = None
    if isinstance(parsed, RayService):
        config = serve_config.read(parsed.spec.serve_config_v2)
        yield from refused.findings(manifest, validate_rayservice(manifest, parsed))
    else:
        yield from refused.findings(manifest, validate_raycluster(manifest, parsed, from_service=False))
    subject = Subject(manifest, parsed, config.document if isinstance(config, ServeConfig) else None)
    told = [finding for rule in RULES for finding in rule.findings(subject)]
    yield from told
    if subject.document is not None:
        version = subject.ray_version
        known = {finding.path for finding in told}
        schema = schema_findings(subject, ".".join(str(part) for part in version) if version else None)
        yield from (finding for finding in schema if finding.path not in known)


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
        elif len(path) > 1:
            for key, text in value.items():
                if not isinstance(text, str | None):
                    fix = "Write it in quotes"
                    yield Finding(refused.FIELD_TYPE, Severity.ERROR, (*path, key), "must be text", fix)
