"""A file of manifests, all rules, with the place of each finding."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from rayservice_operator.api.validation import serve_config
from rayservice_operator.core.findings import Finding, Position, Severity
from rayservice_operator.lint.manifest import is_ours, lint_manifest
from rayservice_operator.serveconfig.canonical import ServeConfigError
from rayservice_operator.serveconfig.source import SERVE_CONFIG, SourceDocument, SourceError, load_manifests

_FROM_START: Final = Position(1, 1)

# Helm's own objects and functions: nothing else that has double braces (prompts of models have) begins like these.
_TEMPLATE: Final = re.compile(
    r"\{\{-?\s*(?:\.(?:Values|Release|Chart|Capabilities|Files|Template)\b|include\s|template\s)"
)
_IN_NO_YAML: Final = re.compile(
    r"\{\{-?\s*(?:[.$]|/\*|(?:if|else|end|range|with|define|include|template|toYaml|tpl)\b)"
)


def lint_text(text: str | bytes, name: str = "", *, ignore: Collection[str] = ()) -> list[Finding]:
    """What the rules have to say about the manifests in a file, in the order of their places.

    Kinds without rules are passed over. What is no YAML, or a Helm template, is one finding or more; nothing is raised.
    ``name``: of the file, for whoever wants it in messages of his own.
    """
    findings = [finding for finding in _findings(text, name, ignore) if finding.rule not in ignore]
    return sorted(findings, key=lambda finding: finding.position or _FROM_START)


def _findings(text: str | bytes, name: str, ignore: Collection[str]) -> list[Finding]:
    plain = text if isinstance(text, str) else text.decode("utf-8", errors="replace")
    try:
        documents = load_manifests(text, name)
    except SourceError as error:
        return _template(plain, _IN_NO_YAML) or list(error.findings)
    if any(is_ours(document.manifest) for document in documents) and (found := _template(plain, _TEMPLATE)):
        return found
    return [finding for document in documents for finding in lint_document(document, ignore=ignore)]


def lint_document(document: SourceDocument, *, ignore: Collection[str] = ()) -> list[Finding]:
    """What the rules have to say about one manifest of a file, with places."""
    unreadable = _serve_config_text(document)
    found = lint_manifest(document.manifest, ignore=ignore)
    if unreadable is not None:  # the same error, but with its place in the file
        found = [unreadable, *(f for f in found if f.path[:2] != SERVE_CONFIG)]
    return [document.placed(finding) for finding in found]


def _serve_config_text(document: SourceDocument) -> Finding | None:
    """What makes the text of ``serveConfigV2`` unreadable as YAML."""
    spec = document.manifest.get("spec")
    text = spec.get("serveConfigV2") if isinstance(spec, dict) else None
    if document.manifest.get("kind") != "RayService" or not isinstance(text, str):
        return None
    config = serve_config.read(text)
    if isinstance(config, ServeConfigError) and config.position is not None:
        return document.finding(config)
    return None


def _template(text: str, pattern: re.Pattern[str]) -> list[Finding]:
    found = pattern.search(text)
    if found is None:
        return []
    before = text[: found.start()]
    position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
    fix = "Run helm template and check what it prints: helm template . | kubectl rayservice lint -"
    return [Finding("helm-template", Severity.ERROR, (), "is a Helm template, not a manifest yet", fix, position)]
