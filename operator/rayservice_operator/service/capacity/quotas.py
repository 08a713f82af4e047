"""How many of the wanted pods the namespace's ResourceQuotas admit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from rayservice_operator.cluster.requests import PODS, Amounts, pod_limits, pod_requests
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.room import PodsWanted
from rayservice_operator.service.capacity.survey import Quota

_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")


@dataclass(slots=True)
class Admitted:
    """counts: pods admitted by group. refusals: quota and resource -> how much more would be needed."""

    counts: dict[str, int] = field(default_factory=dict)
    refusals: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    left: dict[tuple[str, str], Decimal] = field(default_factory=dict)


def admit(wanted: Sequence[PodsWanted], quotas: Sequence[Quota]) -> Admitted:
    """Let pods in one after another, in the order given, as long as each quota that counts them has room."""
    result = Admitted(left={(quota.name, key): value for quota in quotas for key, value in quota.left.items()})
    for want in wanted:
        counted = [(quota, charge(want.pod)) for quota in quotas if _counts(quota, want.pod)]
        limits = [
            (quota.name, key, amount)
            for quota, charges in counted
            for key, amount in charges.items()
            if key in quota.left
        ]
        room = [result.left[name, key] // amount for name, key, amount in limits]
        admitted = max(0, min([want.to_create, *(int(count) for count in room)]))
        result.counts[want.group] = admitted
        for name, key, amount in limits:
            lacking = amount * want.to_create - result.left[name, key]
            if lacking > 0:
                result.refusals[name, key] = result.refusals.get((name, key), Decimal(0)) + lacking
            result.left[name, key] = max(result.left[name, key] - amount * admitted, Decimal(0))
    return result


def charge(pod: Manifest) -> Amounts:
    """What one pod counts for, by the names that quotas use."""
    return {key: amount for key, amount in _charges(pod["spec"]) if amount > 0}


def _charges(spec: Mapping[str, Any]) -> Iterator[tuple[str, Decimal]]:
    yield PODS, Decimal(1)
    yield "count/pods", Decimal(1)
    for key, amount in pod_requests(spec).items():
        if key == PODS:
            continue
        yield f"requests.{key}", amount
        if key in _COMPUTE:
            yield key, amount
    for key, amount in pod_limits(spec).items():
        if key in _COMPUTE:
            yield f"limits.{key}", amount


def _counts(quota: Quota, pod: Manifest) -> bool:
    return all(_in_scope(scope, pod["spec"]) for scope in quota.scopes)


def _in_scope(scope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Whether a pod is in a scope of a quota. One that is not known here is taken to count it."""
    best_effort = not (set(pod_requests(spec)) | set(pod_limits(spec))) & {"cpu", "memory"}
    match scope.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "PriorityClass":
            return _priority(scope, str(spec.get("priorityClassName") or ""))
        case _:
            return True


def _priority(scope: Mapping[str, Any], name: str) -> bool:
    values = scope.get("values") or ()
    match scope.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
        case _:
            return bool(name)
