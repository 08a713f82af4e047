"""Clients that keep their connections are sent away from pods that requests shall not go to any more.

Those are the pods of a cluster that has no role, and those of the active cluster that a split of requests leaves out.
They are marked, and their HTTP proxies end each connection with the next answer on it (``cluster.connections``). The
mark is taken away when requests may come again.
"""

from __future__ import annotations

from collections.abc import Mapping

from rayservice_operator.api import names
from rayservice_operator.core.decision import MergePatch
from rayservice_operator.core.objects import annotations_of, is_terminating, labels_of, ref, uid_of
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.context import Context
from rayservice_operator.service.strategies.base import Plan


def plan_marks(context: Context, plan: Plan, split: Mapping[str, set[str]] | None = None) -> list[MergePatch]:
    """Patches of the mark where it is not as it shall be.

    They belong after those of labels and services: a client that connects anew shall find another pod. ``split``: by
    cluster, the UIDs of the pods that requests go to.
    """
    patches = []
    for view in context.clusters.values():
        if not view.live:
            continue
        retired = view.name not in (plan.active, plan.pending)
        chosen = split.get(view.name) if split is not None and view.name == plan.active else None
        for pod in view.pods:
            annotations = annotations_of(pod)
            if names.PROXY_MODULE not in annotations or is_terminating(pod):
                continue
            left_out = chosen is not None and uid_of(pod) not in chosen and labels_of(pod).get(names.SERVE) == "false"
            if (retired or left_out) != bool(annotations.get(names.DRAINING)):
                mark = to_rfc3339(context.now) if retired or left_out else None
                patches.append(MergePatch(ref(pod), {"metadata": {"annotations": {names.DRAINING: mark}}}))
    return patches
