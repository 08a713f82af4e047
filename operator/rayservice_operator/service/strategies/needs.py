"""What an upgrade needs beside what runs: said before anything is built."""

from __future__ import annotations

from collections.abc import Collection

from rayservice_operator.cluster.quantity import parse_or_zero
from rayservice_operator.cluster.status import resources_of, wanted_resources
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import shares
from rayservice_operator.service.context import Context, Target


def of_second_cluster(context: Context, target: Target) -> str:
    """What the second cluster of an upgrade needs beside the first at most: all, or ``maxSurgePercent`` of it.

    That share holds only for what Ray's autoscaler follows Serve's capacity with.
    """
    strategy = context.service["spec"].get("upgradeStrategy") or {}
    if strategy.get("type") != "NewClusterWithIncrementalUpgrade":
        return second_cluster(target.cluster_spec, context.config)
    surge = shares.pace_of(context.service).surge
    return second_cluster(scaled(target.cluster_spec, surge), context.config)


def scaled(cluster_spec: Manifest, percent: int) -> Manifest:
    """A RayClusterSpec whose autoscaled worker groups have ``percent`` of their replicas: rounded up, at least the
    minimum."""
    if not cluster_spec.get("enableInTreeAutoscaling"):
        return cluster_spec
    groups = [
        {
            **group,
            "replicas": max(group.get("minReplicas") or 0, -(-(group.get("replicas") or 0) * percent // 100)),
        }
        for group in cluster_spec.get("workerGroupSpecs") or ()
    ]
    return {**cluster_spec, "workerGroupSpecs": groups}


def second_cluster(cluster_spec: Manifest, config: OperatorConfig) -> str:
    """Pods, GPUs, CPUs and memory of another such cluster: ``3 pods with 2 GPUs, 5 CPUs and 12Gi of memory``."""
    view = view_of({"spec": cluster_spec}, config)
    return _told(1 + sum(group.desired for group in view.workers), wanted_resources(view))


def surge(target: Target, config: OperatorConfig, groups: Collection[str], pods: int) -> str:
    """What ``pods`` more of one of these groups need, as :func:`second_cluster`; for the group that needs most."""
    view = view_of({"spec": target.cluster_spec}, config)
    rolled = [group for group in view.workers if group.name in groups and group.desired]
    if not pods or not rolled:
        return "no pods beside those that run"
    more = [(number := min(pods, group.desired), resources_of(group, number)) for group in rolled]
    most = max(more, key=lambda need: (need[0], *(parse_or_zero(text) for text in need[1].values())))
    return f"{_told(*most)} at a time, beside those that run"


def _told(pods: int, wanted: Manifest) -> str:
    parts = [
        _count(wanted["desiredGPU"], "GPU"),
        _count(wanted["desiredTPU"], "TPU"),
        _count(wanted["desiredCPU"], "CPU"),
    ]
    if wanted["desiredMemory"] != "0":
        parts.append(f"{wanted['desiredMemory']} of memory")
    named = [part for part in parts if part]
    *first, last = named or ["no resources requested"]
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{_count(str(pods), 'pod')} with {listed}"


def _count(number: str, what: str) -> str:
    """``2 GPUs``; empty for none. CPUs come in thousandths too: ``1500m CPUs``."""
    if number == "0":
        return ""
    return f"{number} {what}" if number == "1" else f"{number} {what}s"
