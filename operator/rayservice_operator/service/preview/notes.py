"""What is to be said beside the change itself: an upgrade under way and what becomes of it, settings, annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, annotations_of, labels_of
from rayservice_operator.service import undo, verbs
from rayservice_operator.service.context import Context
from rayservice_operator.service.preview.scene import ASSUMED
from rayservice_operator.service.roll import Phase
from rayservice_operator.service.strategies import recreate
from rayservice_operator.service.strategies.base import Plan

SETTINGS: Final[Mapping[str, str]] = {
    "serveService": "the service in front of Serve is changed in place",
    "excludeHeadPodFromServeSvc": "the head pod gets requests or is left out, without a restart",
    "rayClusterDeletionDelaySeconds": "it counts from the next switch of clusters on",
    "upgradeStrategy": "it is for upgrades from now on, and for one that is under way",
    "serviceUnhealthySecondThreshold": "it says when trouble is reported and answered",
    "deploymentUnhealthySecondThreshold": "it says when trouble is reported and answered, and an upgrade is given up",
}
"""Fields of ``spec`` that touch no pod and no replica by themselves."""

ANNOTATIONS: Final[Mapping[str, str]] = {
    names.ROLLBACK: "it says whether a serve config that fails gives way to the last good one",
    names.RETRY: "what failed before is tried once more",
    names.PAUSE: "it holds upgrades where they are, or lets them go on",
    names.PROMOTE: "the cluster it names may take over without waiting",
    names.ABORT: "the upgrade to the cluster it names is given up",
    names.UNDO: "the revision of that number is in force in place of the spec",
    names.AUTO_RECOVERY: "it says whether trouble is answered by another cluster",
    names.DISRUPTION_BUDGET: "it reaches the clusters that run at once",
    names.DRAIN: "it comes with the next cluster",
    names.INITIALIZING_TIMEOUT: "it counts from now on",
}
"""Annotations that this operator reads; others come with the next cluster."""

_STATE: Final = ("suspend", "managedBy", "rayClusterConfig", "serveConfigV2")


def settings(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """A sentence for each other field of ``spec`` that changes."""
    old, new = before["spec"], after["spec"]
    changed = [key for key in (*new, *(k for k in old if k not in new)) if old.get(key) != new.get(key)]
    return tuple(
        f"spec.{key}: {SETTINGS.get(key, 'the operator knows no such field and ignores it')}."
        for key in changed
        if key not in _STATE
    )


def metadata(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """A sentence for each label or annotation that changes."""
    told = [
        f"Annotation {key}: {ANNOTATIONS.get(key, 'it comes with the next cluster')}."
        for key in _differing(annotations_of(before), annotations_of(after))
        if not names.is_tracking_key(key)
    ]
    labels = [key for key in _differing(labels_of(before), labels_of(after)) if not names.is_tracking_key(key)]
    return (*told, *(f"Label {key}: it comes with the next cluster." for key in labels))


def asks(before: Manifest, after: Manifest) -> bool:
    """Whether an annotation changes that asks something of an upgrade."""
    return bool(names.VERBS.intersection(_differing(annotations_of(before), annotations_of(after))))


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def named(cluster: str) -> str:
    """A RayCluster in a sentence."""
    return cluster if cluster == ASSUMED else f"RayCluster {cluster}"


def under_way(before: Context, after: Context, plan: Plan) -> tuple[str, ...]:
    """An upgrade that has begun, and what becomes of it by ``plan``; other things that stand in the way."""
    told: list[str] = []
    phase = (before.stored.get("upgrade") or {}).get("phase")
    if before.pending_name:
        became = _fate(before.pending_name, after, plan)
        told.append(
            f"An upgrade to {named(before.pending_name)} is under way{f' ({phase})' if phase else ''}: {became}."
        )
    elif plan.roll is not None and phase and plan.roll.phase is not Phase.ANNOUNCED:
        told.append(f"Pods of {named(plan.active)} are being replaced in place ({phase}): those that fit already stay.")
    elif recreate.replaced(before) and not before.active_name:
        told.append(f"RayCluster {recreate.replaced(before)} has been removed to be built again.")
    if plan.waiting and not plan.replaces:
        told.append(plan.waiting)
    if plan.hold is not None:
        told.append(plan.hold.message)
    target = after.target
    if target is not None and target.undone:
        told.append(
            f"The annotation {names.UNDO} is in force: what counts is revision {undo.asked(after.service)}, not this "
            "spec."
        )
    if target is not None and target.failed:
        told.append(
            "This revision has failed before and is not tried again: what served before stays in force, until the spec "
            f"changes or {names.RETRY} gets a new value."
        )
    return tuple(told)


def _fate(pending: str, after: Context, plan: Plan) -> str:
    if verbs.abort_asked(after.service, pending):
        return f"it is given up, because {names.ABORT} asks for it"
    if verbs.promotion_asked(after.service, pending) and plan.pending == pending:
        return f"it takes over as soon as it is able to serve, because {names.PROMOTE} asks for it"
    if plan.pending == pending and plan.back:
        return "requests go back to the active cluster step by step, then it is deleted"
    if plan.pending == pending:
        return "it goes on"
    if plan.active == pending:
        return "it takes over now"
    if any(view.name == pending for view in plan.superseded):
        return "it is given up, and its cluster, which never served, is deleted"
    if plan.active and not plan.pending:
        return "it is given up, and its cluster is deleted"
    return "another cluster takes its place"
