"""Policies on what a real Ray Serve saw: ``data/ray-2.60.csv``, one line per call of a policy.

Recorded on one machine with clients that came and went (1, 3, 8, 5, 9, 2, none at a time, half a second each), under
``queue_depth`` with two requests per replica; upscale_delay_s 2, downscale_delay_s 4, look_back_period_s 3, 1 to 4
replicas. Columns: epoch second, requests, running and wanted replicas, what the policy answered.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serve_runtime.autoscaling import AnyPolicy, Observation, Predictive, QueueDepth, Slo
from serve_runtime.autoscaling.simulation import Delays, RayRules

RULES = RayRules(min_replicas=1, max_replicas=4, upscale_delay_s=2, downscale_delay_s=4, look_back_period_s=3)


@pytest.fixture(scope="module")
def recording() -> list[tuple[Observation, int]]:
    """What was seen, and what was answered."""
    with (Path(__file__).parent / "data" / "ray-2.60.csv").open() as file:
        rows = [(float(t), float(n), int(c), int(w), int(a)) for t, n, c, w, a in csv.reader(file)]
    return [(Observation(t, c, w, n, least=1, most=4), answer) for t, n, c, w, answer in rows]


def test_the_same_policy_answers_the_same(recording: list[tuple[Observation, int]]) -> None:
    policy = QueueDepth(per_replica=2)
    for seen, answered in recording:
        # The recording has three decimals of the number of requests, and numbers of replicas are rounded up.
        possible = (
            policy.decide(dataclasses.replace(seen, ongoing=seen.ongoing + rounding), {}).replicas
            for rounding in (-0.0005, 0.0, 0.0005)
        )
        assert answered in {seen.bounded(wanted) for wanted in possible if wanted is not None}


def test_the_simulations_rules_lead_to_the_targets_that_ray_had(recording: list[tuple[Observation, int]]) -> None:
    delays, differences, changes = Delays(RULES), 0, 0
    for (seen, answered), (after, _) in itertools.pairwise(recording):
        target = RULES.bounded(delays.target(answered, seen.target, seen.current, seen.now))
        differences += target != after.target
        changes += seen.target != after.target
    assert changes >= 5
    assert differences <= changes  # Ray's clock is read a moment later than the policy's: one call sooner or later


@pytest.mark.parametrize(
    "policy",
    [QueueDepth(per_replica=2), Predictive(per_replica=2, window_s=20, horizon_s=10), Slo(target_s=1.0)],
    ids=lambda policy: policy.type,
)
def test_every_policy_gets_along_with_what_ray_gives(
    policy: AnyPolicy, recording: list[tuple[Observation, int]]
) -> None:
    state: Mapping[str, Any] = {}
    for seen, _ in recording:
        decision = policy.decide(seen, state)
        state = decision.state
        assert decision.replicas is None or decision.replicas >= 0


def test_a_prediction_asks_for_the_replicas_sooner(recording: list[tuple[Observation, int]]) -> None:
    policy = Predictive(per_replica=2, window_s=10, horizon_s=10, sample_s=0.5)
    state: Mapping[str, Any] = {}
    first: dict[int, float] = {}
    for seen, _ in recording:
        decision = policy.decide(seen, state)
        state = decision.state
        first.setdefault(min(decision.replicas or 0, 4), seen.now)
    follows = next(seen.now for seen, answered in recording if answered == 4)
    assert first[4] < follows
