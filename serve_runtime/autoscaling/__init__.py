"""Autoscaling policies: pure decisions, and a thin adapter that Ray Serve calls.

In code::

    @serve.deployment(autoscaling_config={"max_replicas": 8, "policy": deployment_policy(QueueDepth(per_replica=4))})

In a serve config, for a whole application, ``serve_runtime.autoscaling.adapter:ApplicationPolicy`` is the
``policy_function``; docs/serve-runtime/autoscaling.md has every setting.
"""

from __future__ import annotations

from typing import Any

from serve_runtime.autoscaling.application import AnyApplicationPolicy, Each, PrefillDecode
from serve_runtime.autoscaling.buckets import Histogram
from serve_runtime.autoscaling.observation import Decision, Observation
from serve_runtime.autoscaling.policies import AnyPolicy, Max, Policy, Predictive, QueueDepth, Schedule, Slo, Window

__all__ = [
    "AnyApplicationPolicy",
    "AnyPolicy",
    "Decision",
    "Each",
    "Histogram",
    "Max",
    "Observation",
    "Policy",
    "Predictive",
    "PrefillDecode",
    "QueueDepth",
    "Schedule",
    "Slo",
    "Window",
    "application_policy",
    "deployment_policy",
]


def deployment_policy(policy: AnyPolicy) -> dict[str, Any]:
    """The value of ``policy`` in a deployment's ``autoscaling_config``."""
    return _reference("DeploymentPolicy", policy)


def application_policy(policy: AnyApplicationPolicy) -> dict[str, Any]:
    """The value of ``autoscaling_policy`` of an application in a serve config."""
    return _reference("ApplicationPolicy", policy)


def _reference(adapter: str, policy: AnyPolicy | AnyApplicationPolicy) -> dict[str, Any]:
    """By path and JSON, never by object: so Ray's hash of the code stays the same when nothing has changed."""
    return {
        "policy_function": f"serve_runtime.autoscaling.adapter:{adapter}",
        "policy_kwargs": {"policy": policy.model_dump(mode="json", exclude_defaults=True) | {"type": policy.type}},
    }
