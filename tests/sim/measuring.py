"""What an observer measures for an analysis, of simulated Serve instances (``ray.analysis`` is the real one).

An application answers as its ``import_path`` says: ``wrong:app`` with HTTP 500, ``slow:app`` late, others in 15 ms.
Each cluster has a few requests in a second, but one that serves ``quiet:app`` has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from rayservice_operator.core.measurements import (
    AnalysisOrder,
    HistogramWindow,
    Increase,
    Measure,
    PrometheusQuery,
    QuerySample,
    RequestSample,
    Sample,
    SmokeRequest,
    WindowSample,
)

TELL_S = 5.0
"""Seconds between two times that requests which succeed are told of."""

RATE = 4.0
"""Requests in a second that each cluster gets."""

Paths = Callable[[str], str]
"""Address of a pod, or text with the name of a RayCluster, to the import path that answers there; empty for nobody."""


@dataclass
class Measuring:
    """One observer's memory. It is lost with the process."""

    order: AnalysisOrder | None = None
    samples: list[Sample] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    windows: dict[str, float] = field(default_factory=dict)
    told: tuple[Sample, ...] = ()
    told_at: float = -math.inf

    def look(self, order: AnalysisOrder | None, now: float, path_of: Paths) -> tuple[Sample, ...]:
        """Everything that is due is measured; the samples that no decision has counted yet."""
        if order is None or self.order is None or order.subject != self.order.subject:
            self.taken, self.last, self.windows = {}, {}, {}
            self.samples, self.told_at = [], -math.inf
        self.order = order
        news = [self._take(order, measure, now, path_of) for measure in (order.measures if order else ())]
        if order is not None and any(news):
            self.told_at = now
            counted = {measure.check: measure.number for measure in order.measures}
            self.samples = [s for s in self.samples if s.number >= counted.get(s.check, math.inf)]
            self.told = tuple(self.samples)
        return self.told

    def _take(self, order: AnalysisOrder, measure: Measure, now: float, path_of: Paths) -> bool:
        """Whether something was measured that is told at once."""
        check, what = measure.check, measure.what
        number = self.taken[check] = max(self.taken.get(check, 0), measure.number)
        if number >= measure.end:
            return False
        if isinstance(what, HistogramWindow):
            if now < what.since:
                return False
            # The scrape that it begins with, if it is still remembered, else one of now.
            begun = self.windows.setdefault(check, now)
            if begun < what.since:
                begun = self.windows[check] = now if self.last.get(check, 0.0) < what.since else self.last[check]
            if now < max(measure.not_before, begun + measure.interval_s):
                return False
            sample = Sample(order.subject, check, number, now, _window(order, what, now - begun, path_of))
        else:
            if now < max(measure.not_before, self.last.get(check, 0.0) + measure.interval_s):
                return False
            made = _request(order, what, path_of) if isinstance(what, SmokeRequest) else _query(what, path_of)
            sample = Sample(order.subject, check, number, now, made)
        self.samples.append(sample)
        self.taken[check] = number + 1
        self.last[check] = now
        routine = isinstance(sample.what, RequestSample) and not sample.what.problem and number + 1 < measure.end
        return not routine or now >= self.told_at + TELL_S


def _request(order: AnalysisOrder, what: SmokeRequest, path_of: Paths) -> RequestSample:
    path = path_of(order.proxies[0][0]) if order.proxies else ""
    if not path:
        return RequestSample("no answer", attempts=what.retries + 1)
    if path.startswith("wrong"):
        return RequestSample("HTTP 500 instead of 200 to 299", 500, 0.015, what.retries + 1)
    return RequestSample("", 200, 0.9 if path.startswith("slow") else 0.015)


def _query(what: PrometheusQuery, path_of: Paths) -> QuerySample:
    def value(query: str | None) -> float | None:
        path = path_of(query) if query else ""
        return None if not path or path.startswith("quiet") else 900.0 if path.startswith("slow") else 15.0

    return QuerySample(value(what.candidate), value(what.stable))


def _window(order: AnalysisOrder, what: HistogramWindow, seconds: float, path_of: Paths) -> WindowSample:
    def added(addresses: tuple[tuple[str, int], ...]) -> Increase | None:
        path = next((found for address, _ in addresses if (found := path_of(address))), "")
        if not path:
            return None
        count = 0.0 if path.startswith("quiet") else RATE * seconds
        fast = 0.0 if path.startswith("slow") else count
        errors = count if path.startswith("wrong") else 0.0
        return Increase(count, errors, {10.0: 0.0, 20.0: fast, 500.0: fast, 1000.0: count, math.inf: count})

    candidate = added(order.candidate)
    if candidate is None:
        return WindowSample(seconds, error="the metrics of the new cluster's pods cannot be read")
    return WindowSample(seconds, candidate, added(order.stable) if what.stable else None)
