"""None: the cluster spec is frozen. What an edit would need a new cluster for is held back and said so."""

from __future__ import annotations

from rayservice_operator.cluster.roll import roll_of
from rayservice_operator.service import hashing
from rayservice_operator.service.context import Context, Target
from rayservice_operator.service.strategies.base import Plan, first_cluster, never_served


def plan(context: Context, target: Target) -> Plan:
    """Roles for the present spec: the active cluster stays whatever the spec says."""
    active = context.active
    if active is None:
        return first_cluster(context, target)
    superseded = never_served(context.pending)
    if hashing.matches(active.manifest, target.cluster_spec):
        return Plan(active.name, "", superseded=superseded, given_up=target.given_up)
    if roll_of(active.manifest) is not None:
        held_back = (
            f"Pods of {active.name} were being replaced in place when upgradeStrategy.type became None; those that run "
            "stay as they are. Set upgradeStrategy.type to InPlace to go on."
        )
        return Plan(active.name, "", superseded=superseded, held_back=held_back)
    held_back = (
        "spec.rayClusterConfig was changed in a way that needs a new cluster; upgradeStrategy.type is None, so "
        f"{active.name} keeps its spec. Set upgradeStrategy.type to NewCluster to apply it."
    )
    return Plan(active.name, "", superseded=superseded, held_back=held_back)
