"""Decides what to do about one RayCluster: a pure function from what is seen to what is to be done.

Two tables tell the order. ``GATES``: states of the whole cluster, the first that applies answers alone. ``STEPS``:
the work on a cluster that shall run, each adds to the plan. Every pass starts from nothing but the snapshot, so it
does not matter which event led to it or what was done before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rayservice_operator.api.conditions import ClusterCondition, ClusterReason
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.cluster import (
    auth,
    autoscaler,
    children,
    disruption,
    dryrun,
    gcs,
    ingress,
    refusals,
    services,
    status,
    termination,
)
from rayservice_operator.cluster.dryrun import Opinion, Verdict
from rayservice_operator.cluster.plan import Plan, Problem, Scene, earliest
from rayservice_operator.cluster.pod import build_head, build_worker, head_name
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.scaling import Removal, Replacement
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.cluster.view import GroupView, view_of
from rayservice_operator.core.conditions import find, is_true, shorten
from rayservice_operator.core.decision import Action, Create, Decision, Delete, Level, Note
from rayservice_operator.core.objects import is_terminating, metadata
from rayservice_operator.core.violations import summary

MAX_CREATIONS: Final = 50
"""Pods made in one pass; the next pass follows when their events arrive."""


def decide(snapshot: ClusterSnapshot, now: float) -> Decision:
    """Everything that follows from one snapshot of a RayCluster. ``now`` is epoch seconds."""
    if str((snapshot.cluster.get("spec") or {}).get("managedBy") or "") not in snapshot.config.managed_by:
        return Decision()
    if is_terminating(snapshot.cluster):
        return termination.decide_terminating(snapshot, now)
    try:
        scene = Scene(snapshot, view_of(snapshot.cluster, snapshot.config), now)
    except SpecError as error:
        pods = [PodView(pod) for pod in snapshot.pods]
        wanted = status.unreadable(snapshot.cluster, pods, str(error), now)
        return Decision(status=wanted, notes=_on_change(snapshot, ClusterCondition.STALLED, _invalid(str(error))))
    for gate in GATES:
        decision = gate(scene)
        if decision is not None:
            return decision
    plan = Plan()
    for step in STEPS:
        plan += step(scene)
    return _finished(scene, plan)


def _finished(scene: Scene, plan: Plan) -> Decision:
    cluster = scene.snapshot.cluster
    notes = list(plan.notes)
    plan += Plan(problem=_failed(scene))
    if plan.problem is not None:
        note = Note(plan.problem.reason.replace("Failed", "FailedTo", 1), plan.problem.message, Level.WARNING)
        notes += _on_change(scene.snapshot, ClusterCondition.REPLICA_FAILURE, note)
    held_back = status.held_back(scene)
    if held_back:
        notes += _on_change(scene.snapshot, status.TEMPLATE_CHANGE_HELD_BACK, Note("TemplateChangeHeldBack", held_back))
    resumed = False if find(status.stored_conditions(cluster), ClusterCondition.SUSPENDED) else None
    wanted = status.build(scene, problem=plan.problem, suspending=resumed, suspended=resumed)
    return Decision(plan.actions, wanted, tuple(notes), plan.wake_at)


def _failed(scene: Scene) -> Problem | None:
    """What the last pass could not do, where it kept pods from being made or deleted (a quota, a webhook)."""
    failure = scene.snapshot.failure
    if failure is None or failure.kind != "Pod":
        return None
    verb = failure.what.split(" ", 1)[0]
    about_head = f"/{scene.view.name}-head-" in failure.what
    reason = _FAILURES.get((verb, about_head))
    return Problem(reason, f"Cannot {failure.what}: {failure.message}") if reason else None


_FAILURES: Final = {
    ("create", True): ClusterReason.FAILED_CREATE_HEAD_POD,
    ("create", False): ClusterReason.FAILED_CREATE_WORKER_POD,
    ("delete", True): ClusterReason.FAILED_DELETE_HEAD_POD,
    ("delete", False): ClusterReason.FAILED_DELETE_WORKER_POD,
}


# Gates: the whole answer, or None to go on.


def _refuse_invalid(scene: Scene) -> Decision | None:
    """A bad edit deletes nothing: pods stay as they are until the spec is right again."""
    view = scene.view
    violations = refusals.of_view(view)
    if not violations:
        return None
    message = summary(violations)
    wanted = status.build(scene, invalid=message)
    return Decision(status=wanted, notes=_on_change(scene.snapshot, ClusterCondition.STALLED, _invalid(message)))


def _suspend(scene: Scene) -> Decision | None:
    """Suspension in two phases: it is written down before anything is deleted, and then always carried through."""
    stored = status.stored_conditions(scene.snapshot.cluster)
    suspending = is_true(stored, ClusterCondition.SUSPENDING)
    suspended = is_true(stored, ClusterCondition.SUSPENDED)
    if not suspending and not suspended:
        if not scene.view.spec.suspend:
            return None
        note = Note("SuspendingRayCluster", "All pods will be deleted, because spec.suspend is true")
        return Decision(status=status.build(scene, suspending=True, suspended=False), notes=(note,))
    if suspended and not suspending and not scene.view.spec.suspend:
        return None
    if suspending and not scene.pods:
        note = Note("SuspendedRayCluster", "All pods are gone")
        return Decision(status=status.build(scene, suspending=False, suspended=True), notes=(note,))
    removals = [Removal(pod, "the cluster is suspended") for pod in scene.pods if not pod.terminating]
    return Decision(
        actions=tuple(Delete(removal.pod.ref) for removal in removals),
        status=status.build(scene, suspending=suspending, suspended=suspended),
        notes=_told(removals),
    )


GATES: Final[tuple[Callable[[Scene], Decision | None], ...]] = (_refuse_invalid, _suspend)


# Steps: each adds its part to the plan.


def _finalizer(scene: Scene) -> Plan:
    """Set before the first pod, because from then on there are keys in Redis."""
    if gcs.fault_tolerance(scene.view) is not gcs.FaultTolerance.REDIS:
        return Plan()
    patch = termination.add_finalizer(scene.snapshot.cluster)
    return Plan((patch,) if patch else ())


def _applied(scene: Scene) -> Plan:
    """The autoscaler's rights, services, ingress."""
    view = scene.view
    optional = (services.serve_service(view), ingress.ingress(view))
    wanted = [*autoscaler.rbac(view), services.head_service(view), *(obj for obj in optional if obj)]
    return Plan(tuple(children.changes(scene.snapshot.children, wanted)))


def _strays(scene: Scene) -> Plan:
    """Pods of groups that are no longer in the spec, and head pods beside the first."""
    reasons = {True: "there is another head pod", False: "its group is no longer in the spec"}
    return _removed([Removal(pod, reasons[pod.is_head]) for pod in scene.strays])


def _pods(scene: Scene) -> Plan:
    """Head and workers: what must go, then, as far as the API server takes the pods, what must come."""
    replacement, blocked = _missing_head(scene)
    plans = scene.group_plans
    lost = [Removal(pod, "its node is lost") for pod in scene.heads if pod.lost and not pod.terminating]
    plan = _removed([*lost, *(removal for _, group_plan in plans for removal in group_plan.delete)])
    plan += Plan(wake_at=earliest([blocked, *(group_plan.wake_at for _, group_plan in plans)]))

    # Where no state survives, a worker is made for one head pod, so that one has to be in the store first.
    ready_for_workers = scene.state_survives or scene.head is not None
    demands = [(group, group_plan.create) for group, group_plan in plans if group_plan.create]
    rolled = {group.name: (group, group_plan.replace) for group, group_plan in plans if group_plan.replace}
    if (head := scene.outgoing_head) is not None:
        rolled[scene.view.head.name] = (scene.view.head, (head,))
    asked = [*(group for group, _ in demands), *(group for group, _ in rolled.values() if not group.is_head)]
    opinions = _opinions(scene, [scene.view.head] if replacement or head else [], asked)
    waived = {name for name in rolled if dryrun.only_for_want_of_room(opinions[name])}
    plan += _asked(found for name, found in opinions.items() if name not in waived)
    accepted = {name for name, found in opinions.items() if found.verdict is Verdict.ACCEPTED}
    if not scene.pods and len(accepted) < len(opinions):
        return plan  # a new cluster is not begun before all of it is known to be taken

    # A pod goes only where the API server is known to take the one after it.
    plan += _removed(item for name, (_, items) in rolled.items() if name in accepted | waived for item in items)
    if replacement is not None and scene.view.head.name in accepted:
        plan += _create_head(scene, replacement)
    if ready_for_workers:
        budget = MAX_CREATIONS
        for group, wanted in demands:
            taken = wanted[:budget] if group.name in accepted else ()
            plan += _create_workers(scene, group, taken)
            budget -= len(taken)
    return plan


def _budgets(scene: Scene) -> Plan:
    """What evictions may take. Last, because a failing action stops those after it, and this one is worth no pod."""
    present, view = scene.snapshot.children, scene.view
    wanted = disruption.budgets(view, scene.snapshot.budgets)
    return Plan((*children.changes(present, wanted), *disruption.unwanted(view, present, wanted)))


STEPS: Final[tuple[Callable[[Scene], Plan], ...]] = (_finalizer, _applied, _strays, _pods, _budgets)


def _missing_head(scene: Scene) -> tuple[Replacement | None, float | None]:
    """The head pod to make, or when to look again. Never a second one while the first may still run."""
    if scene.head is not None:
        return None, None
    waits = [pod.may_run_until(scene.now) for pod in scene.heads if pod.terminating]
    dead = [pod for pod in scene.heads if pod.dead and not pod.terminating]
    newest = dead[-1] if dead else None
    if newest is not None and newest.replace_at > scene.now:
        waits.append(newest.replace_at)
    if any(pod.lost and not pod.terminating for pod in scene.heads):
        return None, earliest(waits)  # its deletion is in this plan; the next pass waits for that
    if any(at is not None for at in waits):
        return None, earliest(waits)
    return Replacement(newest.next_attempt if newest else 0, newest), None


def _opinions(scene: Scene, heads: Iterable[GroupView], groups: Iterable[GroupView]) -> dict[str, Opinion]:
    """What the API server thinks of the pods to be made; of a new cluster, of every group's."""
    asked = [scene.view.head, *scene.view.workers] if not scene.pods else [*heads, *groups]
    answers = scene.snapshot.dry_runs
    return {group.name: dryrun.opinion(scene.view, group, scene.pods, answers, scene.now) for group in asked}


def _asked(opinions: Iterable[Opinion]) -> Plan:
    plan = Plan()
    for found in opinions:
        problem = None
        if found.verdict is Verdict.REFUSED:
            head = found.group.is_head
            reason = ClusterReason.FAILED_CREATE_HEAD_POD if head else ClusterReason.FAILED_CREATE_WORKER_POD
            whose = "the head pod" if head else f"pods of worker group {found.group.name}"
            problem = Problem(reason, f"The API server refuses {whose}: {found.error}")
        plan += Plan((found.ask,) if found.ask else (), problem=problem, wake_at=found.ask_at)
    return plan


def _create_head(scene: Scene, replacement: Replacement) -> Plan:
    view = scene.view
    taken = {pod.name for pod in scene.pods}
    slot = next(slot for slot in range(len(taken) + 1) if head_name(view, slot) not in taken)
    pod = build_head(view, slot=slot, attempt=replacement.attempt)
    note = Note("CreatedHeadPod", f"Created head pod {pod['metadata']['name']}")
    ended = [Removal(old, "it ended") for old in scene.heads if old.dead and not old.terminating]
    return Plan((*_secret(scene), Create(pod)), (note,)) + _removed(ended)


def _create_workers(scene: Scene, group: GroupView, wanted: Iterable[Replacement]) -> Plan:
    head_uid = scene.head.uid if scene.head else ""
    actions: list[Action] = []
    replaced: list[Removal] = []
    for replacement in wanted:
        pod = build_worker(scene.view, group, head_uid=head_uid, attempt=replacement.attempt)
        actions.append(Create(pod))
        if replacement.instead_of is not None:
            # After its replacement, which carries on its count of attempts: stopped between the two, the next
            # pass finds one pod too many, a dead one, and deletes that.
            replaced.append(Removal(replacement.instead_of, "it ended"))
    if not actions:
        return Plan()
    note = Note("CreatedWorkerPod", f"Created {_count(len(actions))} of group {group.name}")
    return Plan((*_secret(scene), *actions), (note,)) + _removed(replaced)


def _secret(scene: Scene) -> tuple[Action, ...]:
    secret = auth.secret(scene.view)
    return (secret,) if secret else ()


def _removed(removals: Iterable[Removal]) -> Plan:
    """Deletions. A pod whose Ray has ended goes at once, so that the sidecars in it do not outlive its successor."""
    todo = list(removals)
    return Plan(
        tuple(
            Delete(
                item.pod.ref,
                grace_seconds=0 if item.pod.dead else item.grace_seconds,
                resource_version=metadata(item.pod.obj).get("resourceVersion", "") if item.as_seen else "",
            )
            for item in todo
        ),
        _told(todo),
    )


# Notes: told once, when something changes.


def _told(removals: Iterable[Removal]) -> tuple[Note, ...]:
    """One note for each reason and kind of pod, with their names."""
    groups: dict[tuple[str, str], list[str]] = {}
    for removal in removals:
        kind = "Head" if removal.pod.is_head else "Worker"
        groups.setdefault((kind, removal.why), []).append(removal.pod.name)
    return tuple(
        Note(f"Deleted{kind}Pod", shorten(f"Deleted {', '.join(pods)}, because {why}"))
        for (kind, why), pods in groups.items()
    )


def _count(number: int) -> str:
    return "1 worker pod" if number == 1 else f"{number} worker pods"


def _invalid(message: str) -> Note:
    return Note("InvalidRayClusterSpec", message, Level.WARNING)


def _on_change(snapshot: ClusterSnapshot, type_: str, note: Note) -> tuple[Note, ...]:
    """``note``, unless the stored condition already says the same."""
    stored = find(status.stored_conditions(snapshot.cluster), type_)
    told = stored is not None and stored.get("status") == "True" and stored.get("message") == shorten(note.message)
    return () if told else (note,)
