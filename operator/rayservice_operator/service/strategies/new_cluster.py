"""NewCluster: a second cluster, promoted when it is proven, then the old one goes. Needs room for both."""

from __future__ import annotations

from rayservice_operator.core.decision import Note
from rayservice_operator.service import gates, hashing
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.strategies.base import Plan, first_cluster, never_served, new_name, planned_for, proven
from rayservice_operator.service.strategies.needs import second_cluster


def plan(context: Context, target: Target) -> Plan:
    """Roles for the present spec.

    Never more than two live clusters: a former one that is still waiting for its deletion is taken back when
    the spec returns to it, and hurried when a third spec needs its place.
    """
    active = context.active
    if active is None:
        return first_cluster(context, target)
    pending = context.pending
    if hashing.matches(active.manifest, target.cluster_spec):
        return _keep(active, pending)
    if target.given_up:
        return Plan(active.name, "", superseded=never_served(pending), given_up=True)
    if pending is not None and hashing.matches(pending.manifest, target.cluster_spec):
        if not proven(context, pending, target):
            return Plan(active.name, pending.name)
        if held := gates.hold(context, pending):
            return Plan(active.name, pending.name, hold=held)
        note = Note("Promoted", f"RayCluster {pending.name} is active now, {active.name} before it.")
        return Plan(pending.name, "", notes=(note,))
    superseded = never_served(pending)
    if held := gates.paused(context):
        return Plan(active.name, "", superseded=superseded, hold=held)
    if planned_for(context, target):
        return Plan(active.name, context.pending_name)  # named in the status, to be built now
    going = {active.name, *(view.name for view in superseded)}
    retiring = [view for view in context.clusters.values() if view.live and view.name not in going]
    # Taken back only once its deadline is written on it, so that it is still known when a third spec comes.
    former = next((v for v in retiring if v.delete_after and hashing.matches(v.manifest, target.cluster_spec)), None)
    if former is not None:
        note = Note(
            "Readopted", f"RayCluster {former.name} fits the spec and is taken back instead of building a new one."
        )
        return Plan(active.name, former.name, superseded=superseded, notes=(note,))
    if retiring:
        waiting = ", ".join(view.name for view in retiring)
        return Plan(
            active.name,
            "",
            superseded=superseded,
            waiting=f"Waiting for the former cluster {waiting} to go before another one is built.",
        )
    name = new_name(context, target)
    needs = second_cluster(target, context.config)
    announced = Note(
        "UpgradeStarted",
        f"RayCluster {name} comes up beside {active.name}, which serves until the new one is proven. It needs {needs}.",
    )
    return Plan(active.name, name, superseded=superseded, notes=(announced,))


def _keep(active: ClusterView, pending: ClusterView | None) -> Plan:
    if pending is None:
        return Plan(active.name, "")
    note = Note(
        "UpgradeCancelled", f"The spec is that of the active RayCluster {active.name} again; {pending.name} is deleted."
    )
    return Plan(active.name, "", superseded=never_served(pending), notes=(note,))
