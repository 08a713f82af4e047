"""What an upgrade needs beside what runs: said before anything is built."""

from __future__ import annotations

from collections.abc import Collection

from rayservice_operator.cluster.quantity import parse_or_zero
from rayservice_operator.cluster.status import resources_of, wanted_resources
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service.context import Target


def second_cluster(target: Target, config: OperatorConfig) -> str:
    """Pods, GPUs, CPUs and memory of another whole cluster: ``3 pods with 2 GPUs, 5 CPUs and 12Gi of memory``."""
    view = view_of({"spec": target.cluster_spec}, config)
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
