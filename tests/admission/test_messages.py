"""Refusals and warnings as they reach a client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.admission import messages
from rayservice_operator.admission.messages import MAX_PROBLEMS, MAX_TOTAL, MAX_WARNING, fitted
from rayservice_operator.core.findings import Finding, Severity
from rayservice_operator.core.violations import Violation

ONE = Violation("spec.a", "is wrong", "Write b")
FINDING = Finding("unknown-key", Severity.ERROR, ("spec", "serveConfigV2", "applications", 0, "nam"), "is no key", "Do")


def test_one_problem_is_one_line() -> None:
    assert messages.refusal([ONE]) == "spec.a: is wrong. Write b"


def test_several_are_a_list() -> None:
    said = messages.refusal([ONE, FINDING])
    assert said.splitlines() == [
        "2 problems:",
        "* spec.a: is wrong. Write b",
        "* spec.serveConfigV2.applications[0].nam: is no key. Do",
    ]
    assert [cause["field"] for cause in messages.causes([ONE, FINDING])] == [
        "spec.a",
        "spec.serveConfigV2.applications[0].nam",
    ]


def test_very_many_are_counted() -> None:
    many = [Violation(f"spec.a[{i}]", "is wrong", "Write b") for i in range(MAX_PROBLEMS + 3)]
    said = messages.refusal(many)
    assert said.startswith(f"{MAX_PROBLEMS + 3} problems:")
    assert said.endswith("and 3 more problems")
    causes = messages.causes(many)
    assert len(causes) == MAX_PROBLEMS + 1
    assert causes[-1]["message"] == "and 3 more problems"


def test_a_problem_with_control_characters_stays_one_line() -> None:
    said = messages.refusal([Violation("spec.a", "is\n\x1b[31mred\ud800", "Write b")])
    assert said == "spec.a: is [31mred?. Write b"


def test_short_warnings_are_left_alone() -> None:
    assert fitted(["one", "two"]) == ["one", "two"]
    assert fitted([]) == []


def test_a_long_one_goes_on_in_further_lines() -> None:
    text = " ".join(f"word{i}" for i in range(80))
    told = fitted([text])
    assert len(told) == 3
    assert "".join(line.removeprefix("  … ") + " " for line in told).strip() == text


def test_a_very_long_one_is_cut() -> None:
    told = fitted(["x" * 5000])
    assert len(told) == messages.MAX_PIECES
    assert told[-1].endswith("…")


def test_what_is_left_out_is_counted() -> None:
    told = fitted([f"{i} {'x' * 200}" for i in range(100)])
    shown = len(told) - 1
    assert told[-1].startswith(f"and {100 - shown} more: ")
    assert 15 < shown < 100


@given(st.lists(st.text(max_size=1500), max_size=60))
def test_limits_hold_for_any_text(warnings: list[str]) -> None:
    told = fitted(warnings)
    assert all(len(line.encode()) <= MAX_WARNING for line in told)
    assert sum(len(line.encode()) for line in told) <= MAX_TOTAL
    assert not any(ord(character) < 32 for line in told for character in line)
    if warnings:
        assert told


@given(st.lists(st.text(alphabet="ab c", max_size=600), max_size=30))
def test_nothing_is_lost_without_a_word(warnings: list[str]) -> None:
    told = fitted(warnings)
    assert len([line for line in told if not line.startswith("  … ")]) >= min(1, len(warnings))
    if not any(line.startswith("and ") for line in told):
        firsts = [line for line in told if not line.startswith("  … ")]
        assert len(firsts) == len(warnings)
