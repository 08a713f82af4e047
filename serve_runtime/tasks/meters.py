"""What the application measures; :mod:`serve_runtime.observe.meters` says how."""

from __future__ import annotations

from typing import Final

from serve_runtime.observe.meters import Family

APPLICATION: Final = "tasks"
SECONDS: Final = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0]
"""Tasks wait and run for longer than requests do."""


class ConsumerMeters:
    """One set for each consumer."""

    def __init__(self) -> None:
        family = Family(APPLICATION)
        self.wait = family.histogram("wait_seconds", "In the queue.", ("handler",), SECONDS)
        self.run = family.histogram("run_seconds", "One run.", ("handler", "outcome"), SECONDS)

    def note(self, handler: str, outcome: str, waited_s: float, ran_s: float) -> None:
        """After each run."""
        self.wait.observe(waited_s, {"handler": handler})
        self.run.observe(ran_s, {"handler": handler, "outcome": outcome})


class IngressMeters:
    """One set for each ingress replica; ``count`` is the same from each of them, so take the maximum."""

    def __init__(self) -> None:
        family = Family(APPLICATION)
        self.submitted = family.counter("submitted", "Tasks by outcome.", ("handler", "outcome"))
        self.count = family.gauge("count", "Tasks in a state now.", ("state",))
        self.again = family.counter("published_again", "Tasks given a message again.", ("why",))
        self.up = family.gauge("broker_up", "1 while broker and store answer.", ())
