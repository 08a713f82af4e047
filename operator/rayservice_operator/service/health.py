"""Conditions of a RayService, each derived from one observation (design.md, «Status never lies»)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ClusterCondition
from rayservice_operator.api.conditions import ServiceCondition as Type
from rayservice_operator.api.conditions import ServiceReason as Reason
from rayservice_operator.core.conditions import Condition, Status, find, is_true
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.observation import ApplicationView
from rayservice_operator.core.violations import summary
from rayservice_operator.service import rollback, routes, undo
from rayservice_operator.service.activity import Activity
from rayservice_operator.service.analysis import State
from rayservice_operator.service.apps import (
    FAILED_STATUSES,
    MISSING,
    Phase,
    Standing,
    can_serve,
    declared_applications,
    describe,
    fresh,
    suspension,
)
from rayservice_operator.service.capacity import gate
from rayservice_operator.service.context import ClusterView, Config, Context, Target
from rayservice_operator.service.endpoints import led_elsewhere
from rayservice_operator.service.news import carried
from rayservice_operator.service.progress import Progress
from rayservice_operator.service.recovery import Outcome
from rayservice_operator.service.roll import Rolling
from rayservice_operator.service.strategies import incremental
from rayservice_operator.service.strategies.base import Plan

TRANSIENT: Final = frozenset(
    {
        Phase.CREATING,
        Phase.STARTING_HEAD,
        Phase.STARTING_SERVE,
        Phase.PUSHING,
        Phase.DEPLOYING,
        Phase.UNHEALTHY,
        Phase.NO_ENDPOINTS,
        Phase.SUSPENDED,
    }
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What the conditions are derived from, worked out once.

    active, pending: the clusters as planned; standing: of the cluster that is on its way to (or at) the target.
    shown_config: the config that the active cluster's applications are those of, as far as it is known.
    endpoints: ready pods behind the serve service; strangers: those of them that are not the active cluster's.
    timed_out: ``ray.io/initializing-timeout`` has passed.
    failed: what is remembered of a revision that failed (``rollback``, ``abort``); fails_now: and not stored yet.
    give_up_at: epoch seconds at which the upgrade, or hot update, going on is given up, as things stand.
    look: whether there is room for what an upgrade needs.
    analysis: of the pending cluster, if it is to be analysed and that has begun.
    progress: what that cluster does, and since when nothing moves. recovery: what is done about trouble.
    """

    context: Context
    target: Target | None
    plan: Plan
    active: ClusterView | None
    pending: ClusterView | None
    standing: Standing
    shown_config: Config | None
    endpoints: int
    strangers: int
    timed_out: bool
    failed: Manifest | None
    fails_now: bool
    give_up_at: float | None
    progress: Progress
    recovery: Outcome
    look: gate.Look = gate.NOTHING
    analysis: State | None = None

    @property
    def doing(self) -> str:
        """Where the cluster is on its way, and what it does there."""
        return f"{self.standing.message} {self.progress.detail}".strip()

    @property
    def rollback(self) -> rollback.Stage:
        """Where the way back to the last good serve config is."""
        if self.failed is None or self.target is None:
            return rollback.Stage.NONE
        if self.plan.roll is not None and self.target.given_up:
            return rollback.Stage.GOING_BACK
        return rollback.stage(self.target, self.standing, upgrading=bool(self.plan.pending))


def conditions(picture: Picture) -> tuple[Condition, ...]:
    """All conditions but those of suspension, in the order in which they are shown."""
    first = [ready(picture), upgrade_in_progress(picture), *rollback_in_progress(picture)]
    stalled_ = stalled(picture)
    moving = None if stalled_ else reconciling(picture)
    last = [serve_config_applied(picture), applications_healthy(picture)]
    return (*first, *(c for c in (stalled_, moving) if c), *last)


def ready(picture: Picture) -> Condition:
    """Whether requests are answered: endpoints, applications and freshness together."""
    context, active = picture.context, picture.active
    if active is None:
        if picture.target is None:
            return Condition(Type.READY, "False", Reason.VALIDATION_FAILED, summary(context.violations))
        reason = Reason.INITIALIZING_TIMEOUT if picture.timed_out else Reason.INITIALIZING
        if picture.standing.phase is Phase.SUSPENDED:
            reason = Reason.RAY_CLUSTER_SUSPENDED
        return Condition(Type.READY, "False", reason, picture.plan.waiting or picture.doing)
    if active.suspended:
        return Condition(Type.READY, "False", Reason.RAY_CLUSTER_SUSPENDED, suspension(active))
    if active.head is None or not active.head_ip:
        return Condition(
            Type.READY, "False", Reason.HEAD_POD_NOT_READY, f"RayCluster {active.name} has no running head pod."
        )
    if picture.endpoints == 0:
        return Condition(Type.READY, "False", Reason.ZERO_SERVE_ENDPOINTS, "No ready pod is behind the serve service.")
    if carried(context, active) and (kept := _stored(context, Type.READY)):
        return kept
    if not fresh(active.observation, context.now, context.config.stale_after_s):
        return Condition(Type.READY, "Unknown", Reason.OBSERVATION_STALE, _age(active, context.now))
    applications = _expected(active, picture.shown_config)
    rebuilt = [a for a in applications if _being_rebuilt(context, a)]
    serving = [a for a in applications if can_serve(a) or a in rebuilt]
    down = [a for a in applications if a not in serving and (a.status in FAILED_STATUSES or _vanished(context, a))]
    if down or not serving:
        troubled = down or applications
        message = "; ".join(describe(a) for a in troubled) or f"RayCluster {active.name} has no applications."
        return Condition(Type.READY, "False", Reason.APPLICATIONS_NOT_RUNNING, message)
    if picture.strangers == picture.endpoints and not _was_ready(context):
        message = f"{active.name} serves, and no pod of it is behind the serve service yet."
        return Condition(Type.READY, "False", Reason.ZERO_SERVE_ENDPOINTS, message)
    message = f"Serving with {picture.endpoints} endpoint(s)."
    if picture.strangers:
        message = f"Serving with {picture.endpoints} endpoint(s), {picture.strangers} of them not of {active.name}."
    if rebuilt:
        which = ", ".join(a.name for a in rebuilt)
        message += f" Ray builds {which} anew; the replicas of before serve on, but it tells nothing of them."
    return Condition(Type.READY, "True", Reason.NON_ZERO_SERVE_ENDPOINTS, message)


def _being_rebuilt(context: Context, application: ApplicationView) -> bool:
    """Whether an application that served is being built from another import path, args or the like, or failed to be.

    Ray stops the old replicas only once the new code could be built; till then it lists no deployments at all
    (Ray 2.60, measured). That is no outage. Whether pods behind it answer is told by the endpoints, as ever.
    """
    if application.deployments or application.status not in {"DEPLOYING", "DEPLOY_FAILED"}:
        return False
    good = context.good_config
    return _was_ready(context) and good is not None and application.name in good.parsed.app_names


def _was_ready(context: Context) -> bool:
    """What the stored status says, so also: of the former active cluster, just when another takes its role."""
    return is_true(context.stored_conditions, Type.READY)


def _vanished(context: Context, application: ApplicationView) -> bool:
    """Whether an application that everything ran with is not there any more; a new one may not be there yet."""
    good = context.good_config
    return application.status == MISSING and good is not None and application.name in good.parsed.app_names


def _expected(view: ClusterView, config: Config | None) -> list[ApplicationView]:
    """Applications of the config, or all that are not on their way out while the config is not known."""
    seen = view.observation.applications if view.observation else {}
    if config is None:
        return [a for a in seen.values() if a.status != "DELETING"]
    expected = declared_applications(view, config)
    return expected if any(a.name in seen for a in expected) else []


def upgrade_in_progress(picture: Picture) -> Condition:
    """KubeRay's UpgradeInProgress, False as soon as there is one cluster again."""
    plan = picture.plan
    if not plan.active and plan.replaces:
        message = plan.waiting or f"In place of RayCluster {plan.replaces}. {picture.standing.message}"
        return Condition(Type.UPGRADE_IN_PROGRESS, "True", Reason.RECREATING, message)
    if not plan.active:
        return Condition(Type.UPGRADE_IN_PROGRESS, "False", Reason.INITIALIZING, "The first cluster is coming up.")
    if plan.hold:
        return Condition(Type.UPGRADE_IN_PROGRESS, "True", plan.hold.reason, plan.hold.message)
    if plan.pending:
        message = f"From RayCluster {plan.active} to {plan.pending}. {on_the_way(picture)}"
        return Condition(Type.UPGRADE_IN_PROGRESS, "True", Reason.BOTH_CLUSTERS_EXIST, message)
    if plan.waiting:
        return Condition(Type.UPGRADE_IN_PROGRESS, "True", Reason.PENDING, plan.waiting)
    if plan.roll:
        return Condition(Type.UPGRADE_IN_PROGRESS, "True", Reason.ROLLING_PODS, plan.roll.message)
    if plan.refused:
        return Condition(Type.UPGRADE_IN_PROGRESS, "False", Reason.NOT_IN_PLACE, plan.refused)
    if plan.given_up:
        message = f"The upgrade was aborted; {plan.active} serves on."
        return Condition(Type.UPGRADE_IN_PROGRESS, "False", Reason.UPGRADE_ABORTED, message)
    if plan.held_back:
        return Condition(Type.UPGRADE_IN_PROGRESS, "False", Reason.CHANGE_HELD_BACK, plan.held_back)
    return Condition(Type.UPGRADE_IN_PROGRESS, "False", Reason.NO_PENDING_CLUSTER, "The active cluster is up to date.")


def on_the_way(picture: Picture) -> str:
    """What is told of the pending cluster: how far it is, and what it has already."""
    plan = picture.plan
    if plan.shares is None:
        return picture.doing
    shares = " ".join([incremental.describe(plan.active, plan.pending, plan.shares), routes.trouble(picture.context)])
    shares = shares.strip()
    return f"Going back. {shares}" if plan.back else f"{shares} {picture.doing}"


def rollback_in_progress(picture: Picture) -> tuple[Condition, ...]:
    """KubeRay's RollbackInProgress, present only while it is going on, as there."""
    if picture.plan.back:
        reason = Reason.UPGRADE_ABORTED if picture.failed else Reason.DESIRED_CLUSTER_SPEC_CHANGED
        return (Condition(Type.ROLLBACK_IN_PROGRESS, "True", reason, on_the_way(picture)),)
    if picture.rollback is not rollback.Stage.GOING_BACK:
        return ()
    failed = picture.failed or {}
    reason = Reason.UPGRADE_ABORTED if failed.get("clusterHash") else Reason.SERVE_CONFIG_FAILED
    return (Condition(Type.ROLLBACK_IN_PROGRESS, "True", reason, way_back(failed)),)


def way_back(failed: Manifest) -> str:
    """One sentence while a failed revision gives way."""
    if failed.get("clusterHash"):
        return str(failed["message"])
    return f"Serve config {failed['configHash']} failed, going back to {failed['rolledBackTo']}."


PAST_A_THRESHOLD: Final = frozenset({Reason.DEPLOYMENT_UNHEALTHY, Reason.SERVICE_UNHEALTHY, Reason.RECOVERY_EXHAUSTED})
"""Reasons of Stalled that follow from what is seen of the applications."""


def stalled(picture: Picture) -> Condition | None:
    """kstatus Stalled: nothing moves until somebody changes something. None when that is not so."""
    context = picture.context
    if context.violations:
        message = summary(context.violations)
        if picture.target is not None:
            message += " | The last valid spec stays in force until this is corrected."
        return Condition(Type.STALLED, "True", Reason.VALIDATION_FAILED, message)
    if picture.plan.back:
        return None
    for view in (picture.pending, picture.active):
        if refused := _cluster_stalled(view):
            return Condition(Type.STALLED, "True", refused[0], refused[1])
    if picture.standing.phase is Phase.REJECTED:
        return Condition(Type.STALLED, "True", Reason.SERVE_CONFIG_REJECTED, picture.standing.message)
    if picture.plan.refused:
        return Condition(Type.STALLED, "True", Reason.NOT_IN_PLACE, picture.plan.refused)
    if picture.plan.roll is not None and picture.plan.roll.stopped:
        return _roll_stopped(context, picture.plan.roll)
    if picture.timed_out:
        message = (
            f"Not ready within ray.io/initializing-timeout. {picture.standing.message} Change the spec to try again."
        )
        return Condition(Type.STALLED, "True", Reason.INITIALIZING_TIMEOUT, message)
    if picture.rollback is rollback.Stage.GOING_BACK:
        return None
    if picture.recovery.doing:
        return None
    told = _stored(context, Type.STALLED)
    if told and told.reason in PAST_A_THRESHOLD and carried(context, picture.pending or picture.active):
        return told
    trouble = picture.recovery.trouble
    if trouble is not None and (trouble.last or picture.standing.phase is not Phase.FAILED):
        return Condition(Type.STALLED, "True", trouble.reason, trouble.message)
    if picture.standing.phase is Phase.FAILED and not _of_before(picture):
        return Condition(Type.STALLED, "True", Reason.DEPLOY_FAILED, picture.standing.message)
    if picture.failed is not None and picture.rollback is rollback.Stage.BACK:
        reason = Reason.UPGRADE_ABORTED if picture.failed.get("clusterHash") else Reason.ROLLED_BACK
        return Condition(Type.STALLED, "True", reason, _gone_back(picture.failed))
    if picture.target and picture.target.undone and reconciling(picture) is None:
        message = (
            f"Revision {undo.asked(context.service)} is in force instead of the present spec, as {names.UNDO} asks. "
            "Change the spec or remove the annotation to go on."
        )
        return Condition(Type.STALLED, "True", Reason.UNDONE, message)
    return None


_SERVES_ON: Final = "The former cluster serves on."


def _roll_stopped(context: Context, roll: Rolling) -> Condition:
    """Told once for each pod: what the kubelet says of one changes to and fro (ErrImagePull, ImagePullBackOff)."""
    stored = _stored(context, Type.STALLED)
    about = roll.message.partition(" is ")[0]
    if stored is not None and stored.reason == Reason.ROLL_STOPPED and stored.message.partition(" is ")[0] == about:
        return stored
    message = f"{roll.message} No other pod is replaced. Correct the spec, or take the change back."
    return Condition(Type.STALLED, "True", Reason.ROLL_STOPPED, message)


def _gone_back(failed: Manifest) -> str:
    again = f"or set the annotation {names.RETRY} to a new value to try it once more."
    if failed.get("clusterHash"):
        instead = f"Revision {failed['revision']} is in force again." if failed.get("revision") else _SERVES_ON
        return f"{failed['message']} | {instead} Correct the spec, {again}"
    return (
        f"serveConfigV2 failed: {failed['message']} | Config {failed['rolledBackTo']}, the last good one, is in force. "
        f"Correct serveConfigV2, {again}"
    )


def _of_before(picture: Picture) -> bool:
    """Whether the serve config that runs is not the spec's, which waits for its turn or for a pause to end.

    That it has failed says nothing of the spec; Ready and ApplicationsHealthy tell of it (history 11994).
    """
    config = picture.target.config if picture.target else None
    shown = picture.shown_config
    return bool(picture.plan.to_come) and not picture.plan.pending and (shown is None or shown != config)


def reconciling(picture: Picture) -> Condition | None:
    """kstatus Reconciling: on the way to the spec, or kept from getting there. None when there."""
    failure = picture.context.snapshot.failure
    if failure is not None:
        return Condition(
            Type.RECONCILING,
            "True",
            Reason.RECONCILE_FAILED,
            f"Cannot {failure.what}: {failure.message}. It is tried again.",
        )
    if _at_rest(picture):
        return None
    if picture.rollback is rollback.Stage.GOING_BACK:
        return Condition(Type.RECONCILING, "True", Reason.ROLLING_BACK, way_back(picture.failed or {}))
    if picture.recovery.doing:
        return Condition(Type.RECONCILING, "True", Reason.RECOVERING, picture.recovery.doing)
    if picture.plan.hold:
        return Condition(Type.RECONCILING, "True", picture.plan.hold.reason, picture.plan.hold.message)
    if picture.plan.waiting and not picture.plan.active:
        return Condition(Type.RECONCILING, "True", Reason.RECREATING, picture.plan.waiting)
    if picture.plan.back:
        return Condition(Type.RECONCILING, "True", Reason.ROLLING_BACK, on_the_way(picture))
    if not picture.plan.active or picture.plan.pending:
        return _on_its_way(picture)
    if picture.plan.waiting:
        return Condition(Type.RECONCILING, "True", Reason.PENDING, picture.plan.waiting)
    switching = switching_traffic(picture)
    if picture.plan.roll is not None:
        return Condition(Type.RECONCILING, "True", Reason.ROLLING_PODS, picture.plan.roll.message)
    if _told_of_this_spec(picture) and carried(picture.context, picture.active):
        kept = _stored(picture.context, Type.RECONCILING)
        return switching if kept is None or kept.reason == Reason.SWITCHING_TRAFFIC else kept
    return _on_its_way(picture) if picture.standing.phase in TRANSIENT else switching


def _on_its_way(picture: Picture) -> Condition:
    """Waiting for resources has a reason of its own: nothing is wrong with what was asked for."""
    waiting = picture.progress.activity is Activity.WAITING
    reason = Reason.WAITING_FOR_RESOURCES if waiting else picture.standing.phase
    return Condition(Type.RECONCILING, "True", reason, on_the_way(picture))


def _at_rest(picture: Picture) -> bool:
    """Whether all clusters with a role are suspended and their pods gone: nothing is wrong and nothing moves."""
    views = [view for view in (picture.active, picture.pending) if view is not None]
    return bool(views) and all(view.suspended and not view.pods for view in views)


def switching_traffic(picture: Picture) -> Condition | None:
    """While requests do not go to the active cluster, and to it alone, as service and endpoint slices tell.

    The promotion is one write; that the slices follow the service takes a moment longer. Nodes follow the slices
    after another one, of which nothing is told to anybody.
    """
    active = picture.active
    if active is None:
        return None
    if picture.strangers:
        message = f"{picture.strangers} of {picture.endpoints} pods behind the serve service are not of {active.name}."
    elif not picture.endpoints and picture.standing.phase is Phase.SERVING:
        message = f"No pod of {active.name} is behind the serve service yet."
    elif led_elsewhere(picture.context, active.name):
        message = f"The serve service does not point to {active.name} alone yet."
    else:
        return None
    return Condition(Type.RECONCILING, "True", Reason.SWITCHING_TRAFFIC, message)


def _told_of_this_spec(picture: Picture) -> bool:
    """Whether what was told of the active cluster was told of the config of the spec in force.

    Not of a spec that was edited since, even back to that config: the one between may have been pushed by a process
    that ended before it could say so, and Ray has not been looked at.
    """
    if picture.context.edited:
        return False
    config = picture.target.config if picture.target else None
    return config is None or (picture.active is not None and picture.active.applied_hash == config.hash)


def serve_config_applied(picture: Picture) -> Condition:
    """Whether Ray Serve has taken the serve config in force, on the cluster that is to have it."""
    view = picture.pending or picture.active
    config: Config | None = picture.target.config if picture.target else None
    if config is None:
        return Condition(
            Type.SERVE_CONFIG_APPLIED, "False", Reason.NO_SERVE_CONFIG, "There is no serve config to apply."
        )
    if picture.rollback is rollback.Stage.GOING_BACK:
        return Condition(Type.SERVE_CONFIG_APPLIED, "False", Reason.ROLLING_BACK, way_back(picture.failed or {}))
    if picture.failed is not None and picture.target and picture.target.declared is not config:
        return Condition(Type.SERVE_CONFIG_APPLIED, "False", Reason.ROLLED_BACK, _gone_back(picture.failed))
    if picture.standing.phase is Phase.REJECTED:
        return Condition(Type.SERVE_CONFIG_APPLIED, "False", Reason.REJECTED, picture.standing.message)
    if picture.plan.to_come:
        return Condition(Type.SERVE_CONFIG_APPLIED, "False", Reason.PENDING, picture.plan.to_come)
    if view is not None and view.applied_hash == config.hash and not view.suspended:
        return Condition(
            Type.SERVE_CONFIG_APPLIED,
            "True",
            Reason.APPLIED,
            f"RayCluster {name_of(view.manifest)} has config {config.hash}.",
        )
    return Condition(Type.SERVE_CONFIG_APPLIED, "False", Reason.PENDING, picture.standing.message)


APP_TROUBLE: Final[tuple[tuple[str, Reason], ...]] = (
    ("DEPLOY_FAILED", Reason.DEPLOY_FAILED),
    ("UNHEALTHY", Reason.UNHEALTHY),
    (MISSING, Reason.MISSING),
)


def applications_healthy(picture: Picture) -> Condition:
    """Whether all applications are RUNNING, on the serving cluster or else on the one coming up."""
    view = picture.active or picture.pending
    context = picture.context
    if carried(context, view) and (kept := _stored(context, Type.APPLICATIONS_HEALTHY)):
        return kept

    def say(status: Status, reason: str, message: str) -> Condition:
        return Condition(Type.APPLICATIONS_HEALTHY, status, reason, message)

    if view is None or view.observation is None or view.observation.seen_at is None:
        return say("Unknown", Reason.UNKNOWN, picture.standing.message)
    if not fresh(view.observation, context.now, context.config.stale_after_s):
        return say("Unknown", Reason.OBSERVATION_STALE, _age(view, context.now))
    wanted = picture.target.config if picture.target else None
    config = picture.shown_config if view is picture.active else wanted
    applications = _expected(view, config)
    if not applications:
        return say("False", Reason.NO_APPLICATIONS, f"RayCluster {view.name} has no applications.")
    waiting = [a for a in applications if a.status != "RUNNING"]
    if not waiting:
        return say("True", Reason.ALL_RUNNING, f"{len(applications)} application(s) running.")
    message = "; ".join(describe(a) for a in waiting)
    statuses = {a.status for a in waiting}
    reason = next((reason for status, reason in APP_TROUBLE if status in statuses), Reason.DEPLOYING)
    return say("False", reason, message)


def _age(view: ClusterView, now: float) -> str:
    observation = view.observation
    age = observation.age(now) if observation else None
    cause = (observation.error if observation else None) or "no answer"
    seen = "has not answered yet" if age is None else f"answered last {int(age // 5 * 5)} s ago"
    return f"The Serve API of RayCluster {view.name} {seen}: {cause}"


def _cluster_stalled(view: ClusterView | None) -> tuple[str, str] | None:
    if view is None:
        return None
    status = view.manifest.get("status") or {}
    found = find(status.get("conditions") or (), ClusterCondition.STALLED)
    if found is None or found.get("status") != "True":
        return None
    return str(found.get("reason")), f"RayCluster {view.name}: {found.get('message')}"


def _stored(context: Context, type_: Type) -> Condition | None:
    found = find(context.stored_conditions, type_)
    if found is None:
        return None
    return Condition(type_, found["status"], found["reason"], found.get("message", ""))
