"""What an upgrade needs beside what runs: said before anything is built."""

from __future__ import annotations

from rayservice_operator.cluster.status import wanted_resources
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.service.context import Target


def second_cluster(target: Target, config: OperatorConfig) -> str:
    """Pods, GPUs, CPUs and memory of another whole cluster: ``3 pods with 2 GPUs, 5 CPUs and 12Gi of memory``."""
    view = view_of({"spec": target.cluster_spec}, config)
    pods = 1 + sum(group.desired for group in view.workers)
    wanted = wanted_resources(view)
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
