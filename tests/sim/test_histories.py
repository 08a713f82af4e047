"""Random histories: whatever is edited, breaks, is killed or comes late, the invariants hold and all comes right.

``SIM_HISTORIES`` is how many (300), ``SIM_SEED`` the first seed (0). A failure names its seed:
``SIM_SEED=<seed> SIM_HISTORIES=1 pytest tests/sim/test_histories.py`` plays it again.
"""

from __future__ import annotations

import os

import pytest

from tests.sim.histories import History, play

COUNT = int(os.environ.get("SIM_HISTORIES", "300"))
FIRST = int(os.environ.get("SIM_SEED", "0"))
BATCH = 10


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, BATCH))
def test_histories(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIRST + COUNT)):
        play(seed)


def test_a_seed_is_one_history() -> None:
    texts = set()
    for _ in range(2):
        history = History(7, steps=150)
        history.run()
        texts.add(history.everything.transcript.text())
    assert len(texts) == 1
