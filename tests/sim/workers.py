"""Processes that play simulations side by side: one for each core, ``SIM_WORKERS`` for another number."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Final

WORKERS: Final = int(os.environ.get("SIM_WORKERS", "0")) or len(os.sched_getaffinity(0))


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """New processes, not forks: what other tests left behind in this one is none of the simulation's business."""
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
