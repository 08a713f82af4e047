"""What a pod asks a node for, as the scheduler counts it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from rayservice_operator.cluster import quantity

Amounts: TypeAlias = dict[str, Decimal]
"""Amounts by resource name (``cpu`` in cores, ``memory`` in bytes, devices by number)."""

PODS: Final = "pods"
"""A pod itself takes one of a node's places for pods."""

_parse = functools.lru_cache(maxsize=4096)(quantity.parse_or_zero)


def amounts(texts: Mapping[str, Any] | None) -> Amounts:
    """Quantities as numbers; malformed ones count as nothing."""
    return {str(key): _parse(value if isinstance(value, str) else str(value)) for key, value in (texts or {}).items()}


def pod_requests(spec: Mapping[str, Any]) -> Amounts:
    """Requests of a pod by its spec, with its place among the node's pods.

    The rule is the scheduler's (k8s.io/component-helpers/resource): all containers and sidecars together, or the
    largest init container with the sidecars started before it, whichever is more; what the pod as a whole asks for
    stands above that; overhead comes on top. A limit without a request is a request.
    """
    running: Amounts = {}
    for container in spec.get("containers") or ():
        _add(running, _requests(container))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or ():
        wanted = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, wanted)
            wanted = sidecars
        else:
            wanted = _sum((wanted, sidecars))
        _raise(starting, wanted)
    _add(running, sidecars)
    _raise(running, starting)
    running |= _requests(spec)
    _add(running, amounts(spec.get("overhead")))
    return {key: value for key, value in running.items() if value > 0} | {PODS: Decimal(1)}


def pod_limits(spec: Mapping[str, Any]) -> Amounts:
    """Sum of the containers' limits: what quotas on ``limits.*`` count."""
    return _sum(amounts((c.get("resources") or {}).get("limits")) for c in spec.get("containers") or ())


def _requests(holder: Mapping[str, Any]) -> Amounts:
    resources = holder.get("resources") or {}
    return amounts(resources.get("limits")) | amounts(resources.get("requests"))


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        _add(total, part)
    return total


def _add(total: Amounts, part: Amounts) -> None:
    for key, value in part.items():
        total[key] = total.get(key, Decimal(0)) + value


def _raise(total: Amounts, other: Amounts) -> None:
    for key, value in other.items():
        total[key] = max(total.get(key, Decimal(0)), value)
