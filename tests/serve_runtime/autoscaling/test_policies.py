"""What each policy decides, as properties and by example."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_runtime.autoscaling import (
    Decision,
    Histogram,
    Max,
    Observation,
    Policy,
    Predictive,
    PrefillDecode,
    QueueDepth,
    Schedule,
    Slo,
    Window,
    buckets,
    policies,
)
from serve_runtime.autoscaling.observation import Point, Sample

replicas = st.integers(min_value=0, max_value=200)
loads = st.floats(min_value=0, max_value=1e6)


def reported(
    before: Sequence[float], after: Sequence[float], replica: str = "r1"
) -> dict[str, dict[str, list[Sample]]]:
    """The series of a replica that has measured ``before``, and then ``after`` within the look-back period."""
    histogram = Histogram("ttft_s")
    for value in before:
        histogram.observe(value)
    old = histogram.stats()
    for value in after:
        histogram.observe(value)
    return {name: {replica: [Point(0, old[name]), Point(30, now)]} for name, now in histogram.stats().items()}


def observation(**fields: Any) -> Observation:
    return Observation(**{"now": 1000.0, "current": 4, "target": 4, "most": 100, **fields})


# Queue depth


@settings(deadline=None)
@given(current=replicas, ongoing=loads, per_replica=st.floats(min_value=0.1, max_value=1000))
def test_queue_depth_is_the_fewest_replicas_that_hold_the_load(
    current: int, ongoing: float, per_replica: float
) -> None:
    policy = QueueDepth(per_replica=per_replica, tolerance=0.0)
    wanted = policy.decide(observation(target=current, ongoing=ongoing), {}).replicas
    assert wanted is not None
    assert wanted * per_replica >= ongoing - per_replica * 1e-5
    assert wanted == 0 or (wanted - 1) * per_replica < ongoing


def test_queue_depth_leaves_small_differences_alone() -> None:
    policy = QueueDepth(per_replica=10, tolerance=0.1)
    assert policy.decide(observation(target=20, ongoing=215), {}).replicas == 20
    assert policy.decide(observation(target=20, ongoing=225), {}).replicas == 23


def test_queue_depth_sums_a_metric_and_keeps_the_replicas_when_nobody_reports() -> None:
    policy = QueueDepth(per_replica=2, metric="waiting")
    series = {"waiting": {"a": [Point(1, 9.0), Point(2, 3.0)], "b": [Point(2, 8.0)], "c": [Point(2, math.nan)]}}
    assert policy.metrics() == {"waiting"}
    assert policy.decide(observation(series=series), {}).replicas == 6
    assert policy.decide(observation(), {}) == Decision(None, reason="no replica reported waiting")


# Latency


def test_a_missed_target_adds_in_proportion_but_not_more_than_max_step() -> None:
    policy = Slo(target_s=1.0, max_step=2.0)
    at_most_1_5 = reported([0.1] * 500, [1.4] * 100)
    far_away = reported([0.1] * 500, [60.0] * 100)
    assert policy.decide(observation(ongoing=9, series=at_most_1_5), {}).replicas == 6
    assert policy.decide(observation(ongoing=9, series=far_away), {}).replicas == 8


def test_room_takes_one_replica_away() -> None:
    fast = reported([9.0] * 500, [0.1] * 100)  # what was slow before the window does not count
    assert Slo(target_s=1.0).decide(observation(ongoing=1, series=fast), {}).replicas == 3
    only = observation(current=1, target=1, ongoing=1, series=fast)
    assert Slo(target_s=1.0).decide(only, {}).replicas == 1  # requests still come


def test_nothing_is_judged_while_settling_or_while_replicas_start() -> None:
    policy, slow = Slo(target_s=1.0, settle_s=30), reported([], [1.4] * 100)
    first = policy.decide(observation(current=3, target=3, ongoing=9, series=slow), {})
    assert first.replicas == 5
    starting = policy.decide(observation(current=3, target=5, ongoing=9, series=slow), first.state)
    there = policy.decide(observation(now=1010.0, current=5, target=5, ongoing=9, series=slow), starting.state)
    settling = policy.decide(observation(now=1039.0, current=5, target=5, ongoing=9, series=slow), there.state)
    assert (starting.replicas, there.replicas, settling.replicas) == (None, None, None)
    settled = policy.decide(observation(now=1040.0, current=5, target=5, ongoing=9, series=slow), settling.state)
    assert settled.replicas == 8


def test_what_a_miss_taught_keeps_replicas_that_are_needed() -> None:
    policy = Slo(target_s=1.0, settle_s=0)
    missed = policy.decide(observation(ongoing=9, series=reported([], [1.4] * 100)), {})  # 25 each are too many
    enough = observation(current=5, target=5, ongoing=9, series=reported([], [0.1] * 100))
    assert policy.decide(enough, missed.state).replicas is None
    fewer = observation(current=5, target=5, ongoing=9, series=reported([], [0.1] * 80))
    assert policy.decide(fewer, missed.state).replicas == 4
    later = observation(now=5000.0, current=5, target=5, ongoing=9, series=reported([], [0.1] * 100))
    assert policy.decide(later, missed.state).replicas == 4  # forgotten
    more = observation(current=5, target=5, ongoing=9, series=reported([], [0.1] * 200))
    assert policy.decide(more, missed.state).state["able"][0] == 40  # they can do more than that


def test_few_values_change_nothing_unless_the_deployment_is_idle() -> None:
    few = reported([], [9.0] * 5)
    assert Slo(target_s=1.0).decide(observation(ongoing=2, series=few), {}).replicas is None
    assert Slo(target_s=1.0).decide(observation(ongoing=0, series=few), {}).replicas == 3
    assert Slo(target_s=1.0).decide(observation(ongoing=2), {}).replicas is None


@settings(deadline=None)
@given(
    values=st.lists(st.floats(min_value=0.001, max_value=29.0), min_size=1, max_size=200),
    q=st.floats(min_value=0.01, max_value=0.99),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    grown = buckets.increases(reported([], values), "ttft_s", buckets.SECONDS)
    estimate = buckets.quantile(q, buckets.SECONDS, grown)
    true = sorted(values)[max(math.ceil(q * len(values) - 1e-9) - 1, 0)]
    upper = min(bound for bound in buckets.SECONDS if bound >= true)
    lower = max((bound for bound in buckets.SECONDS if bound < true), default=0.0)
    assert lower <= estimate <= upper


def test_buckets_of_many_replicas_are_one_histogram() -> None:
    one, two = reported([], [0.1] * 90, "a"), reported([], [5.0] * 10, "b")
    both = {name: {**one[name], **two[name]} for name in one}
    grown = buckets.increases(both, "ttft_s", buckets.SECONDS)
    assert grown[-1] == 100
    assert buckets.quantile(0.5, buckets.SECONDS, grown) <= 0.1
    assert 3 <= buckets.quantile(0.95, buckets.SECONDS, grown) <= 5


def test_a_quantile_of_nothing_is_no_number_and_above_the_last_bound_infinite() -> None:
    assert math.isnan(buckets.quantile(0.5, [1.0], [0.0, 0.0]))
    assert buckets.quantile(0.5, [1.0], [0.0, 5.0]) == math.inf


# Schedule

WORKDAY = {"start": "0 8 * * mon-fri", "end": "0 18 * * mon-fri", "timezone": "Europe/Berlin", "replicas": 6}


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-11-27T07:59:59+01:00", 1),
        ("2026-11-27T08:00:00+01:00", 6),  # a Friday
        ("2026-11-27T17:59:59+01:00", 6),
        ("2026-11-27T18:00:00+01:00", 1),
        ("2026-11-28T12:00:00+01:00", 1),  # a Saturday
        ("2026-07-01T06:00:00+00:00", 6),  # summer time
    ],
)
def test_a_window_is_open_from_start_until_end(at: str, expected: int) -> None:
    policy = Schedule(windows=[Window.model_validate(WORKDAY)], otherwise=1)
    now = datetime.fromisoformat(at).timestamp()
    assert policy.decide(observation(now=now), {}).replicas == expected


def test_the_largest_of_overlapping_windows_counts_and_one_may_pass_midnight() -> None:
    night = Window(start="0 22 * * *", end="0 6 * * *", replicas=2)
    late = Window(start="30 23 * * *", end="30 0 * * *", replicas=9)
    policy = Schedule(windows=[night, late])
    at = {hour: datetime.fromisoformat(f"2026-11-27T{hour}:45+00:00").timestamp() for hour in ("21", "23", "03")}
    assert [policy.decide(observation(now=now), {}).replicas for now in at.values()] == [0, 9, 2]


@settings(deadline=None)
@given(start=st.integers(1_760_000_000, 1_800_000_000), steps=st.lists(st.integers(-9_000, 90_000), max_size=12))
def test_what_a_schedule_remembers_never_changes_its_answer(start: int, steps: list[int]) -> None:
    policy = Schedule(windows=[Window.model_validate(WORKDAY)], otherwise=1)
    state: Mapping[str, Any] = {}
    now = float(start)
    for step in steps:
        now += step  # clocks are set back, too
        decision = policy.decide(observation(now=now), state)
        assert decision.replicas == policy.decide(observation(now=now), {}).replicas
        state = json.loads(json.dumps(decision.state))


# Prediction


def rising(policy: Predictive, slope: float, seconds: int, start: float = 100.0) -> Decision:
    """The decision after a load that rises evenly."""
    decision = Decision(None)
    for second in range(seconds):
        seen = observation(now=1000.0 + second, ongoing=max(start + slope * second, 0.0))
        decision = policy.decide(seen, json.loads(json.dumps(decision.state)))
    return decision


def test_a_rising_load_is_met_ahead() -> None:
    policy = Predictive(per_replica=10, window_s=60, horizon_s=60, sample_s=1)
    assert rising(policy, 1.0, 61).replicas == 22  # 160 now, 220 in a minute


def test_growth_is_limited_and_a_falling_load_is_only_followed() -> None:
    policy = Predictive(per_replica=10, window_s=60, horizon_s=600, max_growth=1.5, sample_s=1)
    assert rising(policy, 1.0, 61).replicas == 24
    assert rising(policy, -1.0, 61).replicas == 4


@settings(deadline=None)
@given(slope=st.floats(-50, 50), start=st.floats(0, 1000), growth=st.floats(1, 5), horizon=st.floats(1, 600))
def test_a_prediction_lies_between_the_present_need_and_its_limit(
    slope: float, start: float, growth: float, horizon: float
) -> None:
    policy = Predictive(per_replica=1, window_s=30, horizon_s=horizon, max_growth=growth, sample_s=3)
    wanted = rising(policy, slope, 40, start).replicas
    now = max(start + slope * 39, 0.0)
    assert wanted is not None
    assert now - 1e-5 <= wanted < now * growth + 1 + 1e-5


def test_a_prediction_remembers_no_more_than_its_window() -> None:
    policy = Predictive(per_replica=10, window_s=60, sample_s=2)
    assert len(rising(policy, 1.0, 500).state["samples"]) <= 31


# Several


class Fixed(Policy):
    """Wants what it is told."""

    type: str = "fixed"
    wants: int | None

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        return Decision(self.wants, {"calls": state.get("calls", 0) + 1})


@settings(deadline=None)
@given(st.lists(st.none() | replicas, min_size=1, max_size=5), replicas)
def test_the_largest_wins_and_no_change_counts_as_the_present(wants: list[int | None], target: int) -> None:
    policy = Max.model_construct(of=[Fixed(wants=want) for want in wants])  # type: ignore[misc]
    first = policy.decide(observation(target=target), {})
    assert first.replicas == max(target if want is None else want for want in wants)
    again = policy.decide(observation(target=target), first.state)
    assert all(state == {"calls": 2} for state in again.state.values())  # each has its own


# Prefill and decode

sides = st.integers(min_value=0, max_value=300)


@settings(deadline=None)
@given(sides, sides, st.floats(0.1, 5), st.floats(1, 8))
def test_the_ratio_holds_and_no_side_is_ever_lowered(p: int, d: int, least: float, factor: float) -> None:
    policy = PrefillDecode(prefill_ongoing=1, decode_ongoing=1, min_ratio=least, max_ratio=least * factor)
    prefill, decode = policy.balanced(p, d)
    assert prefill >= p
    assert decode >= d
    assert decode >= math.floor(least * prefill)
    assert prefill >= math.floor(decode / (least * factor))
    assert (prefill == 0) == (decode == 0) == (p == 0 and d == 0)
    assert prefill == max(p, 1) or decode == max(d, 1) or not prefill  # only the side that lags


def test_a_full_kv_cache_adds_decoders_and_prompts_add_prefill() -> None:
    policy = PrefillDecode(prefill_ongoing=4, decode_ongoing=16, kv_target=0.5, max_ratio=3)
    full = {"kv_cache_usage": {"a": [Point(1, 0.9)], "b": [Point(1, 0.95)]}}
    seen = {
        "Prefill:m": observation(current=1, target=1, ongoing=4),
        "Decode:m": observation(current=2, target=2, ongoing=20, series=full),
        "Ingress": observation(current=1, target=1, ongoing=6),
    }
    decided = {name: decision.replicas for name, decision in policy.decide(seen, {}).items()}
    assert decided == {"Prefill:m": 1, "Decode:m": 4, "Ingress": 3}
    seen["Prefill:m"] = observation(current=1, target=1, ongoing=40)
    assert policy.decide(seen, {})["Prefill:m"].replicas == 10
    assert policy.decide(seen, {})["Decode:m"].replicas == 5  # min_ratio 0.5 of ten


def test_each_model_has_its_own_pair_and_a_half_pair_scales_by_itself() -> None:
    policy = PrefillDecode(prefill_ongoing=1, decode_ongoing=1, kv_metric=None, min_ratio=1, max_ratio=1)
    seen = {name: observation(ongoing=n) for name, n in {"Prefill:a": 7, "Decode:a": 1, "Prefill:b": 8}.items()}
    assert {n: d.replicas for n, d in policy.decide(seen, {}).items()} == {
        "Prefill:a": 7,
        "Decode:a": 7,
        "Prefill:b": 4,
    }


def test_requests_whose_prompt_is_being_read_are_no_load_of_decode() -> None:
    seen = {"Prefill:": observation(ongoing=30), "Decode:": observation(ongoing=40)}

    def decoders(**settings: Any) -> int | None:
        policy = PrefillDecode(prefill_ongoing=10, decode_ongoing=5, **settings)
        return policy.decide(seen, {})["Decode:"].replicas

    assert decoders() == 2
    assert decoders(decode_holds_prompts=False) == 8
    seen["Decode:"] = observation(ongoing=29)  # of a window that ended a little earlier
    assert decoders() == 1


def test_a_side_at_its_maximum_is_not_asked_for_more() -> None:
    policy = PrefillDecode(prefill_ongoing=1, decode_ongoing=1, min_ratio=2, max_ratio=2)
    seen = {"Prefill:": observation(ongoing=50, most=10), "Decode:": observation(ongoing=1, most=12)}
    assert {n: d.replicas for n, d in policy.decide(seen, {}).items()} == {"Prefill:": 10, "Decode:": 12}


# Settings


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "type"),
        ({"type": "queue_depth"}, "per_replica"),
        ({"type": "queue_depth", "per_replica": 0}, "greater than 0"),
        ({"type": "queue_depth", "per_replica": "4"}, "per_replica"),
        ({"type": "queue_depth", "per_replica": math.inf}, "finite"),
        ({"type": "queue_depth", "per_replica": 4, "per_replca": 4}, "per_replca"),
        ({"type": "slo", "target_s": 60.0}, "target_s 60 is above the last of bounds, 30: add one"),
        ({"type": "slo", "target_s": 1.0, "bounds": [2.0, 1.0]}, "rise strictly"),
        ({"type": "schedule", "windows": []}, "windows"),
        ({"type": "schedule", "windows": [{**WORKDAY, "timezone": "Mars/Base"}]}, "time zone 'Mars/Base' is not known"),
        ({"type": "schedule", "windows": [{**WORKDAY, "end": WORKDAY["start"]}]}, "the window is empty"),
        ({"type": "predictive", "per_replica": 1, "window_s": 10, "sample_s": 10}, "must be 5 to 200 times sample_s"),
        ({"type": "max", "of": [{"type": "queue_depth"}]}, "per_replica"),
    ],
)
def test_wrong_settings_are_refused_by_name(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        policies.parse(spec)
    assert says in str(error.value)


def test_a_ratio_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"min_ratio 4 is above max_ratio 2: swap them"):
        PrefillDecode(prefill_ongoing=1, decode_ongoing=1, min_ratio=4, max_ratio=2)
    with pytest.raises(ValidationError, match=r"name the same deployments"):
        PrefillDecode(prefill_ongoing=1, decode_ongoing=1, prefill="LLM", decode="LLM:decode")
