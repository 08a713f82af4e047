"""Histograms that replicas report as autoscaling metrics, and quantiles of many of them together.

Averages of quantiles mean nothing, so replicas report counts per bucket, and the quantile is taken of their sum. Ray
takes only numbers by name from ``record_autoscaling_stats``; hence one name per bucket: ``ttft_s_le_0.5``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Final

from serve_runtime.autoscaling.observation import Series

SECONDS: Final[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper bounds that suit the time to a first token and the latency of most models."""


def name_of(metric: str, bound: float) -> str:
    """The name under which a bucket is reported; ``bound`` in the metric's unit, infinity for the last one."""
    return f"{metric}_le_{bound:g}"


class Histogram:
    """Counts since the replica began, one per bucket. Not for use from several threads.

    A deployment has one, calls :meth:`observe` per request, and returns :meth:`stats` from
    ``record_autoscaling_stats``. The policy takes differences, so nothing is ever reset.
    """

    def __init__(self, metric: str, bounds: Sequence[float] = SECONDS) -> None:
        """Raises ValueError unless ``bounds`` rise strictly and are finite."""
        check_bounds(bounds)
        self._metric, self._bounds = metric, tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1

    def stats(self) -> dict[str, float]:
        """Cumulative counts by name, as Prometheus has them: a bucket holds all that is at most its bound."""
        total, found = 0, {}
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            found[name_of(self._metric, bound)] = float(total)
        return found


def check_bounds(bounds: Sequence[float]) -> None:
    """Raises ValueError unless ``bounds`` are finite, positive and rise strictly."""
    if not bounds or not all(math.isfinite(b) and b > 0 for b in bounds) or list(bounds) != sorted(set(bounds)):
        raise ValueError(f"bounds {list(bounds)} must be positive, finite and rise strictly, such as [0.1, 0.5, 1]")


def increases(series: Series, metric: str, bounds: Sequence[float]) -> list[float]:
    """By how much each cumulative bucket grew within what ``series`` holds, over all replicas; the last is the total.

    A replica with one sample only adds nothing. Reports of one replica may be torn: counts are made to rise.
    """
    grown: list[float] = []
    for bound in (*bounds, math.inf):
        by_replica = series.get(name_of(metric, bound), {})
        growth = sum(max(0.0, s[-1].value - s[0].value) for s in by_replica.values() if len(s) > 1)
        grown.append(max(growth, grown[-1] if grown else 0.0))
    return grown


def quantile(q: float, bounds: Sequence[float], cumulative: Sequence[float]) -> float:
    """The ``q`` quantile, linear within its bucket; infinity when it lies above the last bound, NaN without values."""
    total = cumulative[-1]
    if total <= 0:
        return math.nan
    rank, before, low = q * total, 0.0, 0.0
    for bound, count in zip(bounds, cumulative, strict=False):
        if count >= rank and count > before:
            return low + (bound - low) * max(rank - before, 0.0) / (count - before)
        before, low = count, bound
    return math.inf
