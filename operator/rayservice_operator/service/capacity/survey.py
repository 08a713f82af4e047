"""What nodes and quotas have left, in a form that stays small: pods are summed up node by node and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from rayservice_operator.cluster.requests import Amounts, amounts, pod_requests
from rayservice_operator.core.objects import Manifest, annotations_of, labels_of, name_of

ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of pods that hold nothing any more."""

CLUSTER_AUTOSCALER_CONFIG: Final = ("kube-system", "cluster-autoscaler-status")
"""Namespace and name of the ConfigMap in which the cluster autoscaler tells what it does."""

_KARPENTER: Final = ("karpenter.sh/nodepool", "karpenter.sh/provisioner-name")
_AUTOSCALER_PREFIX: Final = "cluster-autoscaler.kubernetes.io/"
_AUTOSCALER_TAINTS: Final = frozenset({"ToBeDeletedByClusterAutoscaler", "DeletionCandidateOfClusterAutoscaler"})


@dataclass(frozen=True, slots=True)
class Node:
    """One node. ``free`` is allocatable minus the requests of its pods; ``closed``: cordoned or not ready."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    closed: bool
    allocatable: Amounts
    free: Amounts


@dataclass(frozen=True, slots=True)
class Quota:
    """One ResourceQuota: what is left of each resource that it limits, and which pods it counts."""

    name: str
    left: Amounts
    scopes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """What could be seen at ``at`` (epoch seconds).

    nodes: None when they must not be listed, which ``blind`` explains. pods_seen: whether ``free`` of the nodes
    counts the pods of all namespaces; otherwise it is all that the nodes have. quotas: None when not seen.
    autoscaler: name of what seems to add nodes; empty when there is no sign of one.
    """

    at: float
    nodes: tuple[Node, ...] | None = None
    pods_seen: bool = True
    quotas: tuple[Quota, ...] | None = None
    autoscaler: str = ""
    blind: str = ""


@dataclass(slots=True)
class Usage:
    """Requests of pods by node, added up page by page."""

    by_node: dict[str, Amounts] = field(default_factory=dict)

    def add(self, pods: Iterable[Manifest]) -> None:
        """Count these pods: those that have a node and have not ended."""
        for pod in pods:
            spec = pod.get("spec") or {}
            node = spec.get("nodeName")
            if not node or (pod.get("status") or {}).get("phase") in ENDED:
                continue
            total = self.by_node.setdefault(node, {})
            for key, value in pod_requests(spec).items():
                total[key] = total.get(key, Decimal(0)) + value


def node(manifest: Manifest, usage: Usage) -> Node:
    """A node with what its pods leave of it."""
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), "True")
    allocatable = amounts(status.get("allocatable"))
    used = usage.by_node.get(name_of(manifest), {})
    return Node(
        name=name_of(manifest),
        labels=labels_of(manifest),
        taints=tuple(spec.get("taints") or ()),
        closed=bool(spec.get("unschedulable")) or ready != "True",
        allocatable=allocatable,
        free={key: value - used.get(key, Decimal(0)) for key, value in allocatable.items()},
    )


def quota(manifest: Manifest) -> Quota:
    """A ResourceQuota; what the API server has not counted yet counts as unused."""
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    hard, used = amounts(status.get("hard") or spec.get("hard")), amounts(status.get("used"))
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return Quota(
        name_of(manifest), {key: value - used.get(key, Decimal(0)) for key, value in hard.items()}, tuple(scopes)
    )


def autoscaler_of(manifest: Manifest) -> str:
    """What added this node or watches over it, by the marks that it leaves; empty for nothing known."""
    labels, annotations = labels_of(manifest), annotations_of(manifest)
    if any(key in labels for key in _KARPENTER):
        return "Karpenter"
    taints = {taint.get("key") for taint in (manifest.get("spec") or {}).get("taints") or ()}
    if taints & _AUTOSCALER_TAINTS or any(key.startswith(_AUTOSCALER_PREFIX) for key in annotations):
        return "the cluster autoscaler"
    return ""
