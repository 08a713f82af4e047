"""The adapter speaks Ray's protocol, and lets nothing through that would stop Ray's control loop. Ray is not needed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from serve_runtime.autoscaling import (
    Each,
    Max,
    PrefillDecode,
    QueueDepth,
    Schedule,
    Slo,
    Window,
    application_policy,
    deployment_policy,
    policies,
)
from serve_runtime.autoscaling import application as application_policies
from serve_runtime.autoscaling.adapter import ApplicationPolicy, DeploymentPolicy


@dataclass
class Context:
    """The fields of Ray's ``AutoscalingContext`` that are read."""

    deployment_name: str = "D"
    current_time: float = 1000.0
    current_num_replicas: int = 2
    target_num_replicas: int = 2
    total_num_requests: float = 0.0
    total_queued_requests: float | None = None
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 8
    policy_state: dict[str, Any] = field(default_factory=dict)
    raw_metrics: dict[str, Any] | None = None
    config: Any = field(default_factory=lambda: SimpleNamespace(get_target_ongoing_requests=lambda: 3.0))


def by_adapter(reference: dict[str, Any]) -> Any:
    """What Ray makes of a reference: the class with its keyword arguments."""
    classes = {"DeploymentPolicy": DeploymentPolicy, "ApplicationPolicy": ApplicationPolicy}
    module, _, name = reference["policy_function"].partition(":")
    assert module == DeploymentPolicy.__module__
    return classes[name](**json.loads(json.dumps(reference["policy_kwargs"])))


def test_a_reference_is_json_and_comes_back_as_the_same_policy() -> None:
    policy = Max(
        of=[QueueDepth(per_replica=4), Schedule(windows=[Window(start="0 8 * * *", end="0 9 * * *", replicas=3)])]
    )
    assert policies.parse(json.loads(json.dumps(deployment_policy(policy)))["policy_kwargs"]["policy"]) == policy
    pair = PrefillDecode(prefill_ongoing=1, decode_ongoing=2, others=policy)
    assert application_policies.parse(application_policy(pair)["policy_kwargs"]["policy"]) == pair


def test_defaults_are_not_written_so_that_a_release_with_new_ones_restarts_nothing() -> None:
    assert deployment_policy(QueueDepth(per_replica=4))["policy_kwargs"] == {
        "policy": {"type": "queue_depth", "per_replica": 4}
    }


def test_a_deployment_gets_its_number_within_its_bounds_and_its_state_back() -> None:
    policy = by_adapter(deployment_policy(Max(of=[QueueDepth(per_replica=1), Slo(target_s=1)])))
    wanted, state = policy(Context(total_num_requests=100.0))
    assert wanted == 8
    again, second = policy(Context(total_num_requests=5.0, policy_state=dict(state, ray_private=1)))
    assert again == 5
    assert set(state) == set(second) == {"serve_runtime"}  # Ray adds its own keys to what is returned
    json.dumps(second)


def test_no_change_is_the_target_also_while_replicas_start() -> None:
    policy = by_adapter(deployment_policy(Slo(target_s=1)))
    assert policy(Context(current_num_replicas=2, target_num_replicas=5, total_num_requests=3.0))[0] == 5


def test_metrics_are_looked_at_only_when_a_policy_needs_them() -> None:
    class Lazy(Context):
        @property
        def raw_metrics(self) -> Any:
            raise AssertionError("Ray computes this at each call")

        @raw_metrics.setter
        def raw_metrics(self, _value: Any) -> None: ...

    assert by_adapter(deployment_policy(QueueDepth(per_replica=1)))(Lazy(total_num_requests=3.0))[0] == 3


def test_an_exception_keeps_the_replicas_and_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    policy = by_adapter(deployment_policy(QueueDepth(per_replica=1)))
    broken = Context(target_num_replicas=3, total_num_requests="many", policy_state={"serve_runtime": {"k": 1}})  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "ray.serve"):
        for _ in range(20):
            assert policy(broken) == (3, {"serve_runtime": {"k": 1}})
    assert [record.getMessage() for record in caplog.records] == [
        "The autoscaling policy of D failed; its replicas stay as they are."
    ]


def test_every_deployment_of_an_application_is_answered() -> None:
    contexts = {
        ("app", "Prefill:m"): Context("Prefill:m", total_num_requests=6.0),
        ("app", "Decode:m"): Context("Decode:m", total_num_requests=1.0),
        ("app", "Ingress"): Context("Ingress", total_num_requests=4.0, target_num_replicas=4),
    }
    policy = by_adapter(application_policy(PrefillDecode(prefill_ongoing=2, decode_ongoing=4, min_ratio=1)))
    decisions, states = policy(contexts)
    assert decisions == {("app", "Prefill:m"): 3, ("app", "Decode:m"): 3, ("app", "Ingress"): 2}
    assert states.keys() == contexts.keys()
    assert policy({}) == ({}, {})  # an application none of whose deployments scales


def test_an_application_keeps_its_replicas_when_its_policy_fails() -> None:
    policy = by_adapter(application_policy(Each(of=QueueDepth(per_replica=1))))
    good, bad = Context("A", total_num_requests=5.0), Context("B", total_num_requests=None)  # type: ignore[arg-type]
    assert policy({"a": good, "b": bad}) == ({"a": 2, "b": 2}, {"a": {"serve_runtime": {}}, "b": {"serve_runtime": {}}})
    assert policy({"a": good})[0] == {"a": 5}


def test_wrong_settings_are_told_and_until_then_the_rule_is_rays(caplog: pytest.LogCaptureFixture) -> None:
    contexts = {"a": Context("A", total_num_requests=9.0), "b": Context("B")}
    with caplog.at_level(logging.ERROR, "ray.serve"):
        for wrong in ({"type": "magic"}, {"type": "each", "of": {"type": "queue_depth", "per_replca": 4}}, [1]):
            assert DeploymentPolicy(wrong)(contexts["a"]) == (3, {"serve_runtime": {}})  # type: ignore[arg-type]
            decisions, states = ApplicationPolicy(wrong)(contexts)  # type: ignore[arg-type]
            assert decisions == {"a": 3, "b": 1}
            assert states.keys() == contexts.keys()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 6
    assert "per_replca" in told[3]
    assert all("target_ongoing_requests is used instead" in text for text in told)
