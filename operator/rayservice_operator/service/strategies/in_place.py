"""InPlace: pods of changed groups are replaced one by one inside the cluster. Needs no room beside it, or maxSurge.

The head goes last, and only where its state survives it. What a running cluster cannot take is refused with the
strategy to use instead, and the cluster serves on with its spec.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ServiceCondition, ServiceReason
from rayservice_operator.cluster import gcs
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.roll import roll_of
from rayservice_operator.cluster.view import ClusterView as RayClusterView
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import JsonPatch, Note
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import gates, hashing, revisions, roll
from rayservice_operator.service.apps import Phase as ServePhase
from rayservice_operator.service.apps import standing
from rayservice_operator.service.context import ClusterView, Config, Context, Target, known_config
from rayservice_operator.service.roll import Difference, Phase, Rolling
from rayservice_operator.service.roll_step import Rollout, Step, pace_of
from rayservice_operator.service.strategies.base import Plan, first_cluster, never_served
from rayservice_operator.service.strategies.needs import surge

_INSTEAD: Final = (
    "Set upgradeStrategy.type to NewCluster (needs room for a second cluster) or Recreate (needs none and interrupts), "
    "or take the change back."
)


def plan(context: Context, target: Target) -> Plan:
    """Roles for the present spec: the active cluster becomes what it says. A pending one goes first."""
    active = context.active
    if active is None:
        return first_cluster(context, target)
    if hashing.matches(active.manifest, target.cluster_spec):
        return Plan(active.name, "", superseded=never_served(context.pending), given_up=target.given_up)
    if context.pending_name:
        waiting = f"{context.pending_name} goes, then pods of {active.name} are replaced in place."
        return Plan(active.name, "", superseded=never_served(context.pending), waiting=waiting)
    if target.given_up and roll_of(active.manifest) is None:
        return Plan(active.name, "", given_up=True)
    cluster = view_of(active.manifest, context.config)
    difference = roll.difference(active.manifest, target.cluster_spec)
    if refused := _refusal(active, cluster, difference):
        return Plan(active.name, "", refused=refused)
    held = gates.paused(context)
    if held and roll_of(active.manifest) is None:
        return Plan(active.name, "", hold=held)
    rolling = _rolling(context, target, active, cluster, difference)
    rolling = dataclasses.replace(
        rolling,
        message=f"Going back. {rolling.message}" if target.given_up else rolling.message,
        revision=revisions.number_of(context.snapshot.revisions, target.spec),
    )
    begins = None
    if rolling.phase is Phase.ANNOUNCED:
        begins = surge(target, context.config, difference.groups, pace_of(context.service).max_surge)
    return Plan(active.name, "", roll=rolling, hold=held, begins=begins)


def going_back(context: Context) -> bool:
    """Whether a rollout was given up in the middle, so that the cluster is of two specs until it has the former."""
    given_up = context.target is not None and context.target.given_up
    return given_up and context.active is not None and roll_of(context.active.manifest) is not None


def _refusal(active: ClusterView, cluster: RayClusterView, difference: Difference) -> str:
    """Why the running cluster cannot become what is wanted; empty if it can."""
    if difference.elsewhere:
        what = ", ".join(difference.elsewhere)
        return (
            f"InPlace cannot apply a change of {what} to a cluster that runs; {active.name} keeps its spec. {_INSTEAD}"
        )
    if names.HEAD_GROUP in difference.groups and not _head_survives(active, cluster):
        return (
            "InPlace cannot replace the head pod, which rayClusterConfig.headGroupSpec asks for: without GCS fault "
            f"tolerance (gcsFaultToleranceOptions) all state goes with it. {active.name} keeps its spec. {_INSTEAD}"
        )
    return ""


def _head_survives(active: ClusterView, cluster: RayClusterView) -> bool:
    if gcs.fault_tolerance(cluster) is gcs.FaultTolerance.OFF:
        return False
    return active.head is None or gcs.head_state_survives(cluster, active.head)


def _config_meanwhile(context: Context, target: Target, active: ClusterView) -> Config | None:
    """The serve config in force while pods are replaced: the one that the cluster has.

    Unless its applications have failed under that: nothing is replaced while they have, and the spec's may mend them.
    """
    own = known_config(context.snapshot.revisions, active.applied_hash)
    stands = standing(active, own, context.now, context.config.stale_after_s)
    return target.config if own is None or stands.phase in {ServePhase.FAILED, ServePhase.UNHEALTHY} else own


def _rolling(
    context: Context, target: Target, active: ClusterView, cluster: RayClusterView, difference: Difference
) -> Rolling:
    """The rollout as it stands, with the next write."""
    asked = roll_of(active.manifest)
    config = _config_meanwhile(context, target, active)
    if asked is None and not difference.groups:
        message = f"The spec of RayCluster {active.name} is the same, written otherwise."
        return Rolling(Phase.WORKERS, message, config, change=roll.ended(active.manifest, target.cluster_spec))
    pace = pace_of(context.service)
    needs = str(surge(target, context.config, asked.groups if asked else difference.groups, pace.max_surge))
    if asked is None and not _announced(context):
        what = _named(difference.groups)
        message = f"Pods of {what} in RayCluster {active.name} are replaced one after another. It needs {needs}."
        note = Note("UpgradeStarted", message)
        return Rolling(
            Phase.ANNOUNCED, message, config, to_rfc3339(context.now), needs=needs, wake_at=context.now, notes=(note,)
        )
    pods = [PodView(pod) for pod in active.pods]
    leaving = [pod.name for pod in pods if asked and pod.name in asked.pods and pod.terminating]
    every = [group.name for group in cluster.workers] + [names.HEAD_GROUP] * _head_survives(active, cluster)
    if change := roll.redirected(active.manifest, target.cluster_spec, leaving, every, context.now):
        begun = asked is None or asked.to != hashing.cluster_hash(target.cluster_spec)
        message = f"RayCluster {active.name} takes the spec over."
        notes = (Note("UpdatedRayCluster", f"Changed RayCluster {active.name} in place."),)
        started = asked.started if asked and not begun else to_rfc3339(context.now)
        return Rolling(Phase.WORKERS, message, config, started, needs=needs, change=change, notes=notes)
    assert asked is not None
    rollout = Rollout(context, active, cluster, asked, pace, config, held=gates.paused(context) is not None)
    return _as_it_stands(rollout, rollout.next_step(), target, needs)


def _as_it_stands(rollout: Rollout, step: Step, target: Target, needs: str) -> Rolling:
    context, manifest, asked = rollout.context, rollout.cluster.manifest, rollout.roll
    change: JsonPatch | None = None
    notes: tuple[Note, ...] = ()
    if step.done:
        change = roll.ended(manifest, target.cluster_spec)
        notes = (Note("RolledInPlace", f"All pods of RayCluster {rollout.cluster.name} have the spec's templates."),)
    elif step.pods or step.surge is not None:
        change = roll.moved_on(
            manifest, asked, context.now, pods=step.pods, unready=step.unready, surge=step.surge or asked.surge
        )
        notes = (Note("ReplacingPods", step.message),) if step.pods else ()
    stop_at = _first(step.stop_at, rollout.late_at)
    stopped = step.held or (step.stop_at is not None and context.now >= step.stop_at)
    done, total = rollout.counts
    return Rolling(
        phase=Phase.STOPPED if stopped else step.phase,
        message=step.message,
        config=rollout.config,
        started=asked.started,
        step=done,
        steps=total,
        needs=needs,
        stopped=stopped,
        stop_at=stop_at,
        wake_at=_first(step.wake_at, *(at for at in (step.stop_at, stop_at) if at is not None and at > context.now)),
        change=change,
        notes=notes,
    )


def _announced(context: Context) -> bool:
    """Whether the status has told of it already; the event went with that."""
    stored = find(context.stored_conditions, ServiceCondition.UPGRADE_IN_PROGRESS) or {}
    return stored.get("reason") == ServiceReason.ROLLING_PODS


def _named(groups: frozenset[str]) -> str:
    workers = ", ".join(sorted(groups - {names.HEAD_GROUP}))
    parts = [f"group {workers}"] if workers else []
    return " and then the ".join([*parts, "head"] if names.HEAD_GROUP in groups else parts)


def _first(*times: float | None) -> float | None:
    return min((at for at in times if at is not None), default=None)
