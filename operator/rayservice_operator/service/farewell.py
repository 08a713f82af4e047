"""Clients that keep their connections are sent away from pods that requests shall not go to any more.

Those are the pods of a cluster that has no role, and those of the active cluster that a split of requests leaves out.
They are marked, and their HTTP proxies end each connection with the next answer on it (``cluster.connections``). The
mark is taken away when requests may come again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.core.decision import MergePatch
from rayservice_operator.core.objects import annotations_of, is_terminating, labels_of, ref, uid_of
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service.context import Context
from rayservice_operator.service.strategies.base import Plan

REPEAT_S: Final = 10.0
"""The mark is written a second time after this long. A kubelet that misses a change of annotations shows it only with
its next sync, up to a minute later, and any other change makes it look again. A precaution: in one of five switches
clients stayed for a minute, and the reason was not found."""

_REPEATED: Final = ", repeated"


def plan_marks(
    context: Context, plan: Plan, split: Mapping[str, set[str]] | None = None
) -> tuple[list[MergePatch], float | None]:
    """Patches of the mark where it is not as it shall be, and when to look again.

    They belong after those of labels and services: a client that connects anew shall find another pod. ``split``: by
    cluster, the UIDs of the pods that requests go to.
    """
    patches = []
    looks = []
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
            mark = annotations.get(names.DRAINING)
            wanted, look = _mark(mark, context.now) if retired or left_out else (None, None)
            if wanted != mark:
                patches.append(MergePatch(ref(pod), {"metadata": {"annotations": {names.DRAINING: wanted}}}))
            looks.append(look)
    return patches, min((at for at in looks if at is not None), default=None)


def _mark(mark: str | None, now: float) -> tuple[str, float | None]:
    """The mark of a pod that is to be left, given the one that it has, and when it is to be written again."""
    if not mark:
        return to_rfc3339(now), now + REPEAT_S
    if mark.endswith(_REPEATED):
        return mark, None
    again = (from_rfc3339(mark) or 0.0) + REPEAT_S
    return (mark + _REPEATED, None) if again <= now else (mark, again)
