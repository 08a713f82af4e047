"""Each history of ``scenarios`` in good order: the invariants hold, it settles, and then nothing is written."""

from __future__ import annotations

import pytest

from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, new


@pytest.mark.parametrize("name", SCENARIOS)
def test_settles(name: str) -> None:
    everything = new(*SCENARIOS[name])
    Orderly(everything).finish()
