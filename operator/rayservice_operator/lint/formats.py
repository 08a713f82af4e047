"""Findings for programs: JSON of a stable shape, and SARIF 2.1.0 for code-scanning views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from rayservice_operator.api.specerror import field_path
from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.lint.rule import Rule
from rayservice_operator.lint.table import BY_NAME

JSON_VERSION: Final = 1
"""Of the shape below. Keys are only ever added to it."""

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "note"}


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in one file, in the order of their places. ``name`` as the user gave it; ``text`` is its text."""

    name: str
    text: str
    findings: tuple[Finding, ...]


def count(reports: Sequence[Report]) -> Mapping[Severity, int]:
    """Findings of each severity."""
    found = [finding.severity for report in reports for finding in report.findings]
    return {severity: found.count(severity) for severity in Severity}


def field(path: Path) -> str:
    """What a message is about, short: the last key, with the indexes behind it (``deployments[0]``)."""
    names = [index for index, part in enumerate(path) if isinstance(part, str)]
    return field_path(path[names[-1] :]).removeprefix("[") if names else "The file"


def sentence(finding: Finding) -> str:
    """``num_gpus: asks for 2 GPUs on one node, but no group has any. Give a worker group …``."""
    return f"{field(finding.path)}: {finding.problem}. {finding.fix}"


def told(finding: Finding) -> str:
    """The same with the whole path and the rule, for where no file is shown."""
    return f"{field_path(finding.path)}: {finding.problem}. {finding.fix} [{finding.rule}]"


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """``{"version", "findings": [{file, line, column, severity, rule, path, problem, fix}], "summary"}``.

    ``line`` and ``column`` count from 1 and are null where there is no place.
    """
    return {
        "version": JSON_VERSION,
        "findings": [
            {
                "file": report.name,
                "line": finding.position.line if finding.position else None,
                "column": finding.position.column if finding.position else None,
                "severity": str(finding.severity),
                "rule": finding.rule,
                "path": field_path(finding.path),
                "problem": finding.problem,
                "fix": finding.fix,
            }
            for report in reports
            for finding in report.findings
        ],
        "summary": {"files": len(reports), **{str(severity): n for severity, n in count(reports).items()}},
    }


def as_sarif(reports: Sequence[Report], version: str) -> dict[str, Any]:
    """One run of the tool. Rules that found something are described; ``version`` is the operator's."""
    used = sorted({finding.rule for report in reports for finding in report.findings})
    index = {name: number for number, name in enumerate(used)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "rayservice-lint",
                        "version": version,
                        "rules": [_descriptor(name, BY_NAME.get(name)) for name in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(report, finding, index[finding.rule]) for report in reports for finding in report.findings
                ],
            }
        ],
    }


def _descriptor(name: str, rule: Rule | None) -> dict[str, Any]:
    if rule is None:
        return {"id": name}
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(report: Report, finding: Finding, index: int) -> dict[str, Any]:
    # "-" is what was piped in; everything else is a path.
    uri = "stdin" if report.name == "-" else quote(report.name.replace("\\", "/"))
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if finding.position:
        physical["region"] = {"startLine": finding.position.line, "startColumn": finding.position.column}
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": sentence(finding)},
        "locations": [
            {
                "physicalLocation": physical,
                "logicalLocations": [{"fullyQualifiedName": field_path(finding.path)}],
            }
        ],
    }
