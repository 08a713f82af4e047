"""The whole status of a RayService from one picture, and the notes on what changed since the stored one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ServiceCondition as Type
from rayservice_operator.api.conditions import ServiceReason as Reason
from rayservice_operator.api.durations import parse_duration
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.cluster.roll import roll_of
from rayservice_operator.core import conditions as stored_conditions
from rayservice_operator.core.conditions import Condition, find, shorten
from rayservice_operator.core.decision import Level, Note
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service import (
    abort,
    analysis,
    hashing,
    health,
    progress,
    recovery,
    revisions,
    rollback,
    suspend,
    undo,
    verbs,
)
from rayservice_operator.service.apps import Phase, Standing, standing
from rayservice_operator.service.capacity import gate
from rayservice_operator.service.context import ACTIVE, PENDING, ClusterView, Config, Context, Target, known_config
from rayservice_operator.service.endpoints import endpoint_pods
from rayservice_operator.service.entries import entry, stamp
from rayservice_operator.service.failed import FAILED
from rayservice_operator.service.roll import Phase as RollPhase
from rayservice_operator.service.shares import stored as stored_shares
from rayservice_operator.service.shares import told
from rayservice_operator.service.strategies import strategy_type
from rayservice_operator.service.strategies.base import Plan
from rayservice_operator.service.strategies.needs import NONE, Needs, of_second_cluster
from rayservice_operator.service.upgrade_phases import UpgradePhase


def active_config(context: Context, target: Target, plan: Plan) -> Config | None:
    """The config that the active cluster is to have: during and before an upgrade the one it has, from the history."""
    if plan.roll is not None:
        return plan.roll.config
    if not plan.pending and not plan.to_come:
        return target.config
    active = context.live(plan.active)
    return None if active is None else known_config(context.snapshot.revisions, active.applied_hash)


def pending_config(context: Context, target: Target, plan: Plan) -> Config | None:
    """The config that the pending cluster is to have: on the way back the one it has."""
    pending = context.live(plan.pending)
    if plan.back and pending is not None:
        return known_config(context.snapshot.revisions, pending.applied_hash)
    return target.config


def _shown_config(context: Context, target: Target | None, plan: Plan) -> Config | None:
    """The config that the active cluster's applications, as they were seen last, are those of; None if not known.

    Not the present spec's before Ray has taken it and what came of it has been seen.
    """
    active = context.live(plan.active)
    if active is None or target is None or (active.observation is not None and not active.observation.push_seen):
        return None
    if target.config is not None and active.applied_hash == target.config.hash:
        return target.config
    return known_config(context.snapshot.revisions, active.applied_hash)


def picture(context: Context, plan: Plan) -> health.Picture:
    """Work out once what the conditions are derived from."""
    target = context.target
    view = context.live(plan.pending or plan.active)
    if target is None:
        stands = Standing(Phase.CREATING, "The spec is refused.")
    else:
        config = (pending_config if plan.pending else active_config)(context, target, plan)
        capacity = plan.shares.pending_capacity if plan.shares else None
        stands = standing(view, config, context.now, context.config.stale_after_s, capacity)
    analysed = _analysis(context, target, plan)
    behind = endpoint_pods(context)
    moving = progress.NOTHING
    if target is not None:
        endpoints = bool(behind or plan.pending) or not plan.active or stands.phase is not Phase.SERVING
        moving = progress.look(context, plan.pending or plan.active, config, stands, endpoints=endpoints)
    limit = abort.limit(context, plan, stands, moving, analysed)
    gone_wrong = _failed(context, target, plan, stands, moving=moving, limit=limit)
    just_now = gone_wrong is not None and gone_wrong != context.stored.get(FAILED)
    return health.Picture(
        context=context,
        target=target,
        plan=plan,
        active=context.live(plan.active),
        pending=context.live(plan.pending),
        standing=stands,
        shown_config=_shown_config(context, target, plan),
        endpoints=len(behind),
        strangers=len(behind - endpoint_pods(context, plan.active)) if plan.active else 0,
        timed_out=_timed_out(context, plan),
        failed=gone_wrong,
        fails_now=just_now,
        give_up_at=limit.at if limit else _back_at(context, target, plan, stands, moving),
        look=gate.look(context, plan),
        analysis=analysed,
        progress=moving,
        recovery=recovery.Outcome({})
        if just_now
        else recovery.consider(context, target, plan, stands, moving, out=_out(plan, stands, bool(behind))),
    )


def _analysis(context: Context, target: Target | None, plan: Plan) -> analysis.State | None:
    """The analysis of the cluster that is to take over from another one. It goes on while a gate holds that cluster.

    None of one that replaces a cluster in trouble: there is no better one to compare it with.
    """
    pending = context.live(plan.pending)
    if target is None or not plan.active or pending is None or recovery.replacing(context, target):
        return None
    if plan.back:
        return analysis.stored(context, pending.name)
    return analysis.advance(context, target, pending, proven=plan.hold is not None)


_NOT_REACHABLE: Final = frozenset({Phase.CREATING, Phase.STARTING_HEAD, Phase.STARTING_SERVE, Phase.UNKNOWN})


def _out(plan: Plan, stands: Standing, endpoints: bool) -> bool:
    """Whether the service as a whole is out: no Serve API that answers, or nobody behind the serve service."""
    return not plan.active or not endpoints or stands.phase in _NOT_REACHABLE


def _failed(
    context: Context,
    target: Target | None,
    plan: Plan,
    stands: Standing,
    *,
    moving: progress.Progress,
    limit: abort.Limit | None,
) -> Manifest | None:
    """What is to be remembered of a revision that failed: known already, given up now, or failed in a hot update."""
    if target is None:
        return None
    if target.given_up:
        return dict(context.stored[FAILED])
    if limit is not None and context.now >= limit.at:
        return abort.given_up(context, target, plan, stands, limit)
    if target.failed:
        return dict(context.stored[FAILED])
    if plan.pending or plan.roll:
        return None
    return rollback.failed_update(context, target, context.live(plan.active), stands, moving)


def _back_at(
    context: Context, target: Target | None, plan: Plan, stands: Standing, moving: progress.Progress
) -> float | None:
    return None if plan.pending or plan.roll else rollback.deadline(context, target, stands, moving)


def _timed_out(context: Context, plan: Plan) -> bool:
    limit = initializing_deadline(context, plan)
    return limit is not None and context.now >= limit


def initializing_deadline(context: Context, plan: Plan) -> float | None:
    """Epoch seconds at which the first cluster counts as late; None without the annotation or once serving.

    Each spec has the whole time: a serve config that is corrected revives a service that was late without it.
    """
    text = annotations_of(context.service).get(names.INITIALIZING_TIMEOUT)
    upgrade = context.stored.get("upgrade") or {}
    if not text or plan.active or not plan.pending or upgrade.get("to") != plan.pending:
        return None
    started = context.now if context.edited else from_rfc3339(upgrade.get("started"))
    limit = parse_duration(text)
    view = context.live(plan.pending)
    if started is None or limit is None or (view is not None and view.suspended):
        return None
    resumed = context.now if upgrade.get("paused") else from_rfc3339(upgrade.get("resumed")) or 0.0
    return max(started, resumed) + limit


def build(seen: health.Picture, stage: suspend.Suspension) -> Manifest:
    """The status to store. Only ``lastUpdateTime`` depends on the clock, and only when something else changed."""
    context, plan = seen.context, seen.plan
    stored = context.stored
    wanted = (*health.conditions(seen), *suspend.conditions(context, stage))
    status: Manifest = {
        "conditions": stored_conditions.merge(
            context.stored_conditions, wanted, generation=context.generation, now=context.now
        ),
        "serviceStatus": "Running" if _status_of(wanted, Type.READY) == "True" else "",
        "numServeEndpoints": seen.endpoints,
        "observedGeneration": context.generation,
    }
    of_active, of_pending = told(context, plan.shares) if plan.shares else ({}, {})
    if plan.active:
        status[ACTIVE] = entry(context, plan.active, of_active)
    if plan.pending:
        status[PENDING] = entry(context, plan.pending, of_pending)
    if upgrade := _upgrade(seen):
        status["upgrade"] = upgrade
    if applied := _applied(seen):
        status["applied"] = applied
    if seen.failed:
        status[FAILED] = seen.failed
    if seen.progress.record:
        status[progress.FIELD] = seen.progress.record
    if seen.recovery.record:
        status[recovery.FIELD] = seen.recovery.record
    if undone := undo.memory(context.service, context.now):
        status[undo.UNDONE] = undone
    return stamp(status, stored, context.now)


def suspended(context: Context, stage: suspend.Suspension) -> Manifest:
    """The status of a service that is suspended or on the way there."""
    reason = Reason.SUSPEND_COMPLETE if stage is suspend.Suspension.SUSPENDED else Reason.SUSPEND_IN_PROGRESS
    words = {Reason.SUSPEND_COMPLETE: "The service is suspended.", Reason.SUSPEND_IN_PROGRESS: "Being suspended."}
    wanted = (
        Condition(Type.READY, "False", reason, words[reason]),
        Condition(Type.UPGRADE_IN_PROGRESS, "False", reason, words[reason]),
        *(
            [Condition(Type.RECONCILING, "True", reason, words[reason])]
            if stage is suspend.Suspension.SUSPENDING
            else []
        ),
        *suspend.conditions(context, stage),
    )
    status: Manifest = {
        "conditions": stored_conditions.merge(
            context.stored_conditions, wanted, generation=context.generation, now=context.now
        ),
        "serviceStatus": "",
        "numServeEndpoints": 0,
        "observedGeneration": context.generation,
    }
    if stage is suspend.Suspension.SUSPENDING and context.clusters:
        for role in (ACTIVE, PENDING):  # shown until they are gone, so that nobody loses sight of them
            if context.stored.get(role):
                status[role] = context.stored[role]
    for memory in ("applied", FAILED, undo.UNDONE):  # the clusters go, what is known of the spec stays
        if context.stored.get(memory):
            status[memory] = context.stored[memory]
    return stamp(status, context.stored, context.now)


def _upgrade(seen: health.Picture) -> dict[str, Any]:
    context, plan = seen.context, seen.plan
    stored: Mapping[str, Any] = context.stored.get("upgrade") or {}
    if plan.pending:
        goes_on = stored.get("to") == plan.pending and stored.get("phase") != UpgradePhase.PROMOTED
        same = goes_on or _is_removing(stored)
        anew = context.edited and not plan.active and not plan.replaces
        return {
            "strategy": strategy_type(context),
            "from": plan.active or plan.replaces,
            "to": plan.pending,
            "phase": _phase(seen),
            "started": stored["started"] if same and stored.get("started") and not anew else to_rfc3339(context.now),
            **_pause(seen, stored if same else {}),
            **({} if seen.give_up_at is None else {"deadline": to_rfc3339(seen.give_up_at)}),
            **({"analysis": seen.analysis.manifest()} if seen.analysis else {}),
            **({"needs": str(_needs(context, seen.target, plan))} if plan.active and seen.target else {}),
            **({"capacity": dict(seen.look.shown)} if seen.look.shown else {}),
            **_step(seen, stored if same else {}),
            "message": plan.hold.message if plan.hold else health.on_the_way(seen),
        }
    if plan.given_up and seen.failed:
        return {**_ended(stored), "phase": UpgradePhase.ABORTED, "message": seen.failed["message"]}
    if rolled := _rolled(seen, stored):
        return rolled
    if plan.hold:
        about = {"strategy": strategy_type(context), "from": plan.active}
        return {**about, "phase": plan.hold.phase, "message": plan.hold.message}
    if plan.waiting:
        return {
            "strategy": strategy_type(context),
            "from": plan.active or plan.replaces,
            "phase": UpgradePhase.REMOVING if plan.replaces else UpgradePhase.WAITING,
            "started": stored.get("started") if _is_removing(stored) else to_rfc3339(context.now),
            "message": plan.waiting,
        }
    if stored.get("to") == plan.active and plan.active and stored.get("from") != plan.active:
        return {**_ended(stored), "phase": UpgradePhase.PROMOTED, "message": f"RayCluster {plan.active} is active."}
    return {}


def _needs(context: Context, target: Target, plan: Plan) -> Needs:
    """A former cluster that is taken back has all its pods."""
    pending = context.live(plan.pending)
    return NONE if pending is not None and pending.delete_after else of_second_cluster(context, target)


def _is_removing(stored: Mapping[str, Any]) -> bool:
    return stored.get("phase") == UpgradePhase.REMOVING


def _phase(seen: health.Picture) -> str:
    """Where the upgrade to the pending cluster is."""
    if seen.plan.hold:
        return seen.plan.hold.phase
    if seen.plan.back:
        return UpgradePhase.GOING_BACK
    moving = seen.plan.shares is not None and seen.standing.phase is Phase.SERVING
    return UpgradePhase.MOVING_TRAFFIC if moving else str(seen.standing.phase)


def _step(seen: health.Picture, stored: Mapping[str, Any]) -> dict[str, int]:
    """How many times shares were moved."""
    if seen.plan.shares is None:
        return {}
    before, steps = stored_shares(seen.context), int(stored.get("step") or 0)
    moved = before is not None and before != seen.plan.shares
    return {"step": steps + moved}


def _pause(seen: health.Picture, stored: Mapping[str, Any]) -> dict[str, str]:
    """``paused``: since when it is, or its cluster suspended. ``resumed``: when that ended; limits count from there."""
    context = seen.context
    if verbs.paused(context.service) or seen.standing.phase is Phase.SUSPENDED:
        return {"paused": stored.get("paused") or to_rfc3339(context.now)}
    resumed = to_rfc3339(context.now) if stored.get("paused") else stored.get("resumed")
    return {"resumed": resumed} if resumed else {}


def _rolled(seen: health.Picture, stored: Mapping[str, Any]) -> dict[str, Any]:
    """``upgrade`` about pods that are replaced inside the active cluster; empty where that is no matter."""
    plan = seen.plan
    about = {"strategy": str(UpgradeType.IN_PLACE), "from": plan.active, "to": plan.active}
    if plan.refused:
        return {**about, "phase": RollPhase.REFUSED, "message": plan.refused}
    if plan.roll is not None:
        return {
            **about,
            "phase": plan.hold.phase if plan.hold else str(plan.roll.phase),
            **({"revision": plan.roll.revision} if plan.roll.revision else {}),
            **({"started": plan.roll.started} if plan.roll.started else {}),
            **_pause(seen, stored if stored.get("to") == plan.active else {}),
            **({} if plan.roll.stop_at is None else {"deadline": to_rfc3339(plan.roll.stop_at)}),
            "step": plan.roll.step,
            "steps": plan.roll.steps,
            "needs": plan.roll.needs,
            **({"capacity": dict(seen.look.shown)} if seen.look.shown else {}),
            "message": plan.hold.message if plan.hold else shorten(plan.roll.message),
        }
    if any(stored.get(field) != value for field, value in about.items()) or "started" not in stored:
        return {}
    if stored.get("phase") == RollPhase.ANNOUNCED and (seen.active is None or roll_of(seen.active.manifest) is None):
        return {}  # taken back before anything was done
    kept = _ended(stored)
    if seen.active is not None and roll_of(seen.active.manifest) is not None:
        return {**kept, "phase": RollPhase.HELD, "message": plan.held_back}
    if stored.get("phase") == UpgradePhase.ABORTED:
        return {}  # the spec was turned back to what is there (history 40275)
    told = f"All pods of RayCluster {plan.active} have the spec's templates."
    return {**kept, "step": kept.get("steps", 0), "phase": RollPhase.COMPLETED, "message": told}


def _ended(upgrade: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of an upgrade that is over: not what it was waiting for."""
    return {key: value for key, value in upgrade.items() if key not in ("deadline", "paused", "needs", "capacity")}


MEMORY: Final = frozenset({"revision", "goodConfigHash"})
"""Of ``applied``: what is known of the past, beside what the active cluster has now."""


def _applied(seen: health.Picture) -> dict[str, Any]:
    active, target = seen.active, seen.target
    if active is None or target is None:
        stored = dict(seen.context.stored.get("applied") or {})
        if seen.plan.active or seen.plan.replaces:
            return stored
        # Nothing has it now; which spec everything ran with is needed to go back to it.
        return {key: stored[key] for key in (*MEMORY, "time") if key in stored} if stored.keys() & MEMORY else {}
    revision = revisions.number_of(seen.context.snapshot.revisions, target.spec)
    applied: dict[str, Any] = {
        "configHash": active.applied_hash,
        "specHash": annotations_of(active.manifest).get(names.SPEC_HASH, ""),
    }
    in_force = target.config is not None and active.applied_hash == target.config.hash and not seen.plan.pending
    fits = hashing.matches(active.manifest, target.cluster_spec)
    stored = seen.context.stored.get("applied") or {}
    if revision and in_force and fits and not target.failed and seen.plan.roll is None:
        applied["revision"] = revision
    elif stored.get("revision") and all(stored.get(key) == value for key, value in applied.items()):
        applied["revision"] = stored["revision"]  # it runs what it ran before
    proven = in_force and seen.standing.phase is Phase.SERVING
    if good := active.applied_hash if proven else stored.get("goodConfigHash"):
        applied |= _good(seen, str(good), stored, applied["specHash"])
    same = {k: v for k, v in stored.items() if k != "time"} == applied
    return {**applied, "time": stored["time"] if same and stored.get("time") else to_rfc3339(seen.context.now)}


def _good(seen: health.Picture, good: str, stored: Mapping[str, Any], spec_hash: str) -> dict[str, str]:
    """Under which config everything ran last and since when, and the one before it on a cluster of the same spec."""
    if good == stored.get("goodConfigHash"):
        return {k: stored[k] for k in ("goodConfigHash", "goodSince", "formerGoodConfigHash") if k in stored}
    known = {"goodConfigHash": good, "goodSince": to_rfc3339(seen.context.now)}
    former = stored.get("goodConfigHash")
    same_cluster = stored.get("specHash") == spec_hash
    gone_back = seen.target is not None and seen.target.failed
    return {**known, "formerGoodConfigHash": former} if former and same_cluster and not gone_back else known


def _status_of(wanted: tuple[Condition, ...], type_: Type) -> str:
    return next((c.status for c in wanted if c.type == type_), "")


# (condition, status) -> level and reason of the event; None keeps the condition's own reason.
EVENTS: Final[dict[tuple[str, str], tuple[Level, str | None]]] = {
    (Type.READY, "True"): (Level.NORMAL, "Ready"),
    (Type.READY, "Unknown"): (Level.WARNING, None),
    (Type.STALLED, "True"): (Level.WARNING, None),
    (Type.SERVE_CONFIG_APPLIED, "True"): (Level.NORMAL, "UpdatedServeApplications"),
    (Type.SUSPENDED, "True"): (Level.NORMAL, None),
}
REASONS_WORTH_AN_EVENT: Final = {
    (Type.READY, Reason.ZERO_SERVE_ENDPOINTS): Level.WARNING,
    (Type.READY, Reason.APPLICATIONS_NOT_RUNNING): Level.WARNING,
    (Type.READY, Reason.HEAD_POD_NOT_READY): Level.WARNING,
    (Type.APPLICATIONS_HEALTHY, Reason.DEPLOY_FAILED): Level.WARNING,
    (Type.APPLICATIONS_HEALTHY, Reason.UNHEALTHY): Level.WARNING,
    (Type.APPLICATIONS_HEALTHY, Reason.MISSING): Level.WARNING,
    (Type.UPGRADE_IN_PROGRESS, Reason.CHANGE_HELD_BACK): Level.WARNING,
}
SAID_ONCE: Final = frozenset({Reason.DEPLOYMENT_UNHEALTHY, Reason.SERVICE_UNHEALTHY, Reason.RECOVERY_EXHAUSTED})
"""Reasons of Stalled whose message goes on following what is seen."""
EVENT_NAMES: Final = {(Type.STALLED, Reason.VALIDATION_FAILED): "InvalidRayServiceSpec"}


def notes(context: Context, status: Manifest) -> tuple[Note, ...]:
    """One note for each condition that changed in a way a person wants to hear of.

    Stalled speaks again when its message changes: another mistake in the manifest is another event.
    """
    result: list[Note] = []
    for new in status["conditions"]:
        old = find(context.stored_conditions, new["type"]) or {}
        changed = (old.get("status"), old.get("reason")) != (new["status"], new["reason"])
        if new["type"] == Type.STALLED and new["reason"] not in SAID_ONCE:
            changed = changed or old.get("message") != new["message"]
        if new["type"] == Type.SERVE_CONFIG_APPLIED:
            changed = changed or (new["status"] == "True" and old.get("message") != new["message"])
        if not changed:
            continue
        level, name = EVENTS.get((new["type"], new["status"]), (None, None))
        level = level or REASONS_WORTH_AN_EVENT.get((new["type"], new["reason"]))
        if level is not None:
            reason = EVENT_NAMES.get((new["type"], new["reason"])) or name or new["reason"]
            result.append(Note(reason, new["message"], level))
    return tuple(dict.fromkeys(result))  # one failure may turn two conditions


def view_pair(context: Context, plan: Plan) -> tuple[ClusterView | None, ClusterView | None]:
    """The live clusters of both roles as planned."""
    return context.live(plan.active), context.live(plan.pending)
