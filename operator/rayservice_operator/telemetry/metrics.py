"""Prometheus metrics under the names that controller dashboards already know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import platform_collector as _platform
from prometheus_client import process_collector as _process

_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
QUEUE: Final = "rayservice-operator"


class Metrics:
    """All metrics of one operator, in a registry of its own. No label carries an object's name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        _process.ProcessCollector(registry=self.registry)
        _platform.PlatformCollector(registry=self.registry)
        reg = self.registry
        self._reconciles = Counter(
            "controller_runtime_reconcile_total", "Reconciles by result", ["controller", "result"], registry=reg
        )
        self._errors = Counter(
            "controller_runtime_reconcile_errors_total", "Reconciles that failed", ["controller"], registry=reg
        )
        self._durations = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of a reconcile",
            ["controller"],
            buckets=_SECONDS,
            registry=reg,
        )
        self._requests = Counter(
            "rest_client_requests_total", "Calls to the API server", ["verb", "kind", "code"], registry=reg
        )
        self._latencies = Histogram(
            "rest_client_request_duration_seconds",
            "Time of a call to the API server (watches are left out)",
            ["verb"],
            buckets=_SECONDS,
            registry=reg,
        )
        self._reviews = Counter(
            "rayservice_operator_admission_reviews_total",
            "Writes that the webhook was asked about, by verdict",
            ["kind", "verdict"],
            registry=reg,
        )
        self._review_times = Histogram(
            "controller_runtime_webhook_latency_seconds",
            "Time of an admission review",
            ["webhook"],
            buckets=_SECONDS,
            registry=reg,
        )
        self._depth = self._gauge("workqueue_depth", "Keys that wait for a worker", "name")
        self._oldest = self._gauge("workqueue_unfinished_work_seconds", "Age of the oldest unfinished key", "name")
        self._active = self._gauge("controller_runtime_active_workers", "Workers at work", "controller")
        self._leader = self._gauge("leader_election_master_status", "1 while this process leads", "name")
        self._watch_age = self._gauge(
            "rayservice_operator_watch_age_seconds", "Time since the last sign of life of a watch", "kind"
        )
        self._lag = Gauge(
            "rayservice_operator_loop_lag_seconds", "How late the event loop runs its timers", registry=reg
        )

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """After each reconcile; ``result`` is success, requeue_after, conflict or error."""
        self._reconciles.labels(kind.lower(), result).inc()
        self._durations.labels(kind.lower()).observe(seconds)
        if result == "error":
            self._errors.labels(kind.lower()).inc()

    def requested(self, verb: str, kind: str, code: int, seconds: float) -> None:
        """After each call to the API server; code 0: no answer."""
        self._requests.labels(verb, kind, str(code or "none")).inc()
        if verb != "watch":
            self._latencies.labels(verb).observe(seconds)

    def reviewed(self, kind: str, verdict: str, seconds: float) -> None:
        """After each admission review; ``verdict`` is allowed, warned, refused or unchecked."""
        # A client that is no API server may send any kind.
        self._reviews.labels(kind if kind in {"RayService", "RayCluster"} else "other", verdict).inc()
        self._review_times.labels("/validate").observe(seconds)

    def watch_queue(
        self, depth: Callable[[], float], working: Callable[[], float], oldest: Callable[[], float]
    ) -> None:
        """Read the queue at each scrape."""
        self._depth.labels(QUEUE).set_function(depth)
        self._active.labels(QUEUE).set_function(working)
        self._oldest.labels(QUEUE).set_function(oldest)

    def watch_kind(self, kind: str, age: Callable[[], float]) -> None:
        """Read a watch's age at each scrape."""
        self._watch_age.labels(kind).set_function(age)

    def watch_process(self, leading: Callable[[], float], lag: Callable[[], float]) -> None:
        """Read leadership and loop lag at each scrape."""
        self._leader.labels(QUEUE).set_function(leading)
        self._lag.set_function(lag)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(name, text, [label], registry=self.registry)
