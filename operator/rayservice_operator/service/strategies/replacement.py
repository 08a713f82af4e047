"""Replacement: a cluster of the same spec takes the place of one in trouble (``recovery``), whatever the strategy."""

from __future__ import annotations

from rayservice_operator.core.decision import Note
from rayservice_operator.service import hashing, recovery
from rayservice_operator.service.context import Context, Target
from rayservice_operator.service.strategies.base import Plan, never_served, new_name, planned_for, proven


def plan(context: Context, target: Target) -> Plan:
    """Roles while the active cluster is replaced. A former one is not taken back: its place is needed, nothing else.

    Nothing holds the new cluster back once it is proven: there is no better one to compare it with.
    """
    active, pending = context.active, context.pending
    assert active is not None
    discarded = recovery.discarded(context)
    if pending is not None and pending.name != discarded and hashing.matches(pending.manifest, target.cluster_spec):
        if not proven(context, pending, target):
            return Plan(active.name, pending.name)
        note = Note("Promoted", f"RayCluster {pending.name} is active now and replaces {active.name}.")
        return Plan(pending.name, "", notes=(note,))
    superseded = never_served(pending)
    if context.pending_name != discarded and planned_for(context, target):
        return Plan(active.name, context.pending_name)  # named in the status, to be built now
    going = {active.name, *(view.name for view in superseded)}
    others = [view.name for view in context.clusters.values() if view.live and view.name not in going]
    if others:
        waiting = f"Waiting for {', '.join(others)} to go before {active.name} is replaced."
        return Plan(active.name, "", superseded=superseded, waiting=waiting)
    return Plan(active.name, new_name(context, target), superseded=superseded)
