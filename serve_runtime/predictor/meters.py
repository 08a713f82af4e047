"""What the application measures, labelled by model and outcome; :mod:`serve_runtime.observe.meters` says how."""

from __future__ import annotations

from typing import Final

from serve_runtime.observe.meters import SIZES, Family

APPLICATION: Final = "predictor"


class Meters:
    """One set for each replica. Label ``model`` is empty where there is one; ids that are not listed are «other»."""

    def __init__(self) -> None:
        family = Family(APPLICATION)
        self.request = family.histogram("request_seconds", "From the body to the answer.", ("model", "outcome"))
        self.wait = family.histogram("wait_seconds", "Waiting for a batch or a thread.", ("model",))
        self.compute = family.histogram("compute_seconds", "In the predictor's own code.", ("model",))
        self.batch = family.histogram("batch_size", "Requests computed in one call.", ("model",), SIZES)
        self.first = family.histogram("first_item_seconds", "From the body to a stream's first item.", ("model",))
        self.gap = family.histogram("item_gap_seconds", "Between two items of a stream.", ("model",))
        self.load = family.histogram("model_load_seconds", "Constructing a model.", ("model", "outcome"))
        self.cache = family.counter(
            "model_lookups", "Requests that found their model loaded, or not.", ("model", "found")
        )
        self.ill = family.gauge("model_ill", "1 while a model's health check fails.", ("model",))
