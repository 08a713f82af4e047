"""The view of ``explain``: why a RayService is not Ready, the most likely cause first, each with a next step.

The order of causes is that of :data:`RANKS`: what makes the others impossible comes first. A pod that cannot start
explains why no application runs; an application that fails explains why there are no endpoints; a condition is told
only where nothing below it says more.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.cli.human import count, line
from rayservice_operator.cli.logtext import ErrorBlock
from rayservice_operator.cli.view import Objects, Pod, command, conditions, pods_of
from rayservice_operator.cli.view_status import FAILED, TOLD_AS_TROUBLE, Application, Cluster, Deployment, Status
from rayservice_operator.cli.view_status import build as build_status
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest, is_terminating, name_of


class Kind(enum.StrEnum):
    """Kinds of causes, the one that explains most first."""

    DELETED = "being-deleted"
    FOREIGN = "managed-by-another-controller"
    NOT_SEEN = "operator-has-not-looked"
    SPEC = "spec-refused"
    SUSPENDED = "suspended"
    IMAGE = "image-not-pulled"
    CRASH = "container-crashes"
    CONFIG = "container-cannot-be-made"
    UNSCHEDULABLE = "pod-has-no-node"
    REFUSED_PODS = "pods-refused"
    RESOURCES = "waiting-for-resources"
    SERVE_CONFIG = "serve-config-rejected"
    APPLICATION = "application-failed"
    DEPLOYMENT = "deployment-unhealthy"
    GAVE_WAY = "gave-way"
    PAUSED = "upgrade-paused"
    STALLED = "stalled"
    GOING_ON = "still-starting"
    NOT_READY = "not-ready"


RANKS: Final[Mapping[Kind, int]] = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Cause:
    """``where``: the object that shows it. ``since``: RFC 3339. ``step``: what to do next; empty: wait."""

    kind: Kind
    title: str
    where: str
    detail: str
    step: str
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """``count``: how often it was said. ``time``: of the last time."""

    time: str | None
    type: str
    reason: str
    about: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """``causes``: most likely first, none for a service that is well. ``logs``: newest errors of replicas and pods.

    ``logs_missing``: why there are no logs, if they were looked for in vain.
    """

    namespace: str
    name: str
    ready: str
    reason: str
    message: str
    causes: tuple[Cause, ...]
    events: tuple[Event, ...]
    logs: tuple[ErrorBlock, ...]
    logs_missing: str


def build(objects: Objects, logs: tuple[ErrorBlock, ...] = (), logs_missing: str = "") -> Explanation:
    """The view, with the errors that were found in logs."""
    status = build_status(objects)
    found = tuple(causes(objects, status))
    return Explanation(
        namespace=status.namespace,
        name=status.name,
        ready=status.ready,
        reason=status.reason,
        message=status.message,
        causes=found,
        events=events(objects),
        logs=logs,
        logs_missing=logs_missing,
    )


def causes(objects: Objects, status: Status) -> list[Cause]:
    """All causes, sorted; what only repeats another is left out."""
    found = [*_of_object(objects.service, status), *_of_pods(objects, status), *_of_clusters(objects)]
    found += _of_applications(status)
    found += _of_upgrade(status)
    found += _of_conditions(status, found)
    return sorted(found, key=lambda cause: RANKS[cause.kind])


# --- the object itself


def _of_object(service: Manifest, status: Status) -> Iterator[Cause]:
    where = f"RayService/{status.name}"
    manager = str((service.get("spec") or {}).get("managedBy") or "")
    if is_terminating(service):
        finalizers = ", ".join((service.get("metadata") or {}).get("finalizers") or ())
        step = f"Finalizers hold it: {finalizers}." if finalizers else ""
        yield Cause(Kind.DELETED, "It is being deleted", where, "", step)
    elif manager not in OperatorConfig(version="").managed_by:
        detail = f"spec.managedBy is {manager!r}: this operator leaves it alone."
        yield Cause(Kind.FOREIGN, "Another controller looks after it", where, detail, f"Ask {manager}.")
    elif not status.observed:
        yield Cause(
            Kind.NOT_SEEN,
            "The operator has not looked at the present spec",
            where,
            "The status is about an earlier generation of the object, or about none.",
            "If this lasts for more than a few seconds, see whether the operator runs and watches this namespace: "
            "kubectl get pods -A -l app.kubernetes.io/name=rayservice-operator",
        )
    if status.suspended:
        spec: Manifest = service.get("spec") or {}
        field = "spec.suspend" if spec.get("suspend") is True else "spec.rayClusterConfig.suspend"
        yield Cause(Kind.SUSPENDED, "It is suspended", where, f"{field} is true.", f"Set {field} to false.")


# --- pods

# What kubectl calls the state, the kind of cause, and the next step. First match counts.
_STATES: Final = (
    (
        re.compile(r"ErrImage|ImagePull|InvalidImageName|RegistryUnavailable"),
        Kind.IMAGE,
        "An image cannot be pulled",
        "Check the image's name and tag, and imagePullSecrets of the pod template.",
    ),
    (
        re.compile(r"OOMKilled"),
        Kind.CRASH,
        "A container was killed for memory",
        "Raise the memory limit of the container, or load less into it.",
    ),
    (
        re.compile(r"CreateContainer|RunContainer"),
        Kind.CONFIG,
        "A container cannot be made",
        "Check the Secrets, ConfigMaps, volumes and the command that the pod template names.",
    ),
    (
        re.compile(r"Unschedulable|SchedulerError"),
        Kind.UNSCHEDULABLE,
        "A pod has no node",
        "Add nodes that fit, free some, or ask for less; selectors and tolerations count too.",
    ),
    (re.compile(r"Evicted|Preempt|NodeLost"), Kind.CRASH, "A pod was evicted", "See what the node lacks."),
    (
        re.compile(r"."),
        Kind.CRASH,
        "A container crashes",
        "Read its last words: kubectl logs -n {namespace} {pod} --previous",
    ),
)


def _of_pods(objects: Objects, status: Status) -> Iterator[Cause]:
    """One cause for all pods with the same trouble."""
    alike: dict[tuple[str, str], list[Pod]] = {}
    for pod in pods_of(objects):
        if not pod.ready and pod.reason:
            alike.setdefault((pod.reason, _steady(pod)), []).append(pod)
    for (reason, _), pods in alike.items():
        _, kind, title, step = next(row for row in _STATES if row[0].search(f"{reason} {pods[0].message}"))
        head = any(p.group == names.HEAD_GROUP for p in pods)
        besides = f" and {count(len(pods) - 1, 'other pod')}" if len(pods) > 1 else ""
        detail = f"{reason}: {pods[0].message}" if pods[0].message else reason
        yield Cause(
            kind,
            f"{title}{' (the head: nothing starts without it)' if head else ''}",
            f"Pod/{pods[0].name}{besides}",
            detail,
            step.format(namespace=status.namespace, pod=pods[0].name),
            min((p.created for p in pods if p.created), default=None),
        )


def _steady(pod: Pod) -> str:
    """The message without the pod's own name and without back-off times, for comparison."""
    return re.sub(r"\d+[smh]\w*", "", pod.message.replace(pod.name, ""))


def _of_clusters(objects: Objects) -> Iterator[Cause]:
    for cluster in objects.clusters:
        for c in conditions(cluster):
            if c.status != "True":
                continue
            where = f"RayCluster/{name_of(cluster)}"
            if c.type == "ReplicaFailure":
                quota = "exceeded quota" in c.message
                step = "Raise the quota or ask for less." if quota else "Correct what the API server refuses."
                yield Cause(Kind.REFUSED_PODS, "The API server takes no more pods", where, c.message, step, c.since)
            elif c.type == "Stalled":
                step = "Correct the fields that are named in spec.rayClusterConfig."
                yield Cause(Kind.SPEC, "The cluster spec is refused", where, f"{c.reason}: {c.message}", step, c.since)


# --- applications


def _of_applications(status: Status) -> Iterator[Cause]:
    for cluster in status.clusters:
        for app in cluster.applications:
            bad = [d for d in app.deployments if d.fails]
            yield from (_of_deployment(cluster, app, d, status) for d in bad)
            if app.status in FAILED and not bad:
                yield Cause(
                    Kind.APPLICATION,
                    f"Application {app.name} is {app.status}",
                    f"RayCluster/{cluster.name}",
                    app.message,
                    _advice(app.message) or "Correct its import_path, args or runtime_env in serveConfigV2.",
                )


def _of_deployment(cluster: Cluster, app: Application, deployment: Deployment, status: Status) -> Cause:
    of = "" if deployment.ready is None else f" ({deployment.ready} of {deployment.target} replicas run)"
    logs = command(status.namespace, "logs", status.name, "--app", app.name, "--deployment", deployment.name)
    return Cause(
        Kind.DEPLOYMENT,
        f"Deployment {deployment.name} of application {app.name} is {deployment.status}{of}",
        f"RayCluster/{cluster.name}",
        deployment.message or app.message,
        _advice(deployment.message or app.message) or f"Read what its replicas say: {logs}",
    )


# What Ray's words mean, and what to do. First match counts.
_ADVICE: Final = (
    (r"No module named '?([\w.]+)", "Put the module {0} into the image or into runtime_env (pip, working_dir)."),
    (r"module '?([\w.]+)'? has no attribute '?(\w+)", "import_path names {1}, which {0} does not have."),
    (r"Resources required for each replica", "Give a worker group these resources, or ask for less per replica."),
    (r"runtime_env.*(?:fail|error)|(?:fail|error).*runtime_env", "The runtime_env cannot be set up; try it by hand."),
    (r"OutOfMemory|OOM|out of memory", "Raise the memory (or GPU memory) that a replica has, or load less into it."),
    (r"health check", "The replica does not answer check_health in time: raise health_check_timeout_s, or mend it."),
)


def _advice(message: str) -> str:
    for pattern, advice in _ADVICE:
        if found := re.search(pattern, message, re.IGNORECASE):
            return advice.format(*found.groups())
    return ""


# --- upgrade and conditions


def _of_upgrade(status: Status) -> Iterator[Cause]:
    where = f"RayService/{status.name}"
    for trouble in status.troubles:
        undo, retry = (command(status.namespace, verb, status.name) for verb in ("undo --clear", "retry"))
        known = {"undone": f"Apply a corrected spec, or take it back: {undo}"}
        step = known.get(trouble.kind, f"Correct the spec, or try it once more: {retry}")
        yield Cause(Kind.GAVE_WAY, f"What is in force is not the spec: {trouble.kind}", where, trouble.message, step)
    if status.upgrade is not None and status.upgrade.under_way and status.upgrade.capacity:
        title, step = (
            "The new cluster has no room",
            f"Add nodes or quota, free some, or abort it: {command(status.namespace, 'abort', status.name)}",
        )
        yield Cause(Kind.RESOURCES, title, where, status.upgrade.capacity, step)
    if status.upgrade is not None and status.upgrade.under_way and status.paused:
        step = command(status.namespace, "resume", status.name)
        yield Cause(Kind.PAUSED, "The upgrade is paused", where, status.upgrade.waits, step)


# Reasons of Stalled and Ready that are told by a cause of their own kind, with the next step.
_REASONS: Final[Mapping[str, tuple[Kind, str, str]]] = {
    "ValidationFailed": (Kind.SPEC, "The spec is refused", "Correct the field that is named and apply it again."),
    "DryRunRefused": (Kind.SPEC, "The pod templates are refused", "Correct the field that is named."),
    "NotInPlace": (Kind.SPEC, "The change cannot be made in place", "Choose another upgradeStrategy.type."),
    "ServeConfigRejected": (Kind.SERVE_CONFIG, "Ray refuses the serve config", "Correct serveConfigV2."),
    "InitializingTimeout": (Kind.STALLED, "It was not ready in time", "Correct the spec; the other causes say where."),
    "RecoveryExhausted": (Kind.STALLED, "All recoveries were used up", "Correct the spec, or retry."),
    "RollStopped": (Kind.STALLED, "The rollout has stopped", "Correct the spec; the pod that is named does not start."),
    "ServiceUnhealthy": (Kind.STALLED, "It has been out for too long", "See the other causes."),
    "DeploymentUnhealthy": (Kind.STALLED, "Applications have failed for too long", "See the other causes."),
    "WaitingForResources": (Kind.RESOURCES, "It waits for resources", "Add nodes or quota, or ask for less."),
    "ObservationStale": (
        Kind.NOT_READY,
        "The Serve API does not answer",
        "See the head pod: its memory, its restarts, and a NetworkPolicy between the operator and port 8265.",
    ),
    "HeadPodNotReady": (
        Kind.NOT_READY,
        "The head pod is away",
        "It is made again by itself; its pod says if it cannot.",
    ),
}


def _of_conditions(status: Status, found: list[Cause]) -> Iterator[Cause]:
    """Stalled, then what it is doing, then Ready itself, as far as nothing has said so already."""
    where = f"RayService/{status.name}"
    said = {cause.kind for cause in found}
    for c in status.conditions:
        if c.type == "Stalled" and c.status == "True" and c.reason not in TOLD_AS_TROUBLE:
            kind, title, step = _REASONS.get(c.reason, (Kind.STALLED, f"It is stalled: {c.reason}", ""))
            yield Cause(kind, title, where, c.message, step, c.since)
            said.add(kind)
        if c.type == "Reconciling" and c.status == "True" and c.reason == "WaitingForResources":
            kind, title, step = _REASONS[c.reason]
            if not said & {Kind.UNSCHEDULABLE, Kind.REFUSED_PODS}:
                yield Cause(kind, title, where, c.message, step, c.since)
                said.add(kind)
    if status.ready == "True" or Kind.DELETED in said or Kind.FOREIGN in said or Kind.SUSPENDED in said:
        return
    if status.cold_start is not None and not said - {Kind.GAVE_WAY, Kind.PAUSED}:
        doing = status.cold_start
        step = "" if not doing.counted else f"If it does not move: {command(status.namespace, 'logs', status.name)}"
        detail = f"{doing.cluster or 'Cluster'}: {doing.words}. {status.message}".strip()
        on_its_way = (Kind.GOING_ON, "It is on its way", step)
        kind, title, step = _REASONS.get(status.reason, on_its_way)
        yield Cause(kind, title, where, detail, step, doing.since)
    elif not said - {Kind.GAVE_WAY, Kind.PAUSED}:
        kind, title, step = _REASONS.get(status.reason, (Kind.NOT_READY, f"Not ready: {status.reason}", ""))
        yield Cause(kind, title, where, status.message, step)


# --- events

MAX_EVENTS: Final = 8


def events(objects: Objects) -> tuple[Event, ...]:
    """The newest warnings and notes, newest first, the same said of several pods once."""
    found = sorted((_event(e) for e in objects.events), key=lambda e: e.time or "", reverse=True)
    told: dict[tuple[str, str], Event] = {}
    for event in found:
        key = (event.reason, re.sub(r"[\w.-]*\d[\w.-]*", "", event.message))
        told.setdefault(key, event)
    warnings = [e for e in told.values() if e.type == "Warning"][:MAX_EVENTS]
    notes = [e for e in told.values() if e.type != "Warning" and e.about.startswith("RayService/")][:3]
    return tuple(sorted([*warnings, *notes], key=lambda e: e.time or "", reverse=True))


def _event(event: Manifest) -> Event:
    series = event.get("series") or {}
    about = event.get("regarding") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    created = (event.get("metadata") or {}).get("creationTimestamp")
    return Event(
        time=next(filter(None, times), created),
        type=str(event.get("type") or "Normal"),
        reason=str(event.get("reason") or ""),
        about=f"{about.get('kind')}/{about.get('name')}",
        message=line(str(event.get("note") or ""), 400),
        count=int(series.get("count") or event.get("deprecatedCount") or 1),
    )
