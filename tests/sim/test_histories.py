"""Random histories: whatever is edited, breaks, is killed or comes late, the invariants hold and all comes right.

``SIM_HISTORIES`` is how many (2,400), ``SIM_SEED`` the first seed (0), ``SIM_WORKERS`` how many processes play them
(one for each core). A failure names its seed: ``SIM_SEED=<seed> SIM_HISTORIES=1 pytest tests/sim/test_histories.py``
plays it again.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from concurrent.futures import as_completed

import pytest

from tests.sim.histories import History, play
from tests.sim.workers import WORKERS, workers

COUNT = int(os.environ.get("SIM_HISTORIES", "2400"))
FIRST = int(os.environ.get("SIM_SEED", "0"))
BATCH = 20
TOLD = 3
"""So many seeds that fail are shown, then the rest is left."""


@pytest.mark.timeout(0)
def test_histories() -> None:
    failures: list[str] = []
    for told in _played(range(FIRST, FIRST + COUNT)):
        failures += told
        if len(failures) >= TOLD:
            break
    if failures:
        pytest.fail("\n\n".join(failures[:TOLD]), pytrace=False)


def _played(seeds: range) -> Iterator[list[str]]:
    """What went wrong in each batch, as it is done; few seeds are played here, where a debugger reaches them."""
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    if len(batches) == 1 or WORKERS == 1:
        yield from map(_batch, batches)
        return
    with workers() as pool:
        for future in as_completed([pool.submit(_batch, batch) for batch in batches]):
            yield future.result()


def _batch(seeds: range) -> list[str]:
    """The story of each seed that fails."""
    logging.disable(logging.CRITICAL)
    failures: list[str] = []
    try:
        for seed in seeds:
            try:
                play(seed)
            except BaseException as error:  # invariants and bugs of the operator are no Exceptions
                again = f"SIM_SEED={seed} SIM_HISTORIES=1 pytest tests/sim/test_histories.py"
                failures.append(f"{again}\n{''.join(traceback.format_exception(error))}")
    finally:
        logging.disable(logging.NOTSET)
    return failures


def test_a_seed_is_one_history() -> None:
    texts = set()
    for _ in range(2):
        history = History(7, steps=150)
        history.run()
        texts.add(history.everything.transcript.text())
    assert len(texts) == 1
