"""How many replicas of a deployment find room on the pods of a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rayservice_operator.lint.nodes import DETECTED, UNLIMITED, Node
from rayservice_operator.lint.workload import Workload


def capacity(work: Workload, nodes: Sequence[Node], pods: Sequence[int]) -> float:
    """How many replicas fit if there were no others, infinite where nobody knows; ``pods``: of each group."""
    if not work.bundles or UNLIMITED in pods:
        return math.inf
    if len(work.bundles) > 1 and not work.one_node:
        return min((_in_total(key, need, nodes, pods) for key, need in work.needs.items()), default=math.inf)
    return sum(count * on_one(node, work.needs) if count else 0 for node, count in zip(nodes, pods, strict=True))


def on_one(node: Node, needs: Mapping[str, float]) -> float:
    """How many times ``needs`` fits on one pod; infinite where nobody knows."""
    offers = [(node.offers(key), need) for key, need in needs.items() if not DETECTED.fullmatch(key)]
    return min((math.inf if has is None else math.floor(has / need + 1e-9) for has, need in offers), default=math.inf)


def _in_total(key: str, need: float, nodes: Sequence[Node], pods: Sequence[int]) -> float:
    if DETECTED.fullmatch(key):
        return math.inf
    offers = [(node.offers(key), count) for node, count in zip(nodes, pods, strict=True)]
    if any(has is None and count for has, count in offers):
        return math.inf
    return math.floor(sum((has or 0.0) * count for has, count in offers) / need + 1e-9)
