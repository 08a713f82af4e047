"""What the application measures, in Ray Serve's metrics. Ray adds application, deployment and replica, and ``ray_``."""

from __future__ import annotations

from typing import Final

from ray.serve import metrics

PREFIX: Final = "serve_runtime_tasks"
SECONDS: Final = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0]


class ConsumerMeters:
    """One set for each consumer."""

    def __init__(self) -> None:
        self.wait = metrics.Histogram(f"{PREFIX}_wait_seconds", "In the queue.", SECONDS, ("handler",))
        self.run = metrics.Histogram(f"{PREFIX}_run_seconds", "One run.", SECONDS, ("handler", "outcome"))

    def note(self, handler: str, outcome: str, waited_s: float, ran_s: float) -> None:
        """After each run."""
        self.wait.observe(waited_s, {"handler": handler})
        self.run.observe(ran_s, {"handler": handler, "outcome": outcome})


class IngressMeters:
    """One set for each ingress replica; ``count`` is the same from each of them, so take the maximum."""

    def __init__(self) -> None:
        self.submitted = metrics.Counter(f"{PREFIX}_submitted", "Tasks by outcome.", ("handler", "outcome"))
        self.count = metrics.Gauge(f"{PREFIX}_count", "Tasks in a state now.", ("state",))
        self.again = metrics.Counter(f"{PREFIX}_published_again", "Tasks given a message again.", ("why",))
        self.up = metrics.Gauge(f"{PREFIX}_broker_up", "1 while broker and store answer.")
