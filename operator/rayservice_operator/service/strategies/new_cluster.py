"""NewCluster: a second cluster, promoted when it is proven, then the old one goes. Needs room for both."""

from __future__ import annotations

from rayservice_operator.core.decision import Note
from rayservice_operator.service import gates, hashing
from rayservice_operator.service.context import Context, Target
from rayservice_operator.service.strategies.base import Plan, first_cluster, keep, never_served, proven, second_cluster


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
        return keep(target, active, pending)
    if target.given_up:
        return Plan(active.name, "", superseded=never_served(pending), given_up=True)
    if pending is not None and hashing.matches(pending.manifest, target.cluster_spec):
        if not proven(context, pending, target):
            return Plan(active.name, pending.name)
        if held := gates.hold(context, pending):
            return Plan(active.name, pending.name, hold=held)
        note = Note("Promoted", f"RayCluster {pending.name} is active now, {active.name} before it.")
        return Plan(pending.name, "", notes=(note,))
    return second_cluster(context, target, active, _announced)


def _announced(old: str, new: str, needs: str) -> str:
    return f"RayCluster {new} comes up beside {old}, which serves until the new one is proven. It needs {needs}."
