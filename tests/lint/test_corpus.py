"""Each planted fault is found, by its rule and in its place, and nothing else is; manifests as users write them, and
the project's own, have nothing to be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rayservice_operator.core.findings import Finding, Severity
from rayservice_operator.lint import BY_NAME, lint_text

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
FAULTS = sorted((DATA / "lint" / "faults").glob("*.yaml"))
CLEAN = sorted((DATA / "lint" / "clean").glob("*.yaml"))
OURS = sorted([*(ROOT / "examples").glob("*.yaml"), *(DATA / "manifests").glob("*.yaml")])

# The first of KubeRay's samples ends Ray itself when a pod goes, which keeps the operator from draining it.
REALLY_THERE = {"01-two-applications": ["own-prestop-hook"]}


def described(finding: Finding) -> str:
    position = finding.position
    place = f"{position.line}:{position.column}" if position else "?"
    return f"{finding.rule} {place}"


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(FAULTS) >= 60
    assert len(CLEAN) >= 15


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: path.stem)
def test_the_planted_fault_is_found_and_no_other(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = re.match(r"# expect: (.+)\n", text)
    assert expected is not None
    findings = lint_text(text, path.name)
    assert [described(finding) for finding in findings if finding.severity is not Severity.HINT] + [
        described(finding) for finding in findings if finding.severity is Severity.HINT
    ] == [expected[1]], "\n".join(f"{described(f)} {f.problem}" for f in findings)


def test_every_rule_has_a_planted_fault() -> None:
    planted = {path.read_text(encoding="utf-8").split()[2] for path in FAULTS}
    assert set(BY_NAME) - planted == set()


@pytest.mark.parametrize("path", [*CLEAN, *OURS], ids=lambda path: path.stem)
def test_what_is_right_has_no_finding(path: Path) -> None:
    findings = lint_text(path.read_text(encoding="utf-8"), path.name)
    told = [f"{described(f)} {f.problem}" for f in findings]
    assert [f.rule for f in findings] == REALLY_THERE.get(path.stem, []), "\n".join(told)
