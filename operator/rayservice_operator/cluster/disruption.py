"""PodDisruptionBudgets: what a node drain or a cluster autoscaler may take away, for clusters of a RayService.

Workers go one at a time, each drained first. A head whose state survives it may go; one without GCS fault tolerance may
not, because the whole service would be away until a new session has started: docs/drain.md says how to move it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import gcs
from rayservice_operator.cluster.pod import labels
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core.decision import Delete
from rayservice_operator.core.objects import Manifest, is_terminating, name_of, owner_reference, ref

KIND: Final = "PodDisruptionBudget"

PROTECTED: Final[dict[str, frozenset[str]]] = {
    "all": frozenset({names.WORKER, names.HEAD}),
    "workers": frozenset({names.WORKER}),
    "none": frozenset(),
}
"""Values of ``ray.io/disruption-budget`` and which pods they protect; anything else counts as ``all``."""


def budgets(view: ClusterView, others: Iterable[Manifest] = ()) -> list[Manifest]:
    """The budgets that the cluster shall have. None for one that is about to go: a drain need not wait for that.

    ``others``: those that somebody else made in the namespace. Pods that one of them selects are theirs to protect: a
    pod that two budgets select cannot be evicted at all (Kubernetes answers 500).

    ``minAvailable`` in numbers, because ``maxUnavailable`` is only understood for controllers that have a scale
    subresource, and a RayCluster with several groups has no one number of replicas.
    """
    if not view.owned_by_service or names.DELETE_AFTER in view.annotations:
        return []
    protected = PROTECTED.get(view.annotations.get(names.DISRUPTION_BUDGET, "all").lower(), PROTECTED["all"])
    selectors = [selector for other in others if (selector := (other.get("spec") or {}).get("selector")) is not None]

    def free(*groups: GroupView) -> bool:
        return not any(selects(selector, labels(view, group)) for selector in selectors for group in groups)

    found = []
    if names.WORKER in protected and view.workers and free(*view.workers):
        wanted = sum(group.desired for group in view.workers)
        found.append(_budget(view, names.WORKER, max(0, wanted - 1)))
    if names.HEAD in protected and gcs.fault_tolerance(view) is gcs.FaultTolerance.OFF and free(view.head):
        found.append(_budget(view, names.HEAD, 1))
    return found


def selects(selector: Mapping[str, Any], labels_: Mapping[str, str]) -> bool:
    """Whether a label selector (``matchLabels``, ``matchExpressions``) takes an object with these labels."""
    if any(labels_.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key"), expression.get("values") or ()
        holds = {
            "In": labels_.get(key) in values,
            "NotIn": labels_.get(key) not in values,
            "Exists": key in labels_,
            "DoesNotExist": key not in labels_,
        }
        if not holds.get(expression.get("operator"), False):
            return False
    return True


def unwanted(view: ClusterView, children: Iterable[Manifest], wanted_budgets: Iterable[Manifest]) -> list[Delete]:
    """Deletions of our budgets that are not among the wanted ones."""
    wanted = {name_of(budget) for budget in wanted_budgets}
    ours = {_name(view, node_type) for node_type in (names.WORKER, names.HEAD)}
    present = (child for child in children if child.get("kind") == KIND and not is_terminating(child))
    return [Delete(ref(child)) for child in present if name_of(child) in ours - wanted]


def _name(view: ClusterView, node_type: str) -> str:
    return f"{view.name}-{node_type}"


def _budget(view: ClusterView, node_type: str, available: int) -> Manifest:
    spec: dict[str, Any] = {
        "minAvailable": available,
        "selector": {"matchLabels": {names.CLUSTER: view.name, names.NODE_TYPE: node_type}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a pod that does not work keeps nobody from a drain
    }
    return {
        "apiVersion": "policy/v1",
        "kind": KIND,
        "metadata": {
            "name": _name(view, node_type),
            "namespace": view.namespace,
            "labels": {names.CLUSTER: view.name, names.CREATED_BY: names.CREATED_BY_VALUE},
            "ownerReferences": [owner_reference(view.obj)],
        },
        "spec": spec,
    }
