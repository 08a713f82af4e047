"""Recreate: the old cluster goes first, then the new one is built in its place. Needs no room, and is an outage.

For those with no spare GPU and a maintenance window. What the old cluster frees is what the new one is built from, so
nothing is built before the last of its pods has left. When the new cluster fails, the revision of the old one is built
again.
"""

from __future__ import annotations

import dataclasses

from rayservice_operator.core.decision import Note
from rayservice_operator.service import gates, hashing
from rayservice_operator.service.context import Context, Target
from rayservice_operator.service.strategies.base import Plan, first_cluster, never_served

NAME = "Recreate"


def plan(context: Context, target: Target) -> Plan:
    """Roles for the present spec."""
    active = context.active
    if active is None:
        return _rebuilt(context, target)
    superseded = never_served(context.pending)
    if hashing.matches(active.manifest, target.cluster_spec):
        return Plan(active.name, "", superseded=superseded, given_up=target.given_up)
    if held := gates.paused(context):
        return Plan(active.name, "", superseded=superseded, hold=held)
    announced = Note(
        "UpgradeStarted",
        f"RayCluster {active.name} is removed, then its successor is built in its place: until that serves, requests "
        "fail. It needs no room beside what it frees.",
    )
    return Plan(
        "",
        "",
        superseded=(active, *superseded),
        notes=(announced,),
        waiting=_waiting(active.name),
        replaces=active.name,
    )


def _rebuilt(context: Context, target: Target) -> Plan:
    """After the old cluster: its successor, once everything of it has left."""
    replaces = replaced(context)
    leaving = [view for view in context.clusters.values() if not view.live]
    if leaving and context.pending is None:
        waiting = _waiting(", ".join(view.name for view in leaving))
        return Plan("", "", waiting=waiting, replaces=replaces or leaving[0].name)
    return dataclasses.replace(first_cluster(context, target), replaces=replaces)


def replaced(context: Context) -> str:
    """Name of the cluster that went for the one that is on its way; empty when none did."""
    upgrade = context.stored.get("upgrade") or {}
    going_on = upgrade.get("strategy") == NAME and not context.active_name
    return str(upgrade.get("from") or "") if going_on else context.active_name


def _waiting(names: str) -> str:
    return f"RayCluster {names} is being removed; its successor is built when its pods have left."
