"""The measurements of an analysis against a real head: requests get through, and what they took is in its metrics."""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest

from rayservice_operator.core.measurements import (
    AnalysisOrder,
    HistogramWindow,
    Measure,
    RequestSample,
    Sample,
    SmokeRequest,
    WindowSample,
)
from rayservice_operator.serveconfig.canonical import parse
from rayservice_operator.service.analysis.windows import quantile
from tests.fakes.serve_metrics import BOUNDS, FAMILY
from tests.ray import real_ray
from tests.ray.conftest import KEY, Watcher
from tests.ray.test_observer_against_real import CONFIG, deployed, target

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

COUNT = 30


async def test_requests_and_their_latencies(watcher: Watcher) -> None:
    with real_ray.running() as ray:
        wanted = target(ray, "hello")
        watcher.pool.sync(KEY, (wanted,))
        config = parse(CONFIG.format(port=ray.serve_port, greeting="hello"))
        assert wanted.push is not None
        assert config is not None
        await watcher.until(functools.partial(deployed, watcher, ray, wanted.push, config))
        smoke = SmokeRequest("GET", "/slow?seconds=0.03", "demo:8000", json='{"greeting": "hello"}')
        metrics = AnalysisOrder(
            "s",
            (
                # Ray exports about every ten seconds.
                Measure("latency", 0, 1, 0.0, 25.0, HistogramWindow(FAMILY, 0.0, (("application", "greeter"),))),
                Measure("smoke", 0, COUNT, 0.0, 0.1, smoke),
            ),
            proxies=(("127.0.0.1", ray.serve_port),),
            candidate=(("127.0.0.1", ray.metrics_port),),
        )
        watcher.pool.sync(KEY, (dataclasses.replace(wanted, analysis=metrics),))

        def measured(check: str) -> list[Sample]:
            ray.check()
            return [sample for sample in watcher.see().samples if sample.check == check]

        await watcher.until(lambda: len(measured("smoke")) == COUNT)
        assert all(
            isinstance(s.what, RequestSample) and (s.what.problem, s.what.status) == ("", 200)
            for s in measured("smoke")
        )
        await watcher.until(lambda: bool(measured("latency")))
        (sample,) = measured("latency")
        assert isinstance(sample.what, WindowSample)
        found = sample.what.candidate
        assert found is not None
        assert (found.count, found.errors) == (COUNT, 0)
        assert list(found.buckets) == [*map(float, BOUNDS), math.inf], "the fake has Ray's buckets"
        median = quantile(0.5, found.buckets)
        assert median is not None
        assert median >= 20
