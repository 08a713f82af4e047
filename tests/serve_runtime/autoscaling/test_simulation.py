"""Policies under load, in the simulation: what is promised of them in docs/serve-runtime/autoscaling.md."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serve_runtime.autoscaling import Max, Predictive, QueueDepth, Schedule, Slo, Window
from serve_runtime.autoscaling.simulation import (
    RayRules,
    Run,
    Service,
    Simulation,
    bursts,
    daily,
    joined,
    ramp,
    steady,
)

RULES = RayRules(min_replicas=1, max_replicas=20, upscale_delay_s=10, downscale_delay_s=120, look_back_period_s=30)
SERVICE = Service(concurrency=8, service_s=2.0, start_s=60.0)  # four requests a second each
EIGHT_O_CLOCK = datetime(2026, 11, 28, 8, tzinfo=UTC).timestamp()


def run(policy: QueueDepth | Slo | Schedule | Predictive | Max, load: list[float], start_at: float = 0.0) -> Run:
    return Simulation(policy, RULES, SERVICE, start_at=start_at).run(load)


@pytest.mark.parametrize(
    "policy",
    [QueueDepth(per_replica=6), Slo(target_s=1.0), Predictive(per_replica=6)],
    ids=lambda policy: policy.type,
)
class TestOfEachThatFollowsLoad:
    def test_a_steady_load_ends_in_steady_replicas_that_suffice(self, policy: QueueDepth) -> None:
        seconds = run(policy, steady(3600, 20.0)).seconds
        end = seconds[-900:]
        assert max(s.ttft_s for s in end) < 1.0
        assert len({s.target for s in end}) <= 2
        assert 5 <= end[-1].target <= 9  # five are busy to the last slot

    def test_what_the_load_brought_goes_with_it(self, policy: QueueDepth) -> None:
        seconds = run(policy, list(joined(steady(1200, 30.0), steady(4800, 0.0)))).seconds
        assert seconds[1199].running >= 8
        assert seconds[-1].target == 1

    def test_the_bounds_hold_under_any_load(self, policy: QueueDepth) -> None:
        for load in (bursts(1800, 0.0, 500.0, 300, 60), ramp(1800, 0, 200), daily(1800, 0, 60)):
            assert all(1 <= s.target <= 20 and s.running <= 20 for s in run(policy, load).seconds)


def test_a_prediction_has_replicas_ready_before_a_rising_load_needs_them() -> None:
    load = ramp(1800, 2.0, 60.0)
    follows = run(QueueDepth(per_replica=7), load)
    expects = run(Predictive(per_replica=7, horizon_s=90), load)
    assert expects.late(1.0) < follows.late(1.0) / 2
    assert expects.replica_seconds < 1.3 * follows.replica_seconds


def test_a_schedule_is_ready_when_the_day_begins() -> None:
    morning = list(joined(steady(1200, 2.0), steady(2400, 40.0)))
    window = Window(start="55 7 * * *", end="0 18 * * *", replicas=12)
    by_load = run(QueueDepth(per_replica=7), morning, EIGHT_O_CLOCK - 1200)
    by_both = run(Max(of=[QueueDepth(per_replica=7), Schedule(windows=[window])]), morning, EIGHT_O_CLOCK - 1200)
    assert by_load.late(1.0) > 0.03
    assert by_both.late(1.0) == 0
    assert by_both.seconds[800].target == 1  # not before its window


def test_several_together_never_have_less_than_the_largest_alone_asks_for() -> None:
    load = daily(3600, 1.0, 50.0)
    alone = run(QueueDepth(per_replica=6, tolerance=0), load)
    both = run(Max(of=[QueueDepth(per_replica=6, tolerance=0), Predictive(per_replica=6)]), load)
    assert both.late(1.0) <= alone.late(1.0)


def test_latency_is_kept_without_knowing_what_a_replica_can_do() -> None:
    load = daily(7200, 2.0, 50.0)
    for service in (SERVICE, Service(concurrency=3, service_s=1.0, start_s=30)):
        seconds = Simulation(Slo(target_s=1.0, settle_s=30), RULES, service).run(load)
        assert seconds.late(1.0) < 0.1
        assert seconds.changes < 80  # neither does it flap
