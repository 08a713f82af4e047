"""Metrics in the house's form, through Ray Serve's: histograms in seconds or sizes, with the same bounds unless said.

Ray adds application, deployment, replica, and the prefix ``ray_``. Quantiles come from buckets; Ray's sums are rebuilt
from bucket midpoints and say little.
"""

from __future__ import annotations

from typing import Any, Final

from ray.serve import metrics

SECONDS: Final = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]


class Family:
    """The metrics of one application: ``serve_runtime_{application}_{name}``. One for each replica."""

    def __init__(self, application: str) -> None:
        self._prefix = f"serve_runtime_{application}"

    def histogram(self, name: str, about: str, tags: tuple[str, ...], bounds: list[float] = SECONDS) -> Any:
        """``bounds``: :data:`SECONDS`, :data:`SIZES`, or what takes longer than a request has of its own."""
        return metrics.Histogram(f"{self._prefix}_{name}", about, bounds, tags)

    def gauge(self, name: str, about: str, tags: tuple[str, ...]) -> Any:
        """What is now."""
        return metrics.Gauge(f"{self._prefix}_{name}", about, tags)

    def counter(self, name: str, about: str, tags: tuple[str, ...]) -> Any:
        """What has been; Prometheus sees ``_total`` behind the name."""
        return metrics.Counter(f"{self._prefix}_{name}", about, tags)
