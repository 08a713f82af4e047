"""The net under a hot update: a serve config that fails gives way to the last good one, by itself.

«Failed» is Ray's own word, DEPLOY_FAILED, about an application whose declaration the update changed, or one that is
UNHEALTHY for ``deploymentUnhealthySecondThreshold`` without any progress. An update that neither ends nor fails, say
because a constructor hangs, has failed at ``upgradeStrategy.progressDeadlineSeconds``, if that is set. One that fails
by itself, under a config that has worked for longer than that threshold, is no reason to go back. What failed is
remembered in the status by the hash of its config and not tried again until ``serveConfigV2`` changes or somebody asks
for it. The memory is stored before anything is pushed, so an operator killed in between goes on from there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import ApplicationView, ServeObservation
from rayservice_operator.core.timestamps import from_rfc3339
from rayservice_operator.serveconfig.canonical import ServeConfig
from rayservice_operator.service import thresholds
from rayservice_operator.service.activity import Activity
from rayservice_operator.service.apps import Phase, Standing
from rayservice_operator.service.context import ClusterView, Config, Context, Target
from rayservice_operator.service.failed import net_wanted, record
from rayservice_operator.service.progress import Progress


class Stage(enum.StrEnum):
    """Where a rollback is."""

    NONE = "None"
    GOING_BACK = "GoingBack"
    BACK = "Back"


_GOING: frozenset[Phase] = frozenset({Phase.PUSHING, Phase.DEPLOYING, Phase.NO_ENDPOINTS})


def failed_update(
    context: Context, target: Target, view: ClusterView | None, standing: Standing, progress: Progress
) -> Manifest | None:
    """What the status shall remember of a hot update that has failed just now; None when none has.

    view, standing, progress: of the active cluster, with no other one coming up.
    """
    if target.declared is None or view is None or view.observation is None or not net_wanted(context.service):
        return None
    why, troubled = _gone_wrong(context, standing, progress), _failed
    if not why and _late(context, target, standing, progress):
        seconds = thresholds.progress_deadline_s(context.service)
        why, troubled = f"{standing.message} It was not done within {seconds} s ({thresholds.PROGRESS}).", _not_up
    before = _before(context, target.declared, progress)
    if not why or before is None:
        return None
    if not _caused_by_the_update(target.declared.parsed, before.parsed, view.observation, troubled):
        return None
    return record(context.service, context.now, why, config_hash=target.declared.hash, rolled_back_to=before.hash)


def deadline(context: Context, target: Target | None, standing: Standing, progress: Progress) -> float | None:
    """Epoch seconds at which the hot update going on counts as failed if it has not ended; None for no such time."""
    seconds = thresholds.progress_deadline_s(context.service)
    if seconds is None or progress.began is None or standing.phase is not Phase.DEPLOYING:
        return None
    if target is None or target.failed or target.declared is None or not net_wanted(context.service):
        return None
    good = context.good_config
    return None if good is None or good.hash == target.declared.hash else progress.began + seconds


def _late(context: Context, target: Target, standing: Standing, progress: Progress) -> bool:
    limit = deadline(context, target, standing, progress)
    return limit is not None and context.now >= limit


def _gone_wrong(context: Context, standing: Standing, progress: Progress) -> str:
    """Why, in Ray's words; empty while it has not, or not for long enough."""
    if standing.phase is Phase.FAILED:
        return standing.message
    limit = thresholds.deployment_limit(context.service, progress)
    failing = progress.activity is Activity.APPLICATIONS_FAILING and standing.phase is not Phase.REJECTED
    if limit is None or not failing or context.now < limit.at:
        return ""
    return f"{standing.message} It did not recover within {limit.seconds} s ({limit.field})."


def _before(context: Context, declared: Config, progress: Progress) -> Config | None:
    """The config to go back to: the good one, or the one before it if the trouble came soon after it was called good.

    A health check may fail only after a while; everything runs until then.
    """
    good = context.good_config
    if good is None or good.hash != declared.hash:
        return good
    proven = from_rfc3339((context.stored.get("applied") or {}).get("goodSince"))
    soon = thresholds.seconds_of(context.service, thresholds.DEPLOYMENT)
    late = proven is None or progress.began is None or progress.began - proven > soon
    return None if late else context.former_good_config


def stage(target: Target, standing: Standing, *, upgrading: bool) -> Stage:
    """Where the way back from a failed revision is. ``upgrading``: to another cluster, with the good serve config."""
    if not target.failed:
        return Stage.GOING_BACK  # has failed just now
    if upgrading:
        return Stage.NONE
    return Stage.GOING_BACK if standing.phase in _GOING else Stage.BACK


def _caused_by_the_update(
    new: ServeConfig, before: ServeConfig, observation: ServeObservation, troubled: Callable[[ApplicationView], bool]
) -> bool:
    """Whether a troubled application is declared otherwise than before, or was not declared at all."""
    former = dict(before.applications())
    return any(
        declared != former.get(name)
        for name, declared in new.applications()
        if name in observation.applications and troubled(observation.applications[name])
    )


_FAILED: Final = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})


def _failed(application: ApplicationView) -> bool:
    return application.status in _FAILED or any(d.status in _FAILED for d in application.deployments.values())


def _not_up(application: ApplicationView) -> bool:
    return application.status != "RUNNING"
