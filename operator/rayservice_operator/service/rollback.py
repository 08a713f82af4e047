"""The net under a hot update: a serve config that fails gives way to the last good one, by itself.

«Failed» is Ray's own word, DEPLOY_FAILED, about an application whose declaration the update changed; one that fails
by itself, under a config that has worked, is no reason to go back. What failed is remembered in the status by the
hash of its config and not tried again until ``serveConfigV2`` changes or somebody asks for it. The memory is stored
before anything is pushed, so an operator killed in between goes on from there.
"""

from __future__ import annotations

import enum

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.serveconfig.canonical import ServeConfig
from rayservice_operator.service.apps import Phase, Standing
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.failed import net_wanted, record


class Stage(enum.StrEnum):
    """Where a rollback is."""

    NONE = "None"
    GOING_BACK = "GoingBack"
    BACK = "Back"


_GOING: frozenset[Phase] = frozenset({Phase.PUSHING, Phase.DEPLOYING, Phase.NO_ENDPOINTS})


def failed_update(context: Context, target: Target, view: ClusterView | None, standing: Standing) -> Manifest | None:
    """What the status shall remember of a hot update that has failed just now; None when none has.

    view, standing: of the active cluster, with no other one coming up.
    """
    if target.declared is None or view is None or standing.phase is not Phase.FAILED or not net_wanted(context.service):
        return None
    good = context.good_config
    if good is None or good.hash == target.declared.hash or view.observation is None:
        return None
    if not _caused_by_the_update(target.declared.parsed, good.parsed, view.observation):
        return None
    return record(
        context.service,
        context.now,
        standing.message,
        config_hash=target.declared.hash,
        rolled_back_to=good.hash,
    )


def stage(target: Target, standing: Standing, *, upgrading: bool) -> Stage:
    """Where the way back from a failed revision is. ``upgrading``: to another cluster, with the good serve config."""
    if not target.failed:
        return Stage.GOING_BACK  # has failed just now
    if upgrading:
        return Stage.NONE
    return Stage.GOING_BACK if standing.phase in _GOING else Stage.BACK


def _caused_by_the_update(new: ServeConfig, good: ServeConfig, observation: ServeObservation) -> bool:
    """Whether an application that failed is declared otherwise than in the good config, or was not in it."""
    before = dict(good.applications())
    return any(
        declared != before.get(name)
        for name, declared in new.applications()
        if name in observation.applications and observation.applications[name].status == "DEPLOY_FAILED"
    )
