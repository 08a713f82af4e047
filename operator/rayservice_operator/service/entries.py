"""``activeServiceStatus`` and ``pendingServiceStatus``: what is told of one cluster, and since when it is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.apps import application_statuses
from rayservice_operator.service.context import Context
from rayservice_operator.service.news import carried


def entry(context: Context, name: str, shares: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The part of the status about the RayCluster of that name; ``shares``: of capacity and requests."""
    view = context.live(name)
    told: dict[str, Any] = {"rayClusterName": name, **(shares or {})}
    if view is None:
        return told
    if cluster_status := view.manifest.get("status"):
        told["rayClusterStatus"] = cluster_status
    if view.applied_hash:
        told["appliedConfigHash"] = view.applied_hash
    observation = view.observation
    if observation is not None and observation.seen_at is not None:
        told["applicationStatuses"] = application_statuses(observation)
    elif carried(context, view) and view.entry.get("applicationStatuses"):
        told["applicationStatuses"] = view.entry["applicationStatuses"]
    return stamp(told, view.entry, context.now)


def stamp(new: dict[str, Any], old: Mapping[str, Any], now: float) -> dict[str, Any]:
    """``new`` with ``lastUpdateTime``: the old one where nothing else differs."""
    same = {key: value for key, value in old.items() if key != "lastUpdateTime"} == new
    kept = old.get("lastUpdateTime") if same else None
    return {**new, "lastUpdateTime": kept or to_rfc3339(now)}
