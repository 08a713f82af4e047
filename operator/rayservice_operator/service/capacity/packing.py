"""Which of the wanted pods find a node at the same time: first fit, the most demanding group first.

Finding the most that fit is hard in general; this may place fewer than could be placed, never more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rayservice_operator.cluster.requests import Amounts


@dataclass(frozen=True, slots=True)
class Load:
    """``count`` pods that ask for ``requests`` each and may run on ``nodes`` (their names)."""

    name: str
    requests: Amounts
    count: int
    nodes: tuple[str, ...]
    one_per_node: bool = False


@dataclass(frozen=True, slots=True)
class Packed:
    """placed: how many pods of each load found a node, by its name; on: the nodes, one for each pod.

    left: what is free on each node then.
    """

    placed: Mapping[str, int]
    on: Mapping[str, tuple[str, ...]]
    left: Mapping[str, Amounts]


def pack(loads: Sequence[Load], free: Mapping[str, Amounts]) -> Packed:
    """Place the loads on nodes with so much ``free``, by name."""
    left = dict(free)
    on: dict[str, tuple[str, ...]] = {}
    for load in sorted(loads, key=lambda load: (_scarcity(load, free), load.name), reverse=True):
        on[load.name] = _place(load, left)
    return Packed({name: len(nodes) for name, nodes in on.items()}, on, left)


def fits(requests: Amounts, free: Amounts) -> bool:
    """Whether one pod finds room."""
    return all(free.get(key, Decimal(0)) >= value for key, value in requests.items())


def _place(load: Load, left: dict[str, Amounts]) -> tuple[str, ...]:
    """Fill node after node: one that is too full for a pod is too full for the next of the same size."""
    found: list[str] = []
    for name in sorted(load.nodes, key=lambda name: (_waste(load.requests, left[name]), name)):
        while len(found) < load.count and fits(load.requests, left[name]):
            left[name] = {key: value - load.requests.get(key, Decimal(0)) for key, value in left[name].items()}
            found.append(name)
            if load.one_per_node:
                break
        if len(found) == load.count:
            break
    return tuple(found)


def _scarcity(load: Load, free: Mapping[str, Amounts]) -> Decimal:
    """The largest share that one pod takes of what its nodes have: those with little choice come first."""
    shares = [
        value / total
        for key, value in load.requests.items()
        if (total := sum((free[name].get(key, Decimal(0)) for name in load.nodes), Decimal(0))) > 0
    ]
    return max(shares, default=Decimal(0))


def _waste(requests: Amounts, free: Amounts) -> tuple[int, Decimal]:
    """How much of what a pod does not need lies idle beside it: devices first, so GPU nodes are kept for GPU pods."""
    devices = sum(1 for key, value in free.items() if "/" in key and value > 0 and key not in requests)
    room = [free.get(key, Decimal(0)) / value for key, value in requests.items() if value > 0]
    return devices, min(room, default=Decimal(0))
