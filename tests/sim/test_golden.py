"""What the operator does in the most common histories, written down to be read.

``UPDATE_GOLDEN=1 pytest tests/sim/test_golden.py`` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, new

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    "name",
    [
        "create",
        "hot_update",
        "upgrade",
        "suspend_resume",
        "head_death",
        "failed_update",
        "recovered",
        "update_that_falls_ill",
        "upgrade_given_up",
        "in_steps",
        "recreated",
        "in_place",
        "in_place_stuck",
        "upgrade_without_room",
        "analysis_passed",
        "analysis_failed",
        "in_place_head",
    ],
)
def test_transcript(name: str) -> None:
    everything = new(*SCENARIOS[name])
    Orderly(everything).finish(idle_s=40.0)
    got = everything.transcript.text()
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(got)
    assert got == path.read_text(), f"{name} goes another way; UPDATE_GOLDEN=1 writes the new one"
