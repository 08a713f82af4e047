"""What an upgrade by each strategy means for pods, for requests, and for a serve config that changes as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from rayservice_operator.serveconfig.rollout import Requests
from rayservice_operator.service import roll, strategies
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.preview import cluster, notes
from rayservice_operator.service.preview.result import Impact, Kind, Preview
from rayservice_operator.service.roll_step import pace_of
from rayservice_operator.service.strategies import incremental, needs, recreate
from rayservice_operator.service.strategies.base import Plan

AT_ONCE: Final = "The change of the serve config is pushed to the running cluster at once, before the upgrade begins."
WITH_IT: Final = "The change of the serve config comes with the new cluster; the old one keeps its own."
AFTERWARDS: Final = "The serve config is pushed when all pods are new."


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade that ``plan`` begins, away from ``active``.

    told: what else is known of it: the reasons, and a config that goes to the active cluster meanwhile.
    config_differs: whether the spec has another serve config than the active cluster.
    """

    after: Context
    target: Target
    plan: Plan
    active: ClusterView
    told: Preview
    config_differs: bool

    def preview(self) -> Preview:
        """By the strategy in force."""
        strategy = strategies.strategy_type(self.after)
        told = _BY_STRATEGY[strategy](self)
        if self.told.config is None:
            return told
        own = self.told.impact  # of the config that goes to the running cluster at once
        worst = max(told.impact.requests, own.requests, key=lambda each: each.rank)
        impact = replace(told.impact, requests=worst, dips=told.impact.dips or own.dips)
        return replace(told, config=self.told.config, impact=impact)

    def config_note(self, otherwise: str) -> tuple[str, ...]:
        """When the serve config gets there; none where it does not change."""
        if self.told.config is not None:
            return (AT_ONCE,)
        return (otherwise,) if self.config_differs else ()

    def pods(self) -> int:
        """Of the active cluster."""
        return needs.second_cluster(self.active.manifest["spec"], self.after.config).count


def new_cluster(upgrade: Upgrade) -> Preview:
    """A second cluster beside the active one, or a former one that is still there."""
    plan, after, active = upgrade.plan, upgrade.after, notes.named(upgrade.active.name)
    steps = plan.shares is not None or strategies.strategy_type(after) == incremental.NAME
    kind = Kind.INCREMENTAL if steps else Kind.NEW_CLUSTER
    later = upgrade.config_note(WITH_IT)
    if plan.pending in after.clusters and plan.pending != after.pending_name:
        words = (
            f"{notes.named(plan.pending)}, which served before and is still there, takes over again once it is proven"
        )
        impact = Impact(replicas=None, pods=upgrade.pods())
        return Preview(kind, f"{words}; then {active} goes.", impact, fields=upgrade.told.fields, notes=later)
    wanted = plan.begins or needs.of_second_cluster(after, upgrade.target)
    pods, gpus = cluster.size(wanted)
    first = "Once requests have gone back to the active cluster, a" if plan.back else "A"
    how = "takes over capacity and requests in steps" if steps else "takes over once it is proven"
    return Preview(
        kind,
        f"{first} new cluster comes up beside {active} and {how}; then the old one goes.",
        Impact(replicas=None, pods=upgrade.pods(), extra_pods=pods, extra_pod_gpus=gpus),
        fields=upgrade.told.fields,
        needs=str(wanted),
        notes=later,
    )


def rolled(upgrade: Upgrade) -> Preview:
    """Pods of the active cluster are replaced one after another."""
    target, config = upgrade.target, upgrade.after.config
    groups = roll.difference(upgrade.active.manifest, target.cluster_spec).groups
    pace = pace_of(upgrade.after.service)
    wanted = upgrade.plan.begins or needs.surge(target, config, groups, pace.max_surge)
    pods, gpus = cluster.size(wanted)
    replaced = sum(
        own.to_place for own in needs.second_cluster(target.cluster_spec, config).pods if own.group in groups
    )
    named = ", ".join(sorted(groups)) or "no group"
    return Preview(
        Kind.ROLL,
        f"Pods of {named} in {notes.named(upgrade.active.name)} are drained and replaced one after another.",
        Impact(replicas=None, pods=replaced, extra_pods=pods, extra_pod_gpus=gpus, dips=pace.max_unavailable > 0),
        fields=upgrade.told.fields,
        needs=str(wanted),
        notes=upgrade.config_note(AFTERWARDS),
    )


def recreated(upgrade: Upgrade) -> Preview:
    """The active cluster goes before its successor comes."""
    words = f"{notes.named(upgrade.active.name)} is removed, then its successor is built in its place"
    return Preview(
        Kind.RECREATE,
        f"{words}: until that serves, requests fail.",
        Impact(replicas=None, pods=upgrade.pods(), requests=Requests.FAIL, dips=True),
        fields=upgrade.told.fields,
        notes=upgrade.config_note(WITH_IT),
    )


_BY_STRATEGY: Final[dict[str, Callable[[Upgrade], Preview]]] = {
    "NewCluster": new_cluster,
    incremental.NAME: new_cluster,
    recreate.NAME: recreated,
    "InPlace": rolled,
    "None": new_cluster,
}
"""None holds everything back and never gets here."""
