"""What an upgrade needs beside what runs: said before anything is built, and looked for in the cluster."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass

from rayservice_operator.api import names
from rayservice_operator.cluster.pod import for_dry_run
from rayservice_operator.cluster.quantity import parse_or_zero
from rayservice_operator.cluster.status import resources_of, wanted_resources
from rayservice_operator.cluster.view import ClusterView, GroupView, view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.room import PodsWanted
from rayservice_operator.service import shares
from rayservice_operator.service.context import Context, Target


@dataclass(frozen=True)
class Needs:
    """Pods to place in addition, by group. ``str()`` is ``3 pods with 2 GPUs, 5 CPUs and 12Gi of memory``."""

    pods: tuple[PodsWanted, ...]
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def count(self) -> int:
        """How many pods."""
        return sum(wanted.to_place for wanted in self.pods)


NONE = Needs((), "no pods beside those that run")


def of_second_cluster(context: Context, target: Target) -> Needs:
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


def second_cluster(cluster_spec: Manifest, config: OperatorConfig) -> Needs:
    """Another such cluster beside the one that serves."""
    return _whole(_text(cluster_spec), config)


@functools.lru_cache(maxsize=256)
def _whole(cluster_spec: str, config: OperatorConfig) -> Needs:
    """Asked in each decision during an upgrade, about a spec that does not change."""
    view = _view(cluster_spec, config)
    pods = tuple(_wanted(view, group, group.desired) for group in (view.head, *view.workers) if group.desired)
    return Needs(pods, _told(sum(wanted.to_place for wanted in pods), wanted_resources(view)))


def surge(target: Target, config: OperatorConfig, groups: Collection[str], pods: int) -> Needs:
    """``pods`` more of one of these groups at a time; of the group that needs most."""
    return _surge(_text(target.cluster_spec), config, frozenset(groups), pods)


@functools.lru_cache(maxsize=256)
def _surge(cluster_spec: str, config: OperatorConfig, groups: frozenset[str], pods: int) -> Needs:
    view = _view(cluster_spec, config)
    rolled = [group for group in view.workers if group.name in groups and group.desired]
    if not pods or not rolled:
        return NONE
    more = [(number := min(pods, group.desired), resources_of(group, number), group) for group in rolled]
    most = max(more, key=lambda need: (need[0], *(parse_or_zero(text) for text in need[1].values())))
    number, resources, group = most
    return Needs((_wanted(view, group, number),), f"{_told(number, resources)} at a time, beside those that run")


def _text(cluster_spec: Manifest) -> str:
    return json.dumps(cluster_spec, sort_keys=True)


def _wanted(view: ClusterView, group: GroupView, pods: int) -> PodsWanted:
    return PodsWanted(group.name, for_dry_run(view, group), pods, pods)


def _view(cluster_spec: str, config: OperatorConfig) -> ClusterView:
    """A cluster of this spec that nobody has built."""
    metadata = {"name": "", "namespace": "", "uid": "", "labels": {names.ORIGIN_KIND: "RayService"}}
    spec: Manifest = json.loads(cluster_spec)
    return view_of({"apiVersion": names.API_VERSION, "kind": "RayCluster", "metadata": metadata, "spec": spec}, config)


def _told(pods: int, wanted: Manifest) -> str:
    """``3 pods with 2 GPUs, 5 CPUs and 12Gi of memory``, from the sums that a RayCluster's status has."""
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
