"""What the application measures, in Ray Serve's metrics: histograms in seconds, labelled by model and outcome.

Ray adds application, deployment, replica and route, and the prefix ``ray_``. Quantiles come from buckets; Ray's
sums are rebuilt from bucket midpoints and say little.
"""

from __future__ import annotations

from typing import Any, Final

from ray.serve import metrics

SECONDS: Final = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]
PREFIX: Final = "serve_runtime_predictor"


class Meters:
    """One set for each replica. Label ``model`` is empty where there is one; ids that are not listed are «other»."""

    def __init__(self) -> None:
        def histogram(name: str, about: str, tags: tuple[str, ...], bounds: list[float] = SECONDS) -> Any:
            return metrics.Histogram(f"{PREFIX}_{name}", about, bounds, tags)

        self.request = histogram("request_seconds", "From the body to the answer.", ("model", "outcome"))
        self.wait = histogram("wait_seconds", "Waiting for a batch or a thread.", ("model",))
        self.compute = histogram("compute_seconds", "In the predictor's own code.", ("model",))
        self.batch = histogram("batch_size", "Requests computed in one call.", ("model",), SIZES)
        self.first = histogram("first_item_seconds", "From the body to a stream's first item.", ("model",))
        self.gap = histogram("item_gap_seconds", "Between two items of a stream.", ("model",))
        self.load = histogram("model_load_seconds", "Constructing a model.", ("model", "outcome"))
        self.ill = metrics.Gauge(f"{PREFIX}_model_ill", "1 while a model's health check fails.", ("model",))
