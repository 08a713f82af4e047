"""``decide``: from one snapshot of a RayService to what is to be done. Pure; read this file first.

A RayService is in one of the named states below. Each has one handler; no handler looks at another's state.
Order inside :func:`_managed`: roles are committed to the status before anything is built on them, so a restart
between any two writes goes on from what is stored (design.md, «Nothing durable in memory»).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rayservice_operator.core.decision import Action, Apply, Decision, Level, Note
from rayservice_operator.service import (
    advice,
    analysis,
    apps,
    clusters,
    endpoints,
    farewell,
    health,
    observe,
    revisions,
    routes,
    shares,
    status,
    strategies,
    suspend,
    traffic,
    undo,
)
from rayservice_operator.service.context import Context, Target, load_config
from rayservice_operator.service.context import build as build_context
from rayservice_operator.service.news import carried
from rayservice_operator.service.snapshot import ServiceSnapshot
from rayservice_operator.service.states import State, state_of
from rayservice_operator.service.strategies.base import Plan
from rayservice_operator.service.suspend import Suspension


def decide(snapshot: ServiceSnapshot, now: float) -> Decision:
    """Everything that follows from ``snapshot`` at ``now`` (epoch seconds)."""
    context = build_context(snapshot, now)
    return HANDLERS[state_of(context)](context)


def _hands_off(_: Context) -> Decision:
    """Deleted (owner references take the children) or managed by somebody else: no write at all."""
    return Decision()


def _suspend_requested(context: Context) -> Decision:
    """Commit the intention before the first deletion."""
    note = Note("SuspendRequested", "spec.suspend is true: clusters and services are deleted, the object stays.")
    return Decision(status=status.suspended(context, Suspension.SUSPENDING), notes=(note,), wake_at=context.now)


def _suspending(context: Context) -> Decision:
    if suspend.all_gone(context):
        done = status.suspended(context, Suspension.SUSPENDED)
        return Decision(status=done, notes=status.notes(context, done), wake_at=context.now)
    return Decision(actions=tuple(suspend.leftovers(context)), status=status.suspended(context, Suspension.SUSPENDING))


def _suspended(context: Context) -> Decision:
    """Nothing may come to life meanwhile; what does is deleted."""
    return Decision(actions=tuple(suspend.leftovers(context)), status=status.suspended(context, Suspension.SUSPENDED))


def _resuming(context: Context) -> Decision:
    resumed = status.suspended(context, Suspension.RESUMING)
    note = Note("RayServiceResumed", "spec.suspend is false again: the service is being built.")
    return Decision(status=resumed, notes=(note,), wake_at=context.now)


def _refused(context: Context) -> Decision:
    """The spec was never valid: say why, touch nothing."""
    plan = Plan(context.active_name, context.pending_name)
    refused = status.build(status.picture(context, plan), Suspension.NONE)
    return Decision(status=refused, notes=status.notes(context, refused))


def _managed(context: Context) -> Decision:
    """Towards the spec in force: roles first, then what the roles need."""
    target = context.target
    assert target is not None
    plan = strategies.plan(context)
    seen = status.picture(context, plan)
    wanted = status.build(seen, Suspension.NONE)
    observed = observe.targets(context, target, plan, seen.standing, seen.analysis)
    notes = [*status.notes(context, wanted), *analysis.notes(context, seen.analysis)]

    if seen.look.hold_until is not None:
        asked = (seen.look.ask,) if seen.look.ask else ()
        return Decision(asked, wake_at=seen.look.hold_until, observe=None)
    warned = (seen.look.note,) if seen.look.note else ()

    if (plan.active, plan.pending) != (context.active_name, context.pending_name):
        # Superseded clusters never served, or are to go first; deleting them needs no promise kept in the status.
        deletions = tuple(view.deletion() for view in plan.superseded)
        notes += (*plan.notes, *warned)
        notes += [
            Note("DeletedRayCluster", f"Deleted RayCluster {view.name}{_never_active(context, view.name)}.")
            for view in plan.superseded
        ]
        return Decision(deletions, wanted, tuple(notes), wake_at=context.now, observe=observed, commits=True)

    if plan.shares is not None and plan.shares != shares.stored(context):
        # Commanded first; what is pushed and where requests go follows from it.
        return Decision(status=wanted, notes=(*notes, *plan.notes, *warned), wake_at=context.now, observe=observed)

    if seen.fails_now and seen.failed is not None:
        # Remembered first; what is pushed or deleted follows from it.
        note = Note("RollingBack", health.way_back(seen.failed), Level.WARNING)
        return Decision(status=wanted, notes=(*notes, note), wake_at=context.now, observe=observed)

    if seen.recovery.note:
        note = Note("AutoRecovery", seen.recovery.note, Level.WARNING)
        return Decision(status=wanted, notes=(*notes, note), wake_at=context.now, observe=observed)

    active, pending = status.view_pair(context, plan)
    actions: list[Action] = []
    if not context.violations:
        recorded = revisions.record(context.service, context.snapshot.revisions, _referred(context))
        actions += recorded
        notes += advice.notes(context) if any(isinstance(action, Apply) for action in recorded) else ()
    built, built_notes = clusters.plan_clusters(context, target, plan)
    actions += built
    split = _split(context, target, plan)
    actions += endpoints.plan_serve_labels(context, target, (active, pending), split)
    actions += endpoints.plan_services(context, target, active or pending, split=split is not None)
    led = routes.plan_routes(context, (active, pending), plan.shares)
    retired, retired_notes, deadline = clusters.plan_retirement(context, target, plan)
    # The gateway leads elsewhere before a cluster goes; where there is none yet, making one may fail.
    actions += (*led, *retired) if routes.made(context) else retired
    marks, mark_again = farewell.plan_marks(context, plan, split)
    actions += marks
    actions += [seen.look.ask] if seen.look.ask else []
    actions += () if routes.made(context) else led
    return Decision(
        tuple(actions),
        wanted,
        (*notes, *built_notes, *retired_notes, *warned),
        wake_at=_earliest(
            deadline,
            status.initializing_deadline(context, plan),
            _observation_deadline(context, plan),
            seen.give_up_at,
            apps.push_again_at(active, status.active_config(context, target, plan), context.now),
            apps.push_again_at(pending, target.config, context.now),
            plan.wake_at,
            mark_again,
            plan.roll.wake_at if plan.roll else None,
            seen.look.again_at,
            seen.recovery.wake_at,
        ),
        observe=observed,
    )


def _split(context: Context, target: Target, plan: Plan) -> dict[str, set[str]] | None:
    """The pods that requests go to while two clusters share them; None for all, also where a gateway has weights."""
    if plan.shares is None or routes.gateway_class(context.service):
        return None
    return traffic.chosen(context, target, plan.shares)


def _never_active(context: Context, cluster: str) -> str:
    return "" if cluster == context.active_name else ", which was never active"


def _referred(context: Context) -> frozenset[str]:
    """Revisions that must outlive the history's limit: one that is asked for, and those with the config that the active
    cluster has, or the good one."""
    active, good = context.active, context.good_config
    former = context.former_good_config
    kept = {active.applied_hash if active else "", good.hash if good else "", former.hash if former else ""}
    with_config = (
        revisions.hash_of(revision)
        for revision in context.snapshot.revisions
        if (config := load_config(revisions.config_of(revision))) and config.hash in kept
    )
    return frozenset({*with_config, undo.referred(context.service, context.snapshot.revisions)})


def _observation_deadline(context: Context, plan: Plan) -> float | None:
    """When the newest observation of the active cluster turns stale, if the last look failed."""
    view = context.live(plan.active)
    observation = view.observation if view else None
    if observation is None:
        return context.now + context.config.first_observation_grace_s if carried(context, view) else None
    if observation.seen_at is None:
        limit = observation.started_at + context.config.first_observation_grace_s
        return limit if limit > context.now else None
    if observation.error is None:
        return None
    limit = observation.seen_at + context.config.stale_after_s
    return limit if limit > context.now else None


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


HANDLERS: Final[dict[State, Callable[[Context], Decision]]] = {
    State.LEAVING: _hands_off,
    State.FOREIGN: _hands_off,
    State.REQUESTED: _suspend_requested,
    State.SUSPENDING: _suspending,
    State.SUSPENDED: _suspended,
    State.RESUMING: _resuming,
    State.REFUSED: _refused,
    State.MANAGED: _managed,
}
