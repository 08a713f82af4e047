"""What the pods of a group offer to Ray, as far as the manifest tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.api.base import MAX_REPLICAS
from rayservice_operator.api.raycluster import HeadGroupSpec
from rayservice_operator.cluster.resources import parse_resources_argument, with_resources
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core.findings import Path
from rayservice_operator.lint.reading import as_list, as_map, as_number, as_text, maps_in

CPU: Final = "CPU"
GPU: Final = "GPU"
MEMORY: Final = "memory"

# Ray's names of accelerators that name a GPU (ray.util.accelerators, Ray 2.60), for comparison in upper case.
# fmt: off
GPU_TYPES: Final = (
    "V100", "P100", "T4", "P4", "K80", "A10G", "A10", "L4", "L40S", "A100", "H100", "H200", "H20", "B200", "B300",
    "GB200", "GB300", "RTX-PRO-6000", "Intel-GPU-Max-1550", "Intel-GPU-Max-1100", "AMD-Instinct-MI100",
    "AMD-Instinct-MI250X", "AMD-Instinct-MI250X-MI250", "AMD-Instinct-MI210", "AMD-Instinct-MI300A",
    "AMD-Instinct-MI300X-OAM", "AMD-Instinct-MI300X-HF", "AMD-Instinct-MI308X", "AMD-Instinct-MI325X-OAM",
    "AMD-Instinct-MI350X-OAM", "AMD-Instinct-MI355X-OAM", "A100-40G", "A100-80G",
)
# fmt: on

# Node labels that tell the type of a GPU: NVIDIA's and AMD's feature discovery, GKE, AKS, CoreWeave.
_TYPE_LABELS: Final = frozenset(
    {
        "nvidia.com/gpu.product",
        "cloud.google.com/gke-accelerator",
        "k8s.amazonaws.com/accelerator",
        "karpenter.k8s.aws/instance-gpu-name",
        "gpu.nvidia.com/model",
        "gpu.nvidia.com/class",
        "ray.io/accelerator-type",
    }
)

UNLIMITED: Final = MAX_REPLICAS

# Resources that a node has by itself: Ray adds them where it finds the device.
DETECTED: Final = re.compile(r"node:.*|accelerator_type:.*|TPU.*|NPU|HPU|neuron_cores|RBLN|FURIOSA|object_store_memory")


@dataclass(frozen=True, slots=True)
class Node:
    """One pod of a group. An amount that Ray finds out only where it runs is missing in ``unknown``'s sense:

    ``amounts`` by Ray's resource names; a resource in ``unknown`` may be there in any amount, any other is absent.
    ``present``: pods that there are without anybody's doing; ``most``: pods that there can be.
    ``types``: GPU types by the labels that its nodes must have, in upper case; empty where nothing tells.
    """

    group: GroupView
    path: Path
    amounts: Mapping[str, float]
    unknown: frozenset[str]
    labels: Mapping[str, str]
    present: int
    most: int
    types: frozenset[str]

    @property
    def name(self) -> str:
        """Name of the group; the head's is ``headgroup``."""
        return self.group.name

    def offers(self, resource: str) -> float | None:
        """How much of it one pod has; None for unknown."""
        return None if resource in self.unknown else self.amounts.get(resource, 0.0)

    def holds(self, wanted: Mapping[str, float]) -> bool:
        """Whether all of it fits on one pod."""
        return all((has := self.offers(key)) is None or has >= amount for key, amount in wanted.items())


def nodes_of(view: ClusterView, path: Path) -> tuple[Node, ...]:
    """The groups that can have pods, head first. ``path`` is the cluster spec's."""
    head = _node(view, view.head, (*path, "headGroupSpec"))
    workers = (_node(view, group, (*path, "workerGroupSpecs", group.index)) for group in view.workers)
    return (head, *(node for node in workers if node.most))


def gpu_type(text: str) -> str:
    """``nvidia-tesla-t4``, ``NVIDIA-A100-SXM4-80GB``, ``l4`` as Ray names the type, in upper case; else empty."""
    known = {name.upper() for name in GPU_TYPES}
    if text.upper() in known:
        return text.upper()
    return next((word for word in re.split(r"[^A-Z0-9]+", text.upper()) if word in known), "")


def _node(view: ClusterView, group: GroupView, path: Path) -> Node:
    params = with_resources(group.spec.ray_start_params, group)
    amounts, unknown = _amounts(params, group)
    most = 1 if isinstance(group.spec, HeadGroupSpec) else group.spec.max_replicas
    return Node(
        group,
        path,
        amounts,
        frozenset(unknown),
        group.spec.labels,
        present=group.desired if not view.autoscaling or group.is_head else most,
        most=0 if not isinstance(group.spec, HeadGroupSpec) and group.spec.suspend else most,
        types=frozenset(_types(group)),
    )


def _amounts(params: Mapping[str, str], group: GroupView) -> tuple[dict[str, float], set[str]]:
    amounts: dict[str, float] = {}
    unknown: set[str] = set()
    for resource, param in ((CPU, "num-cpus"), (GPU, "num-gpus"), (MEMORY, "memory")):
        found = _parsed(params.get(param))
        if found is not None:
            amounts[resource] = found
        elif resource != GPU or claims_devices(group):
            unknown.add(resource)
    custom = parse_resources_argument(params.get("resources"))
    amounts.update({key: number for key, value in (custom or {}).items() if (number := as_number(value)) is not None})
    return amounts, unknown


def _parsed(text: str | None) -> float | None:
    try:
        return as_number(float(text)) if text else None
    except ValueError:
        return None


def claims_devices(group: GroupView) -> bool:
    """GPUs by other ways than limits: dynamic resource allocation, or a runtime class that shows all of the node's."""
    shown = "nvidia" in as_text(group.pod_spec.get("runtimeClassName"))
    return shown or bool(group.pod_spec.get("resourceClaims"))


def _types(group: GroupView) -> Iterable[str]:
    """By node selector and required node affinity (all terms together); and the group's own Ray label."""
    selector = {**as_map(group.pod_spec.get("nodeSelector")), **group.spec.labels}
    values = [str(value) for key, value in selector.items() if key in _TYPE_LABELS]
    node_affinity = as_map(as_map(group.pod_spec.get("affinity")).get("nodeAffinity"))
    required: Any = as_map(node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution"))
    for _, term in maps_in(required.get("nodeSelectorTerms"), ()):
        for _, expression in maps_in(term.get("matchExpressions"), ()):
            if as_text(expression.get("key")) in _TYPE_LABELS and expression.get("operator") == "In":
                values.extend(str(value) for value in as_list(expression.get("values")))
    types = [gpu_type(value) for value in values]
    return types if all(types) else ()
