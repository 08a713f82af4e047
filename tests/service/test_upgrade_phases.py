"""The table of upgrade phases is whole, and the documentation shows it. The simulation checks that it is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rayservice_operator.service import roll
from rayservice_operator.service.apps import Phase
from rayservice_operator.service.upgrade_phases import (
    BEGINNINGS,
    STAGES,
    TRANSITIONS,
    Stage,
    UpgradePhase,
    allowed,
    diagram,
)

PAGE = (Path(__file__).parents[2] / "docs" / "upgrades.md").read_text(encoding="utf-8")


def test_every_phase_has_a_stage_and_every_stage_a_phase() -> None:
    assert set(STAGES) == {"", *Phase, *UpgradePhase, *roll.Phase}
    assert set(STAGES.values()) == set(Stage)


def test_every_stage_can_be_reached_and_left() -> None:
    reached = {*BEGINNINGS, *(to for ways in TRANSITIONS.values() for to in ways)}
    assert reached == set(Stage)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ("", "CreatingCluster", True),
        ("CreatingCluster", "StartingHead", True),
        ("Serving", "Promoted", True),
        ("Promoted", "Removing", True),
        ("Waiting", "Promoted", False),
        ("Removing", "Promoted", False),
        ("Aborted", "Promoted", False),
        ("Announced", "Completed", False),
        ("Completed", "Aborted", False),
    ],
)
def test_ways(before: str, after: str, may: bool) -> None:
    assert allowed(before, after) is may


def test_the_page_shows_the_diagram_of_the_code() -> None:
    assert f"```mermaid\n{diagram()}```\n" in PAGE, "run make docs"


def test_no_label_ends_before_its_end() -> None:
    """A colon or a semicolon ends a label in Mermaid's grammar."""
    labels = [*BEGINNINGS.values(), *(why for ways in TRANSITIONS.values() for why in ways.values())]
    assert not any(character in label for label in labels for character in ":;")


def test_the_page_names_every_phase() -> None:
    assert {str(phase) for phase in (*UpgradePhase, *roll.Phase)} <= set(re.findall(r"\w+", PAGE))
