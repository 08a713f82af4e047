"""Increases between scrapes and quantiles of buckets."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rayservice_operator.core.measurements import Address
from rayservice_operator.service.analysis.windows import Exported, Scrape, Series, increase, quantile

BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, math.inf)
POD: Address = ("10.0.0.1", 8080)
OTHER: Address = ("10.0.0.2", 8080)


def buckets(values: list[float], bounds: tuple[float, ...] = BOUNDS) -> dict[float, float]:
    """Cumulative buckets as a histogram that observed these values exports them."""
    return {bound: float(sum(value <= bound for value in values)) for bound in bounds}


def exported(values: list[float], code: str = "200", **labels: str) -> dict[Series, float]:
    """The histogram ``h`` of one process."""
    common = {"status_code": code, **labels}
    series: dict[Series, float] = {("h_count", frozenset(common.items())): float(len(values))}
    for bound, count in buckets(values).items():
        le = "+Inf" if math.isinf(bound) else str(bound)
        series["h_bucket", frozenset({**common, "le": le}.items())] = count
    return series


def scrape(at: float = 0.0, **pods: Exported | None) -> Scrape:
    return Scrape(at, {{"pod": POD, "other": OTHER}[name]: seen for name, seen in pods.items()})


# --- quantiles


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, {1.0: 0, 2.0: 10, math.inf: 10}, 1.5),
        (0.95, {1.0: 50, 2.0: 100, math.inf: 100}, 1.9),
        (0.5, {10.0: 4, math.inf: 4}, 5.0),
        (0.99, {10.0: 90, math.inf: 100}, math.inf),  # above what the buckets can tell
        (0.9, {10.0: 90, math.inf: 100}, 10.0),
        (0.5, {math.inf: 0}, None),
        (0.5, {}, None),
        (0.5, {1.0: 5, 2.0: 4, math.inf: 5}, 0.5),  # scrapes of different moments: not quite cumulative
        (0.5, {5.0: 10.0}, 2.5),  # no +Inf
    ],
)
def test_quantile(q: float, counts: dict[float, float], expected: float | None) -> None:
    found = quantile(q, counts)
    assert found == expected or (found is not None and expected is not None and found == pytest.approx(expected))


values = st.lists(st.floats(0.0, 200.0), min_size=1, max_size=60)
quantiles = st.floats(0.001, 0.999)


@given(values, quantiles)
def test_quantile_is_in_the_bucket_of_the_true_one(observed: list[float], q: float) -> None:
    rank = q * len(observed)
    assume(abs(rank - round(rank)) > 1e-6)  # at the edge of a bucket the last digit decides
    true = sorted(observed)[math.ceil(rank) - 1]
    upper = BOUNDS[bisect_left(BOUNDS, true)]
    lower = max((bound for bound in BOUNDS if bound < upper), default=0.0)
    found = quantile(q, buckets(observed))
    assert found is not None
    assert found == math.inf if math.isinf(upper) else lower <= found <= upper


@given(values, quantiles, quantiles)
def test_quantile_grows_with_q(observed: list[float], one: float, two: float) -> None:
    low, high = (quantile(q, buckets(observed)) for q in sorted((one, two)))
    assert low is not None
    assert high is not None
    assert low <= high or low == pytest.approx(high)


@given(values, quantiles, st.integers(1, 50))
def test_quantile_does_not_depend_on_how_many_there_are(observed: list[float], q: float, times: int) -> None:
    rank = q * len(observed)
    assume(abs(rank - round(rank)) > 1e-6)  # at the edge of a bucket the last digit decides
    once = quantile(q, buckets(observed))
    often = quantile(q, {bound: count * times for bound, count in buckets(observed).items()})
    assert once == often or once == pytest.approx(often)


@given(st.dictionaries(st.sampled_from(BOUNDS), st.floats(0, 1e6), max_size=8), quantiles)
def test_quantile_of_anything_is_a_bound_or_between(counts: dict[float, float], q: float) -> None:
    found = quantile(q, counts)
    assert found is None or found >= 0


# --- increases


@given(values, values)
def test_increase_is_what_was_observed_between(before: list[float], between: list[float]) -> None:
    found = increase(scrape(pod=exported(before)), scrape(pod=exported(before + between)), "h", ())
    assert found is not None
    assert found.count == len(between)
    assert found.buckets == buckets(between)
    assert found.errors == 0


@given(values, values)
def test_a_restarted_process_has_counted_all_it_tells(before: list[float], since: list[float]) -> None:
    found = increase(scrape(pod=exported(before)), scrape(pod=exported(since)), "h", ())
    assert found is not None
    if len(since) < len(before):
        assert found.count == len(since)


def test_a_series_or_a_pod_that_was_not_there_begins_at_zero() -> None:
    found = increase(scrape(pod={}), scrape(pod=exported([3.0]), other=exported([7.0, 8.0], code="500")), "h", ())
    assert found is not None
    assert (found.count, found.errors) == (3, 2)
    assert found.buckets == buckets([3.0, 7.0, 8.0])


def test_a_pod_that_did_not_answer_is_left_out() -> None:
    first, last = scrape(pod=None, other=exported([1.0])), scrape(pod=exported([9.0] * 9), other=exported([1.0, 2.0]))
    found = increase(first, last, "h", ())
    assert found is not None
    assert found.count == 1
    assert increase(scrape(pod=None), scrape(pod=exported([1.0])), "h", ()) is None
    assert increase(scrape(pod={}), scrape(pod=None), "h", ()) is None


def test_what_no_application_answered_does_not_count() -> None:
    """Health checks: a proxy answers them with 503 until it has a route."""
    both = {**exported([1.0], code="503", application=""), **exported([2.0], application="a")}
    found = increase(scrape(pod={}), scrape(pod=both), "h", ())
    assert found is not None
    assert (found.count, found.errors, found.buckets) == (1, 0, buckets([2.0]))
    asked = increase(scrape(pod={}), scrape(pod=both), "h", (("application", ""),))
    assert asked is not None
    assert (asked.count, asked.errors) == (1, 1)


def test_only_series_with_the_labels_count() -> None:
    both = {**exported([1.0], application="a"), **exported([2.0, 3.0], application="b")}
    found = increase(scrape(pod={}), scrape(pod=both), "h", (("application", "b"),))
    assert found is not None
    assert found.count == 2
    assert increase(scrape(pod={}), scrape(pod=both), "g", ()) is not None, "no such histogram is no observation"
