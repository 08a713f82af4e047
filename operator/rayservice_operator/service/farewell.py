"""Clients that keep their connections are sent from a cluster that has no role any more to the one that has.

Its pods are marked, and their HTTP proxies end each connection with the next answer on it (``cluster.connections``).
The mark is taken away when the cluster is taken back.
"""

from __future__ import annotations

from rayservice_operator.api import names
from rayservice_operator.core.decision import MergePatch
from rayservice_operator.core.objects import annotations_of, is_terminating, ref
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.context import Context
from rayservice_operator.service.strategies.base import Plan


def plan_marks(context: Context, plan: Plan) -> list[MergePatch]:
    """Patches of the mark where it is not as it shall be. They belong after those of the services: a client that
    connects anew shall find the other cluster."""
    patches = []
    for view in context.clusters.values():
        leaving = view.name not in (plan.active, plan.pending)
        for pod in view.pods:
            annotations = annotations_of(pod)
            if names.PROXY_MODULE not in annotations or is_terminating(pod) or not view.live:
                continue
            if leaving != bool(annotations.get(names.DRAINING)):
                mark = to_rfc3339(context.now) if leaving else None
                patches.append(MergePatch(ref(pod), {"metadata": {"annotations": {names.DRAINING: mark}}}))
    return patches
