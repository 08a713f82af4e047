"""Which part of ``rayClusterConfig`` decides between «in place» and «a new cluster».

The hash covers everything but the fields that a running cluster takes over in place. KubeRay leaves out the
same replica counts, tolerations and scheduling gates but then drops their edits silently (#2331, #4568); here
each field left out is one that :mod:`rayservice_operator.service.inplace` applies.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, annotations_of

CLUSTER_FIELDS = ("suspend", "upgradeStrategy", "managedBy", "headServiceAnnotations")
AUTOSCALER_FIELDS = ("idleTimeoutSeconds", "upscalingMode")
HEAD_FIELDS = ("serviceType", "headService", "enableIngress", "ingressOptions")
GROUP_FIELDS = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy", "idleTimeoutSeconds", "priority", "suspend")
POD_FIELDS = ("tolerations", "schedulingGates")
MADE_FROM = ("template", "rayStartParams", "resources", "labels")
"""Fields of a group that its pods are made from (``GroupView.template_hash``)."""


def digest(value: Any) -> str:
    """Hex digest of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def analysis_hash(service: Manifest) -> str:
    """Hash of ``upgradeStrategy.analysis`` of a RayService; empty where there is none."""
    strategy = service["spec"].get("upgradeStrategy")
    analysis = strategy.get("analysis") if isinstance(strategy, dict) else None
    return "" if analysis is None else digest(analysis)


def frozen_part(cluster_spec: Manifest, *, groups: int | None = None) -> Manifest:
    """The part of a RayClusterSpec that a running cluster cannot change, with the first ``groups`` worker groups."""
    spec = copy.deepcopy(cluster_spec)
    _drop(spec, CLUSTER_FIELDS)
    _drop(spec.get("autoscalerOptions"), AUTOSCALER_FIELDS)
    if not spec.get("autoscalerOptions"):
        spec.pop("autoscalerOptions", None)
    head = spec.get("headGroupSpec") or {}
    _drop(head, HEAD_FIELDS)
    _drop(_pod_spec(head), POD_FIELDS)
    workers = spec.get("workerGroupSpecs") or []
    spec["workerGroupSpecs"] = workers if groups is None else workers[:groups]
    for group in spec["workerGroupSpecs"]:
        _drop(group, GROUP_FIELDS)
        _drop(_pod_spec(group), POD_FIELDS)
    return spec


def cluster_hash(cluster_spec: Manifest, *, groups: int | None = None) -> str:
    """Hash of :func:`frozen_part`; two specs with the same hash can share a running cluster."""
    return _cluster_hash(json.dumps(cluster_spec, sort_keys=True, separators=(",", ":")), groups)


@functools.lru_cache(maxsize=2048)
def _cluster_hash(text: str, groups: int | None) -> str:
    """Asked several times in each decision about specs that hardly ever change."""
    return digest(frozen_part(json.loads(text), groups=groups))


def matches(cluster: Manifest, cluster_spec: Manifest) -> bool:
    """Whether a RayCluster can become what ``cluster_spec`` says without being replaced.

    True for equal hashes and for worker groups appended behind those that the cluster was built with. Not while its
    pods are being replaced: then it is neither what it was nor what it shall be.
    """
    annotations = annotations_of(cluster)
    if names.ROLL in annotations:
        return False
    groups = group_count(cluster)
    if len(cluster_spec.get("workerGroupSpecs") or []) < groups:
        return False
    if names.IN_PLACE_APPLIED not in annotations:
        return _same_spec(cluster, cluster_spec, groups)
    return annotations.get(names.SPEC_HASH) == cluster_hash(cluster_spec, groups=groups)


def _same_spec(cluster: Manifest, cluster_spec: Manifest, groups: int) -> bool:
    """Comparison of the specs themselves, for a cluster that another operator built.

    KubeRay's hash is its own. Taking over a running service from it must not replace its cluster, so what its
    typed objects add (empty values, defaults) is not a difference.
    """
    built, wanted = (frozen_part(spec, groups=groups) for spec in (cluster.get("spec") or {}, cluster_spec))
    return bool(essence(built) == essence(wanted))


DEFAULTS: Final[dict[str, Any]] = {"numOfHosts": 1, "creationTimestamp": None}


def essence(value: Any) -> Any:
    """``value`` without empty values and defaults of typed clients, at every depth. None when nothing is left."""
    if isinstance(value, dict):
        kept = {k: essence(v) for k, v in value.items() if k not in DEFAULTS or v != DEFAULTS[k]}
        return {k: v for k, v in kept.items() if v is not None} or None
    if isinstance(value, list):
        return [essence(item) for item in value] or None
    return value if value != "" else None


def group_count(cluster: Manifest) -> int:
    """Number of worker groups that the recorded hash of a RayCluster covers."""
    recorded = annotations_of(cluster).get(names.NUM_WORKER_GROUPS, "")
    if recorded.isdigit():
        return int(recorded)
    return len((cluster.get("spec") or {}).get("workerGroupSpecs") or [])


def _pod_spec(group: Manifest) -> Manifest | None:
    return (group.get("template") or {}).get("spec")


def _drop(mapping: Manifest | None, keys: Iterable[str]) -> None:
    if mapping:
        for key in keys:
            mapping.pop(key, None)
