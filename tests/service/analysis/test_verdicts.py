"""What one measurement says of a check."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.api.analysis import MetricCheck, RequestCheck, SuccessCondition
from rayservice_operator.core.measurements import Increase, QuerySample, RequestSample, Sample, WindowSample
from rayservice_operator.service.analysis.verdicts import Outcome, Verdict, bounded, judge

SUCCESS, FAILURE, INCONCLUSIVE = Outcome.SUCCESS, Outcome.FAILURE, Outcome.INCONCLUSIVE


def verdict(check: RequestCheck | MetricCheck, what: RequestSample | QuerySample | WindowSample) -> Verdict:
    return judge(check, Sample("s", check.name, 0, 100.0, what))


def metric(condition: dict[str, Any], **serve: Any) -> MetricCheck:
    source: dict[str, Any] = {"serve": serve} if serve else {"prometheus": {"address": "http://p", "query": "up"}}
    return MetricCheck.model_validate({"name": "m", "successCondition": condition, **source})


def test_requests() -> None:
    check = RequestCheck.model_validate({"name": "r", "path": "/x"})
    good = verdict(check, RequestSample("", 200, 0.012))
    assert (good.outcome, good.message, good.value) == (SUCCESS, "GET /x: HTTP 200 after 12 ms", "HTTP 200")
    bad = verdict(check, RequestSample("pod 10.0.0.1: HTTP 500 instead of 200 to 299", 500, 0.1, attempts=3))
    assert bad.outcome is FAILURE
    assert bad.message == "GET /x: pod 10.0.0.1: HTTP 500 instead of 200 to 299 (3 attempts)"


@pytest.mark.parametrize(
    ("condition", "sample", "outcome", "says"),
    [
        ({"max": 5}, QuerySample(5.0), SUCCESS, "The value is 5"),
        ({"max": 5}, QuerySample(5.1), FAILURE, "The value is 5.1, more than 5"),
        ({"min": 0.9}, QuerySample(0.5), FAILURE, "less than 0.9"),
        ({"max": 5}, QuerySample(None), INCONCLUSIVE, "no data"),
        ({"max": 5}, QuerySample(math.nan), INCONCLUSIVE, "not a number"),
        ({"max": 5}, QuerySample(error="no answer within 10 s"), INCONCLUSIVE, "Prometheus: no answer within 10 s"),
        ({"stable": {"maxRatio": 1.2}}, QuerySample(119.0, 100.0), SUCCESS, "119, 100 on the cluster that serves"),
        (
            {"stable": {"maxRatio": 1.2}},
            QuerySample(121.0, 100.0),
            FAILURE,
            "The value is 121, more than 1.2 × 100 on the cluster that serves = 120",
        ),
        ({"stable": {"minRatio": 0.5}}, QuerySample(40.0, 100.0), FAILURE, "less than 0.5 × 100"),
        ({"stable": {"maxIncrease": 0.01}}, QuerySample(0.02, 0.0), FAILURE, "+ 0.01 = 0.01"),
        ({"stable": {"maxIncrease": 0.01}}, QuerySample(0.01, 0.0), SUCCESS, "0.01"),
        ({"stable": {"maxRatio": 1.2}}, QuerySample(1.0, None), INCONCLUSIVE, "to compare with"),
        ({"max": 500, "stable": {"maxRatio": 2}}, QuerySample(501.0, 400.0), FAILURE, "more than 500"),
    ],
)
def test_prometheus(condition: dict[str, Any], sample: QuerySample, outcome: Outcome, says: str) -> None:
    found = verdict(metric(condition), sample)
    assert found.outcome is outcome
    assert says in found.message


def window(count: float, errors: float = 0, stable: Increase | None = None, **more: Any) -> WindowSample:
    """``count`` answers, all of 10 to 20 ms."""
    return WindowSample(30.0, Increase(count, errors, {10.0: 0.0, 20.0: count, math.inf: count}), stable, **more)


LATENCY = {"type": "LatencyQuantile", "quantile": 0.5, "minimumSample": 20}
ERRORS = {"type": "ErrorRate", "minimumSample": 20}


@pytest.mark.parametrize(
    ("check", "sample", "outcome", "says"),
    [
        (metric({"max": 16}, **LATENCY), window(100), SUCCESS, "is 15 (100 observations in 30 s)"),
        (
            metric({"max": 14}, **LATENCY),
            window(100),
            FAILURE,
            "0.5 quantile of ray_serve_http_request_latency_ms is 15, ",
        ),
        (
            metric({"max": 14}, **LATENCY),
            window(19),
            INCONCLUSIVE,
            "has 19 observations in 30 s, fewer than minimumSample",
        ),
        (metric({"max": 14}, **LATENCY), WindowSample(30.0, error="cannot be read"), INCONCLUSIVE, "cannot be read"),
        (metric({"max": 0.01}, **ERRORS), window(100, 1), SUCCESS, "The error rate is 0.01"),
        (metric({"max": 0.01}, **ERRORS), window(100, 2), FAILURE, "The error rate is 0.02, more than 0.01"),
        (metric({"stable": {"maxIncrease": 0.01}}, **ERRORS), window(100, 2), INCONCLUSIVE, "the cluster that serves"),
        (
            metric({"stable": {"maxIncrease": 0.01}}, **ERRORS),
            window(100, 2, Increase(5.0)),
            INCONCLUSIVE,
            "of the cluster that serves has 5 observations",
        ),
        (metric({"stable": {"maxIncrease": 0.01}}, **ERRORS), window(100, 2, Increase(100.0, 1.0)), SUCCESS, "0.01 on"),
        (
            metric({"max": 9e9}, **LATENCY),
            WindowSample(30.0, Increase(50.0, 0, {10.0: 0.0, math.inf: 50.0})),
            FAILURE,
            "above all buckets",
        ),
        (metric({"max": 1}, **LATENCY), WindowSample(30.0, Increase(50.0)), INCONCLUSIVE, "no buckets"),
    ],
)
def test_serve_metrics(check: MetricCheck, sample: WindowSample, outcome: Outcome, says: str) -> None:
    found = verdict(check, sample)
    assert found.outcome is outcome
    assert says in found.message


def test_a_small_sample_makes_the_window_longer() -> None:
    assert verdict(metric({"max": 1}, **LATENCY), window(19)).grow
    assert not verdict(metric({"max": 1}, **LATENCY), window(20)).grow


numbers = st.floats(allow_nan=True, allow_infinity=True)
bounds = st.none() | st.floats(-1e6, 1e6)


conditions = st.fixed_dictionaries(
    {
        "max": bounds,
        "min": bounds,
        "stable": st.fixed_dictionaries({"maxRatio": bounds, "minRatio": bounds, "maxIncrease": bounds}),
    }
)


@given(numbers, st.none() | numbers, conditions)
def test_success_means_that_every_bound_is_kept(value: float, stable: float | None, raw: dict[str, Any]) -> None:
    condition = SuccessCondition.model_validate(raw)
    found = bounded("It", value, stable, condition)
    assert found.message
    if found.outcome is not SUCCESS:
        return
    assert not math.isnan(value)
    most, least, relative = condition.max, condition.min, condition.stable
    assert most is None or value <= most
    assert least is None or value >= least
    if condition.compared:
        assert stable is not None
        assert not math.isnan(stable)
        assert relative.max_ratio is None or value <= relative.max_ratio * stable
        assert relative.min_ratio is None or value >= relative.min_ratio * stable
        assert relative.max_increase is None or value <= stable + relative.max_increase
