"""Arithmetic on histograms: what was added between two scrapes, and a quantile of it.

Counters only grow, and begin at 0 with the process that exports them. So a series that was not there at the first
scrape began after it; one that became smaller belongs to a process that was restarted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from rayservice_operator.core.measurements import Address, Increase

Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]
"""Name as exported (``x_bucket``, ``x_count``) and labels."""

Exported: TypeAlias = Mapping[Series, float]

STATUS: Final = "status_code"
"""Label of the HTTP status in Serve's metrics (Ray 2.60)."""

APPLICATION: Final = "application"
"""Label of the application; empty for what none of them answers: health checks (503 while there is no route), 404."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What the pods of one cluster exported; None for a pod that did not answer. ``at``: when it was begun."""

    at: float
    pods: Mapping[Address, Exported | None]


def increase(first: Scrape, last: Scrape, family: str, labels: tuple[tuple[str, str], ...]) -> Increase | None:
    """What was added to a histogram between two scrapes of a cluster; None when no pod was seen by both.

    Of series with the label ``application``, only those of an application count, unless ``labels`` ask for the others.

    A pod that was not asked at the first scrape is a new one: all that it has counted was counted since.
    """
    wanted = frozenset(labels)
    of_nobody = (APPLICATION, "")
    count = errors = 0.0
    buckets: defaultdict[float, float] = defaultdict(float)
    seen = False
    for pod, exported in last.pods.items():
        before = first.pods.get(pod, {})
        if exported is None or before is None:
            continue
        seen = True
        for series, value in exported.items():
            name, given = series
            if not wanted <= given or (of_nobody in given and of_nobody not in wanted):
                continue
            earlier = before.get(series, 0.0)
            added = value - earlier if value >= earlier else value
            if name == f"{family}_count":
                count += added
                errors += added if dict(given).get(STATUS, "").startswith("5") else 0.0
            elif name == f"{family}_bucket":
                bound = _bound(dict(given).get("le", ""))
                if bound is not None:
                    buckets[bound] += added
    return Increase(count, errors, dict(sorted(buckets.items()))) if seen else None


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """The ``q``-quantile, from 0 to 1, of cumulative buckets; interpolated inside a bucket as PromQL does.

    None without observations. ``inf`` where it is above the highest finite bound: how much nobody knows. (PromQL gives
    the highest bound, which would let a value pass that is above it.)
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        # Scrapes of several pods are not quite of one moment; a bucket never has less than the one below it.
        cumulative = max(buckets[bound], below)
        if cumulative >= rank and cumulative > below:
            if math.isinf(bound):
                return math.inf
            floor = min(lower, bound)
            return floor + (bound - floor) * max(0.0, rank - below) / (cumulative - below)
        lower, below = bound, cumulative
    return math.inf


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
