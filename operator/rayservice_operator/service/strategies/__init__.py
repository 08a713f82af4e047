"""Upgrade strategies: one file each, chosen from this table by ``spec.upgradeStrategy.type``."""

from __future__ import annotations

from typing import Final

from rayservice_operator.service import recovery
from rayservice_operator.service.context import Context
from rayservice_operator.service.strategies import frozen, in_place, incremental, new_cluster, recreate, replacement
from rayservice_operator.service.strategies.base import Plan, Strategy

STRATEGIES: Final[dict[str, Strategy]] = {
    "NewCluster": new_cluster.plan,
    incremental.NAME: incremental.plan,
    recreate.NAME: recreate.plan,
    "InPlace": in_place.plan,
    "None": frozen.plan,
}


def strategy_type(context: Context) -> str:
    """``upgradeStrategy.type`` in force; unset means NewCluster unless zero-downtime upgrades are switched off."""
    default = "NewCluster" if context.config.zero_downtime else "None"
    if incremental.going_on(context):
        return incremental.NAME
    chosen = (context.service["spec"].get("upgradeStrategy") or {}).get("type") or default
    if in_place.going_back(context) and chosen != "None":
        return "InPlace"
    return chosen if chosen in STRATEGIES else default


def plan(context: Context) -> Plan:
    """The plan of the strategy in force. Call it only with a target."""
    assert context.target is not None
    if recovery.replacing(context, context.target):
        return replacement.plan(context, context.target)
    return STRATEGIES[strategy_type(context)](context, context.target)
