"""RayClusters of a RayService: built for a pending role, changed in place, deleted after their delay."""

from __future__ import annotations

import math

from rayservice_operator.api import names
from rayservice_operator.core.decision import Action, Create, MergePatch, Note
from rayservice_operator.core.objects import Manifest, annotations_of, labels_of, owner_reference, ref
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service import hashing, inplace
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.strategies.base import Plan
from rayservice_operator.service.strategies.needs import scaled


def build(context: Context, target: Target, name: str, capacity: int | None = None) -> Manifest:
    """The RayCluster of that name for the spec in force.

    capacity: percent of it that it begins with, where Ray's autoscaler adds the rest as Serve asks for it.
    """
    service, spec = context.service, target.cluster_spec
    return {
        "apiVersion": names.API_VERSION,
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "namespace": context.namespace,
            "labels": {
                **_for_children(dict(labels_of(service))),
                names.ORIGIN_NAME: context.name,
                names.ORIGIN_KIND: "RayService",
            },
            "annotations": {
                **_for_children(dict(annotations_of(service))),
                names.SPEC_HASH: hashing.cluster_hash(spec),
                names.NUM_WORKER_GROUPS: str(len(spec.get("workerGroupSpecs") or [])),
                names.IN_PLACE_APPLIED: inplace.applied_scale(spec),
                **inplace.applied_suspend(spec),
                names.OPERATOR_VERSION: context.config.version,
            },
            "ownerReferences": [owner_reference(service)],
        },
        "spec": spec if capacity is None else scaled(spec, capacity),
    }


def _for_children(keys: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in keys.items() if not names.is_tracking_key(key) and key not in names.VERBS}


def plan_clusters(context: Context, target: Target, plan: Plan) -> tuple[list[Action], list[Note]]:
    """Build the pending cluster if it is not there, and bring both roles' clusters to the in-place fields."""
    actions: list[Action] = []
    notes: list[Note] = []
    if plan.pending and plan.pending not in context.clusters:
        capacity = plan.shares.pending_capacity if plan.shares else None
        actions.append(Create(build(context, target, plan.pending, capacity)))
        notes.append(Note("CreatedRayCluster", f"Created RayCluster {plan.pending}."))
    for name in (plan.active, plan.pending):
        view = context.live(name)
        if view is None:
            continue
        if view.delete_after and name == plan.active:
            actions.append(MergePatch(ref(view.manifest), {"metadata": {"annotations": {names.DELETE_AFTER: None}}}))
        actions += _passed_on(context, view)
        if hashing.matches(view.manifest, target.cluster_spec) and (
            change := inplace.patch(view.manifest, target.cluster_spec)
        ):
            actions.append(change)
            notes.append(Note("UpdatedRayCluster", f"Changed RayCluster {name} in place."))
    for view in context.clusters.values():
        if view.live and (change := inplace.suspension(view.manifest, target.cluster_spec)):
            actions.append(change)
            verb = "Suspended" if target.cluster_spec.get("suspend") else "Resumed"
            notes.append(Note(f"{verb}RayCluster", f"{verb} RayCluster {view.name} by rayClusterConfig.suspend."))
    if plan.roll is not None:
        actions += [plan.roll.change] if plan.roll.change else []
        notes += plan.roll.notes
    return actions, notes


def _passed_on(context: Context, view: ClusterView) -> list[Action]:
    """The annotation that counts at once, for somebody whose node drain is held up now; others come with the next
    cluster."""
    wanted = annotations_of(context.service).get(names.DISRUPTION_BUDGET)
    if annotations_of(view.manifest).get(names.DISRUPTION_BUDGET) == wanted:
        return []
    return [MergePatch(ref(view.manifest), {"metadata": {"annotations": {names.DISRUPTION_BUDGET: wanted}}})]


def deletion_delay_s(context: Context, target: Target) -> int:
    """``spec.rayClusterDeletionDelaySeconds`` or the default, in seconds.

    It is no part of a revision, so while the present spec is refused it is read from there, if it is usable itself.
    """
    chosen = target.spec.get("rayClusterDeletionDelaySeconds")
    if chosen is None:
        chosen = context.service["spec"].get("rayClusterDeletionDelaySeconds")
    return chosen if isinstance(chosen, int) and chosen >= 0 else context.config.default_deletion_delay_s


def plan_retirement(context: Context, target: Target, plan: Plan) -> tuple[list[Action], list[Note], float | None]:
    """Deadlines and deletions of live clusters without a role. The deadline is kept on the cluster itself.

    Returns:
        Actions, notes, and the next deadline in epoch seconds.
    """
    actions: list[Action] = []
    notes: list[Note] = []
    deadlines: list[float] = []
    for view in _without_role(context, plan):
        due = from_rfc3339(view.delete_after)
        if due is None:
            due = context.now + deletion_delay_s(context, target)
            # Rounded up: a deadline in whole seconds must not come before the delay has passed.
            at = to_rfc3339(math.ceil(due))
            stamp = {names.DELETE_AFTER: at}
            actions.append(MergePatch(ref(view.manifest), {"metadata": {"annotations": stamp}}))
            notes.append(Note("ScheduledDeletion", f"RayCluster {view.name} has no role and goes at {at}."))
            deadlines.append(due + 1)
        elif due <= context.now:
            actions.append(view.deletion())
            notes.append(Note("DeletedRayCluster", f"Deleted RayCluster {view.name}."))
        else:
            deadlines.append(due)
    return actions, notes, min(deadlines, default=None)


def _without_role(context: Context, plan: Plan) -> list[ClusterView]:
    return [v for v in context.clusters.values() if v.live and v.name not in (plan.active, plan.pending)]
