"""How many replicas of a deployment find room on the pods of a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rayservice_operator.lint.nodes import DETECTED, GPU, UNLIMITED, Node
from rayservice_operator.lint.workload import Workload


def capacity(work: Workload, nodes: Sequence[Node], pods: Sequence[int]) -> float:
    """How many replicas fit if there were no others, infinite where nobody knows; ``pods``: of each group."""
    if not work.bundles:
        return math.inf
    counts = [math.inf if count == UNLIMITED else count for count in pods]
    needs = ordinary(work.needs)
    if len(work.bundles) > 1 and not work.one_node:
        return min((_in_total(key, need, nodes, counts) for key, need in needs.items()), default=math.inf)
    return sum(_times(count, on_one(node, needs)) for node, count in zip(nodes, counts, strict=True))


def placeable(work: Workload, nodes: Sequence[Node]) -> bool:
    """Whether one replica finds room once every group is at its largest."""
    alone = all(any(node.holds(ordinary(bundle.amounts)) for node in nodes) for bundle in work.bundles)
    return alone and capacity(work, nodes, [node.most for node in nodes]) >= 1


def ordinary(needs: Mapping[str, float]) -> dict[str, float]:
    """Needs without the resources that a node has by itself."""
    return {key: amount for key, amount in needs.items() if not DETECTED.fullmatch(key)}


def on_one(node: Node, needs: Mapping[str, float]) -> float:
    """How many times ``needs`` fits on one pod; infinite where nobody knows."""
    offers = [(node.offers(key), need) for key, need in needs.items()]
    return min((math.inf if has is None else _whole(has / need) for has, need in offers), default=math.inf)


def gpus(nodes: Sequence[Node]) -> float | None:
    """GPUs of all pods that there are; None where nobody knows."""
    if any(node.offers(GPU) is None or (node.present == UNLIMITED and node.offers(GPU)) for node in nodes):
        return None
    return sum(_times(node.present, node.offers(GPU) or 0.0) for node in nodes)


def gpus_at_least(work: Workload) -> float:
    """GPUs that a deployment takes from the start; of one replica where the file does not tell how many there are."""
    return work.needs.get(GPU, 0.0) * (1 if work.least is None else work.least)


def _whole(number: float) -> float:
    """Rounded down, but not for the sake of a sum of decimal fractions that should be whole."""
    return math.floor(number + 1e-9) if number < 1e15 else math.inf


def _times(count: float, amount: float) -> float:
    return count * amount if count and amount else 0.0


def _in_total(key: str, need: float, nodes: Sequence[Node], counts: Sequence[float]) -> float:
    offers = [(node.offers(key), count) for node, count in zip(nodes, counts, strict=True)]
    if any(has is None and count for has, count in offers):
        return math.inf
    there = sum(_times(count, has or 0.0) for has, count in offers)
    return _whole(there / need)
