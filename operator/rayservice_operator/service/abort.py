"""Giving up an upgrade: a new cluster that does not come up goes, and the old one, which serves, stays.

Two limits, both durable in the status. ``deploymentUnhealthySecondThreshold``: an application or a container of the new
cluster has failed, and nothing about that cluster has moved for so long (``progress``).
``upgradeStrategy.progressDeadlineSeconds``: the upgrade as a whole takes longer. Without an old cluster that serves
nothing is given up: there is nothing to go back to. No time counts while the upgrade is paused or its cluster
suspended. A person may give up any upgrade (``ray.io/abort``).

A rollout in place is given up by a person only: by itself it stops, since the way back replaces pods, too. Then the
revision that all of the cluster ran last is rolled out again.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339
from rayservice_operator.service import analysis, recovery, revisions, thresholds, verbs
from rayservice_operator.service.analysis import State
from rayservice_operator.service.apps import Phase, Standing
from rayservice_operator.service.context import Context, Target
from rayservice_operator.service.endpoints import endpoint_pods
from rayservice_operator.service.failed import net_wanted, record
from rayservice_operator.service.hashing import cluster_hash
from rayservice_operator.service.progress import Progress
from rayservice_operator.service.strategies.base import Plan


@dataclass(frozen=True, slots=True)
class Limit:
    """``at``: epoch seconds. ``why`` ends a sentence that begins «RayCluster x is given up, because ».

    asked: whether a person said so, which holds whatever ``ray.io/rollback`` says. analysed: whether the analysis is
    why; what else is to be said of the cluster is nothing bad then.
    """

    at: float
    why: str
    asked: bool = False
    analysed: bool = False


def limit(
    context: Context, plan: Plan, standing: Standing, progress: Progress, analysed: State | None = None
) -> Limit | None:
    """The first limit that the planned upgrade will reach, by what is known of the new cluster."""
    if plan.roll is not None:
        return _asked(context, str(plan.roll.revision or "")) if former_revision(context, plan) else None
    pending = plan.pending
    if plan.back or not pending or not (plan.active or former_revision(context, plan)):
        return None
    if asked := _asked(context, pending):
        return asked
    if verbs.paused(context.service) or standing.phase is Phase.SUSPENDED or not net_wanted(context.service):
        return None
    if context.target is not None and recovery.replacing(context, context.target):
        return None  # it has limits of its own
    if plan.active and not endpoint_pods(context, plan.active):
        return None  # the old cluster does not serve: the new one may yet be what mends it
    limits: list[Limit] = []
    if analysed is not None and analysed.phase in analysis.FAILURES:
        limits.append(
            Limit(context.now, f"its analysis {analysis.FAILURES[analysed.phase]}: {analysed.message}", analysed=True)
        )
    upgrade = context.stored.get("upgrade") or {}
    # Just now, if the pause is still in the stored status.
    resumed = context.now if upgrade.get("paused") else from_rfc3339(upgrade.get("resumed")) or 0.0
    if failed := thresholds.deployment_limit(context.service, progress):
        why = f"it did not recover within {failed.seconds} s ({failed.field})"
        limits.append(Limit(max(failed.at, resumed + failed.seconds), why))
    started = from_rfc3339(upgrade.get("started")) if upgrade.get("to") == pending else None
    seconds = thresholds.progress_deadline_s(context.service)
    if started is not None and seconds:
        why = f"the upgrade was not done within {seconds} s ({thresholds.PROGRESS})"
        limits.append(Limit(max(started, resumed) + seconds, why))
    return min(limits, key=lambda known: known.at, default=None)


def _asked(context: Context, target: str) -> Limit | None:
    """Reached at once where a person gives up the upgrade to this cluster, or revision."""
    if not verbs.abort_asked(context.service, target):
        return None
    return Limit(context.now, f"the annotation {names.ABORT} asks for it", asked=True)


def former_revision(context: Context, plan: Plan) -> int:
    """Number of the revision to go back to where no former cluster is there to stay with; 0 for none known.

    That of the cluster that is gone for the pending one (Recreate), or that the cluster had all of before its pods were
    replaced (InPlace). Not where that is the one on its way now: a revision that was gone back to and fails too is not
    left again.
    """
    if not (plan.replaces or plan.roll) or context.target is None or context.target.given_up:
        return 0
    number = int((context.stored.get("applied") or {}).get("revision") or 0)
    return number if revisions.numbered(context.snapshot.revisions, number) else 0


def given_up(context: Context, target: Target, plan: Plan, standing: Standing, reached: Limit) -> Manifest:
    """What the status shall remember of an upgrade that has reached a limit."""
    good = context.good_config
    besides = "" if reached.analysed or plan.roll else f" {standing.message}"
    what = f"The rollout in RayCluster {plan.active}" if plan.roll else f"RayCluster {plan.pending}"
    return record(
        context.service,
        context.now,
        f"{what} is given up, because {reached.why}.{besides}",
        config_hash=target.declared.hash if target.declared else "",
        rolled_back_to=good.hash if good else "",
        cluster_hash=cluster_hash(target.cluster_spec),
        asked=reached.asked,
        revision=former_revision(context, plan),
        analysed=reached.analysed,
    )
