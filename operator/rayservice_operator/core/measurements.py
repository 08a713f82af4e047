"""What is to be measured of a cluster that is analysed before it takes over, and what was measured.

A decision orders measurements (:class:`AnalysisOrder`, a part of ``ObserveTarget``), the observer of that cluster
takes them and keeps the raw samples (:class:`Sample`, a part of ``ServeObservation``); the verdict is the next
decision's. Measurements of a check are numbered from 0, so that each counts once, whoever took it. Times are epoch
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
"""IP address and port of a pod."""


@dataclass(frozen=True, slots=True)
class SmokeRequest:
    """One HTTP request. ``status`` None takes any 2xx; ``json`` is the JSON text that the answer must contain.

    ``retries`` is how often it is sent again, to the next pod, when the answer is not the expected one.
    """

    method: str
    path: str
    host: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    status: int | None = None
    json: str | None = None
    timeout_s: float = 10.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class PrometheusQuery:
    """Instant queries for the candidate and, where it is compared, for the cluster that serves, at one moment."""

    address: str
    candidate: str
    stable: str | None = None
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class HistogramWindow:
    """How much a histogram that the pods export grew between two scrapes, the first one not before ``since``.

    family: its name without ``_bucket``. labels: that series must have to count. stable: whether it is measured on
    the cluster that serves, too.
    """

    family: str
    since: float
    labels: tuple[tuple[str, str], ...] = ()
    stable: bool = False


Measurable: TypeAlias = SmokeRequest | PrometheusQuery | HistogramWindow


@dataclass(frozen=True, slots=True)
class Measure:
    """The measurements of one check that are wanted: numbers from ``number`` to before ``end``.

    The first one is taken not before ``not_before``, each other ``interval_s`` after the one before it; a window
    lasts at least ``interval_s``.
    """

    check: str
    number: int
    end: int
    not_before: float
    interval_s: float
    what: Measurable


@dataclass(frozen=True, slots=True)
class AnalysisOrder:
    """All that is to be measured of one candidate.

    subject: what the samples are about (a hash of candidate, serve config and analysis); samples of another one
        count for nothing.
    proxies: Serve's HTTP proxies on ready pods of the candidate. candidate, stable: where the pods of both clusters
        export their metrics.
    """

    subject: str
    measures: tuple[Measure, ...]
    proxies: tuple[Address, ...] = ()
    candidate: tuple[Address, ...] = ()
    stable: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSample:
    """What came of a smoke request: ``problem`` is empty for the expected answer. Of the last of ``attempts``."""

    problem: str
    status: int | None = None
    seconds: float = 0.0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class QuerySample:
    """Values of a Prometheus query, None where it has no data. ``error``: why there is no answer."""

    candidate: float | None = None
    stable: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Increase:
    """What was added to a histogram, over all pods: observations, those of HTTP 5xx answers, cumulative buckets.

    ``buckets`` maps upper bounds (``inf`` for the last) to how many observations are not above them.
    """

    count: float
    errors: float = 0.0
    buckets: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WindowSample:
    """Increases on both clusters between the same two scrapes. ``stable`` None: not asked for, or not to be had.

    ``ended``: epoch seconds of the second scrape, where the next window begins; 0 without one.
    """

    seconds: float
    candidate: Increase | None = None
    stable: Increase | None = None
    error: str = ""
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. ``at`` is when it ended."""

    subject: str
    check: str
    number: int
    at: float
    what: RequestSample | QuerySample | WindowSample
