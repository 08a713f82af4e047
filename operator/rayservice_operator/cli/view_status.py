"""The view of ``status``: one screen that says where a RayService stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.api.rayservice_status import RayServiceStatus, ServingClusterStatus, UpgradeStatus
from rayservice_operator.cli.human import line
from rayservice_operator.cli.view import Condition, Objects, Pod, cluster_names, conditions, pods_of, status_of
from rayservice_operator.core.objects import Manifest, generation_of, metadata, name_of
from rayservice_operator.service import verbs
from rayservice_operator.service.activity import COUNTED, WORDS, Activity, Counted
from rayservice_operator.service.apps import Phase
from rayservice_operator.service.upgrade_phases import STAGES, Stage


@dataclass(frozen=True, slots=True)
class Deployment:
    """``ready`` and ``target`` are replicas; None while Ray has not told."""

    name: str
    status: str
    message: str
    ready: int | None
    target: int | None

    @property
    def fails(self) -> bool:
        """Whether it has failed, or its replicas fail to start and Ray goes on trying."""
        return self.status in FAILED or (self.status != "HEALTHY" and bool(_FAILS_TO_START.search(self.message)))


FAILED: Final = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
_FAILS_TO_START: Final = re.compile(r"failed to start", re.IGNORECASE)
"""Ray 2.60, ``deployment_state.py``: «A replica failed to start with exception. Retrying …», the status is UPDATING."""


@dataclass(frozen=True, slots=True)
class Application:
    """One Serve application on one cluster."""

    name: str
    status: str
    message: str
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """``role``: active, pending, or former for one that is on its way out. Percentages only in an upgrade in steps."""

    name: str
    role: str
    applications: tuple[Application, ...]
    pods: tuple[Pod, ...]
    target_capacity: int | None = None
    traffic_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check of an upgrade's analysis."""

    name: str
    phase: str
    successful: int
    failed: int
    value: str
    message: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The upgrade under way, or the last one. ``percent`` (0–100) is a guide for the eye, not a forecast.

    ``waits``: what it is doing or waiting for. ``first``: the first cluster of the service, which replaces none.
    ``revision``: what is rolled out in place; 0 for other strategies.
    """

    strategy: str
    source: str
    target: str
    phase: str
    under_way: bool
    first: bool
    paused: bool
    percent: int
    step: int | None
    steps: int | None
    started: str | None
    deadline: str | None
    waits: str
    needs: str
    capacity: str
    checks: tuple[Check, ...]
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Time that an earlier activity took."""

    activity: str
    words: str
    seconds: int


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Where a cluster is on its way to serving. ``counted``: which threshold time runs against, empty for none."""

    cluster: str
    activity: str
    words: str
    since: str | None
    unmoved_since: str | None
    counted: str
    spent: tuple[Spent, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What failed and gave way, was undone, or was recovered from: one line each."""

    kind: str
    message: str
    time: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """One RayService. ``ready``: True, False or Unknown; ``observed``: the status is about the present spec."""

    namespace: str
    name: str
    created: str | None
    ready: str
    reason: str
    message: str
    observed: bool
    endpoints: int
    revision: int | None
    suspended: bool
    paused: bool
    conditions: tuple[Condition, ...]
    upgrade: Upgrade | None
    cold_start: ColdStart | None
    clusters: tuple[Cluster, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list of all RayServices."""

    namespace: str
    name: str
    ready: str
    reason: str
    message: str
    cluster: str
    upgrade: str
    endpoints: int
    created: str | None


def row(service: Manifest) -> Row:
    """The line of one RayService, from the object alone."""
    status = status_of(service)
    upgrade = _upgrade(service, status)
    ready = _ready(service)
    return Row(
        namespace=str(metadata(service).get("namespace") or ""),
        name=name_of(service),
        ready=ready.status,
        reason=ready.reason,
        message=ready.message,
        cluster=status.active_service_status.ray_cluster_name if status.active_service_status else "",
        upgrade=f"{upgrade.phase} {upgrade.percent}%" if upgrade is not None and upgrade.under_way else "",
        endpoints=status.num_serve_endpoints,
        created=metadata(service).get("creationTimestamp"),
    )


def build(objects: Objects) -> Status:
    """The view of one RayService."""
    service = objects.service
    status = status_of(service)
    ready = _ready(service)
    return Status(
        namespace=str(metadata(service).get("namespace") or ""),
        name=name_of(service),
        created=metadata(service).get("creationTimestamp"),
        ready=ready.status,
        reason=ready.reason,
        message=ready.message,
        observed=observed(service),
        endpoints=status.num_serve_endpoints,
        revision=status.applied.revision if status.applied else None,
        suspended=_suspended(service),
        paused=verbs.paused(service),
        conditions=conditions(service),
        upgrade=_upgrade(service, status),
        cold_start=_cold_start(status),
        clusters=_clusters(objects, status),
        troubles=tuple(_troubles(status)),
    )


def observed(service: Manifest) -> bool:
    """Whether the status is about the present spec."""
    return bool((service.get("status") or {}).get("observedGeneration") == generation_of(service))


_NEVER_SEEN: Final = Condition("Ready", "Unknown", "NotSeen", "The operator has not looked at it yet.", None)


def _ready(service: Manifest) -> Condition:
    return next((c for c in conditions(service) if c.type == "Ready"), _NEVER_SEEN)


def _suspended(service: Manifest) -> bool:
    spec: dict[str, Any] = service.get("spec") or {}
    return spec.get("suspend") is True or (spec.get("rayClusterConfig") or {}).get("suspend") is True


TOLD_AS_TROUBLE: Final = frozenset({"RolledBack", "UpgradeAborted", "Undone"})
"""Reasons of Stalled that ``status.failedUpdate`` and ``status.undone`` tell as well."""

# --- upgrade

OVER: Final = frozenset({Stage.NONE, Stage.PROMOTED, Stage.ABORTED, Stage.COMPLETED})
"""Stages in which no upgrade is under way."""

# Shares of the way that a new cluster has gone when it enters a phase, in percent, as they take in an ordinary start.
_COMING_UP: Final = {
    Phase.CREATING: 5,
    Phase.STARTING_HEAD: 10,
    Phase.STARTING_SERVE: 25,
    Phase.PUSHING: 35,
    Phase.REJECTED: 35,
    Phase.DEPLOYING: 40,
    Phase.FAILED: 40,
    Phase.UNHEALTHY: 40,
    Phase.UNKNOWN: 40,
    Phase.NO_ENDPOINTS: 80,
    Phase.SERVING: 90,
}
_DEPLOYED: Final = 80
_BY_REPLICAS: Final = frozenset({Phase.DEPLOYING, Phase.FAILED, Phase.UNHEALTHY})
_IN_STEPS_FROM: Final = 50
"""An upgrade in steps is half done when the new cluster serves; the rest is traffic that moves."""


def _upgrade(service: Manifest, status: RayServiceStatus) -> Upgrade | None:
    known = status.upgrade
    if known is None or not known.phase:
        return None
    stage = STAGES.get(known.phase, Stage.COMING_UP)
    capacity = known.capacity
    return Upgrade(
        strategy=known.strategy,
        source=known.from_,
        target=known.to,
        phase=known.phase,
        under_way=stage not in OVER,
        first=not known.from_,
        paused=bool(known.paused) or verbs.paused(service),
        percent=_percent(known, stage, status.pending_service_status),
        step=known.step,
        steps=known.steps,
        started=known.started,
        deadline=known.deadline,
        waits=line(known.message),
        needs=line(known.needs),
        capacity=line(capacity.message) if capacity else "",
        checks=tuple(
            Check(c.name, c.phase, c.successful, c.failed, c.value, line(c.message), c.dry_run)
            for c in (known.analysis.checks if known.analysis else ())
        ),
        revision=known.revision or 0,
    )


def _percent(upgrade: UpgradeStatus, stage: Stage, pending: ServingClusterStatus | None) -> int:
    if stage in {Stage.PROMOTED, Stage.COMPLETED}:
        return 100
    if upgrade.steps:
        return min(99, 100 * (upgrade.step or 0) // upgrade.steps)
    traffic = pending.traffic_routed_percent if pending else None
    coming_up = _coming_up(upgrade.phase, pending)
    if traffic is None:
        return 95 if stage is Stage.ANALYZING else coming_up
    return min(99, coming_up * _IN_STEPS_FROM // 100 if not traffic else _IN_STEPS_FROM + traffic // 2)


def _coming_up(phase: str, pending: ServingClusterStatus | None) -> int:
    if phase in set(Phase) - _BY_REPLICAS:
        return _COMING_UP.get(Phase(phase), 0)
    if pending is None:
        return 0
    ready, target = _replicas(pending)
    begun = _COMING_UP[Phase.DEPLOYING] if target or phase in _BY_REPLICAS else _COMING_UP[Phase.CREATING]
    if phase not in _BY_REPLICAS and target and ready == target:
        return _COMING_UP[Phase.SERVING]
    return begun + (_DEPLOYED - begun) * ready // target if target else begun


def _replicas(entry: ServingClusterStatus) -> tuple[int, int]:
    deployments = [d for app in entry.application_statuses.values() for d in app.serve_deployment_statuses.values()]
    target = sum(d.replicas_target or 0 for d in deployments)
    return min(target, sum(d.replicas_ready or 0 for d in deployments)), target


# --- the rest

_COUNTED: Final = {
    Counted.NONE: "",
    Counted.SERVICE: "serviceUnhealthySecondThreshold",
    Counted.DEPLOYMENT: "deploymentUnhealthySecondThreshold",
}


def _cold_start(status: RayServiceStatus) -> ColdStart | None:
    known = status.progress
    if known is None or known.activity not in set(Activity):
        return None
    activity = Activity(known.activity)
    spent = [Spent(name, WORDS[Activity(name)], s) for name, s in known.spent.items() if name in set(Activity)]
    return ColdStart(
        cluster=known.cluster,
        activity=known.activity,
        words=WORDS[activity],
        since=known.activity_since,
        unmoved_since=known.unmoved_since,
        counted=_COUNTED[COUNTED[activity]],
        spent=tuple(sorted(spent, key=lambda s: -s.seconds)),
    )


def _clusters(objects: Objects, status: RayServiceStatus) -> tuple[Cluster, ...]:
    pods = pods_of(objects)
    roles = cluster_names(objects.service)
    named = {name for _, name in roles}
    former = tuple(("former", name_of(c)) for c in objects.clusters if name_of(c) not in named)
    entries = {"active": status.active_service_status, "pending": status.pending_service_status}
    return tuple(
        Cluster(
            name=name,
            role=role,
            applications=_applications(entry) if (entry := entries.get(role)) else (),
            pods=tuple(p for p in pods if p.cluster == name),
            target_capacity=entry.target_capacity if entry else None,
            traffic_percent=entry.traffic_routed_percent if entry else None,
        )
        for role, name in (*roles, *former)
    )


def _applications(entry: ServingClusterStatus) -> tuple[Application, ...]:
    return tuple(
        Application(
            name,
            app.status,
            line(app.message),
            tuple(
                Deployment(d_name, d.status, line(d.message), d.replicas_ready, d.replicas_target)
                for d_name, d in app.serve_deployment_statuses.items()
            ),
        )
        for name, app in entry.application_statuses.items()
    )


def _troubles(status: RayServiceStatus) -> list[Trouble]:
    found = []
    if failed := status.failed_update:
        kind = "aborted upgrade" if failed.cluster_hash else "failed update"
        found.append(Trouble(kind, line(failed.message), failed.time))
    if undone := status.undone:
        message = f"Revision {undone.value} is in force in place of the present spec."
        found.append(Trouble("undone", message, undone.time))
    if (recovery := status.recovery) and recovery.step:
        found.append(Trouble(f"auto-recovery: {recovery.step}", line(recovery.message), recovery.time))
    return found
