"""Where a cluster stands on its way to serving, told from one observation of its Serve instance.

The phase is the one place that decides «is it proven»; conditions, promotion and ``explain`` all read it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.decision import ServePush
from rayservice_operator.core.objects import is_terminating, labels_of
from rayservice_operator.core.observation import ApplicationView, DeploymentView, PushResult, ServeObservation
from rayservice_operator.serveconfig.drift import drifted_apps, missing_apps
from rayservice_operator.service.context import ClusterView, Config
from rayservice_operator.service.messages import MAX_MESSAGE

REPUSH_PAUSE_S = 10.0
"""Shortest time between two pushes of the same config to the same head, in seconds."""

SETTLE_S = 1.0
"""How much newer than a push an observation must be before a missing app counts as missing."""


class Phase(enum.StrEnum):
    """Named states of a cluster that is to serve, in the order they are passed."""

    CREATING = "CreatingCluster"
    STARTING_HEAD = "StartingHead"
    STARTING_SERVE = "StartingServe"
    PUSHING = "PushingServeConfig"
    REJECTED = "ServeConfigRejected"
    DEPLOYING = "DeployingApplications"
    FAILED = "ApplicationFailed"
    UNHEALTHY = "ApplicationUnhealthy"
    NO_ENDPOINTS = "WaitingForEndpoints"
    SERVING = "Serving"
    UNKNOWN = "ServeApiUnreachable"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class Standing:
    """A phase with the words for a person."""

    phase: Phase
    message: str


def suspension(view: ClusterView) -> str:
    """One sentence on a cluster that has no pods because it shall have none."""
    if view.pods:
        return f"RayCluster {view.name} is being suspended: {len(view.pods)} of its pods are still there."
    return (
        f"RayCluster {view.name} is suspended. Set rayClusterConfig.suspend to false to bring it back; "
        "where a queue has suspended the RayCluster, it comes back when the queue admits it."
    )


def fresh(observation: ServeObservation | None, now: float, stale_after: float) -> bool:
    """Whether the observation may be told as present news."""
    if observation is None or observation.seen_at is None:
        return False
    return now - observation.seen_at <= stale_after


def standing(
    view: ClusterView | None, config: Config | None, now: float, stale_after: float, capacity: int | None = None
) -> Standing:
    """The phase of ``view`` with respect to ``config``: an ordered chain, the first that applies.

    capacity: Serve's ``target_capacity`` in percent that it is to have, None for that of the config.
    """
    if view is None:
        return Standing(Phase.CREATING, "The RayCluster is being created.")
    if view.suspended:
        return Standing(Phase.SUSPENDED, suspension(view))
    observation = view.observation
    if not view.head_ip:
        return Standing(
            Phase.STARTING_HEAD, f"The head pod of {view.name} has no address yet. {head_trouble(view)}".strip()
        )
    if observation is None or observation.seen_at is None:
        detail = f" Last answer: {observation.error}" if observation and observation.error else ""
        return Standing(
            Phase.STARTING_SERVE, f"Waiting for the Serve API of {view.name}.{detail} {head_trouble(view)}".strip()
        )
    if not fresh(observation, now, stale_after):
        age = int(now - observation.seen_at)
        cause = observation.error or "no answer"
        return Standing(Phase.UNKNOWN, f"The Serve API of {view.name} has not answered for {age} s: {cause}")
    if config is None:
        return Standing(
            Phase.PUSHING, "spec.serveConfigV2 is empty: there is nothing to serve. Add applications to it."
        )
    push = observation.push
    if push is not None and push.config_hash == config.hash and push.state == "rejected":
        return Standing(Phase.REJECTED, f"Ray Serve refuses the serve config: {push.message}")
    if view.applied_hash != config.hash:
        detail = f" Last answer: {push.message}" if push is not None and push.state == "failing" else ""
        return Standing(Phase.PUSHING, f"The serve config is being pushed to {view.name}.{detail}")
    if not observation.push_seen:
        return Standing(Phase.DEPLOYING, f"{view.name} has taken the serve config; what comes of it is not seen yet.")
    if observation.target_capacity != config.capacity_shown(capacity):
        wanted = config.capacity_shown(capacity)
        words = "full capacity" if wanted is None else f"{wanted:g} % capacity"
        return Standing(Phase.DEPLOYING, f"{view.name} is being brought to {words}.")
    return _applications(view, observation, config)


def _applications(view: ClusterView, observation: ServeObservation, config: Config) -> Standing:
    applications = [observation.applications.get(name) for name in config.parsed.app_names]
    absent = [name for name in config.parsed.app_names if name not in observation.applications]
    # Ray does not try again by itself after DEPLOY_FAILED, even where replicas of the former config still answer.
    failed = [a for a in applications if a is not None and a.status == "DEPLOY_FAILED"]
    if failed:
        return Standing(Phase.FAILED, "; ".join(describe(a) for a in failed))
    down = [a for a in applications if a is not None and _down(a)]
    if down:
        return Standing(Phase.UNHEALTHY, "; ".join(describe(a) for a in down))
    if absent:
        return Standing(Phase.DEPLOYING, f"Applications not deployed yet: {', '.join(absent)}.")
    waiting = [a for a in applications if a is not None and a.status != "RUNNING"]
    if waiting:
        return Standing(Phase.DEPLOYING, "; ".join(describe(a) for a in waiting))
    if not serving_pods(view):
        return Standing(
            Phase.NO_ENDPOINTS, f"Applications run; no pod of {view.name} has a healthy HTTP proxy and is Ready yet."
        )
    return Standing(Phase.SERVING, f"{len(applications)} application(s) of {view.name} are running.")


FAILED_STATUSES = frozenset({"DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING"})


def _down(application: ApplicationView) -> bool:
    return application.status in FAILED_STATUSES and not can_serve(application)


def can_serve(application: ApplicationView) -> bool:
    """Whether requests to this application can be answered: every deployment has a replica for them or wants none.

    An application that failed to build shows no deployments while replicas of its former version may still
    answer; that is not counted as serving, because nobody can tell.
    """
    if application.status == "RUNNING":
        return True
    deployments = application.deployments.values()
    return bool(application.deployments) and all(d.answering > 0 or d.target_replicas == 0 for d in deployments)


def describe(application: ApplicationView) -> str:
    """One sentence on an application that is not RUNNING."""
    troubled = [d for d in application.deployments.values() if d.status != "HEALTHY"]
    parts = [f"{d.name} {d.status} ({d.running}/{_target(d)} replicas){_said(d.message)}" for d in troubled]
    detail = "; ".join(parts) if parts else application.message
    return f"Application {application.name} is {application.status}{_said(detail)}"


def _said(message: str) -> str:
    message = " ".join(message.split())
    return f": {shorten(message, MAX_MESSAGE)}" if message else ""


def _target(deployment: DeploymentView) -> str:
    return "?" if deployment.target_replicas is None else str(deployment.target_replicas)


MISSING = "MISSING"
"""Our word, where Ray has none, for an application that was declared and is not there."""


def declared_applications(view: ClusterView, config: Config) -> list[ApplicationView]:
    """The applications of ``config`` as they were seen last; one that Ray does not know is among them as MISSING.

    For a moment after a PUT it may not know it yet: till then it is DEPLOYING.
    """
    observation = view.observation
    seen = observation.applications if observation else {}
    push = observation.push if observation else None
    just_pushed = push is not None and observation is not None and (observation.seen_at or 0.0) < push.at + SETTLE_S
    status, message = ("DEPLOYING", "") if just_pushed else (MISSING, "Ray Serve has no application of that name")
    return [seen.get(name) or ApplicationView(name, status, message) for name in config.parsed.app_names]


def application_statuses(observation: ServeObservation) -> dict[str, Any]:
    """``applicationStatuses`` of the status: KubeRay's shape plus replica counts."""
    return {
        name: {
            "status": application.status,
            "message": shorten(application.message, MAX_MESSAGE),
            "serveDeploymentStatuses": {
                deployment.name: {
                    "status": deployment.status,
                    "message": shorten(deployment.message, MAX_MESSAGE),
                    "replicasReady": deployment.running,
                    **({} if deployment.target_replicas is None else {"replicasTarget": deployment.target_replicas}),
                }
                for deployment in application.deployments.values()
            },
        }
        for name, application in sorted(observation.applications.items())
    }


def serving_pods(view: ClusterView) -> list[Mapping[str, Any]]:
    """Pods that could take requests now: Ready, not going away, and labelled or known to have a healthy proxy.

    While requests are split between two clusters, not all that could are labelled.
    """
    proxies = view.observation.proxies if view.observation else {}
    return [
        pod
        for pod in view.pods
        if (gets_requests(pod) or proxies.get(pod_ip(pod))) and is_ready(pod) and not is_terminating(pod)
    ]


def gets_requests(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is labelled for the serve service."""
    return labels_of(pod).get(names.SERVE) == "true"


def pod_ip(pod: Mapping[str, Any]) -> str:
    """Address of the pod, empty before it has one."""
    return str((pod.get("status") or {}).get("podIP") or "")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def head_trouble(view: ClusterView) -> str:
    """Why the cluster's pods do not come up, in the words of the RayCluster's conditions and the pods."""
    conditions = (view.manifest.get("status") or {}).get("conditions") or ()
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"{condition.get('reason')}: {condition.get('message')}"
    for condition in conditions:
        if condition.get("type") == "HeadPodReady" and condition.get("status") == "False":
            reason, message = condition.get("reason"), condition.get("message") or ""
            return f"Head pod: {reason}{': ' + message if message else ''}"
    return ""


def push_for(view: ClusterView, config: Config | None, now: float, capacity: int | None = None) -> ServePush | None:
    """What the observer of this cluster shall push: a config not applied yet, or one that Ray has lost.

    Or one whose ``target_capacity`` (``capacity``, percent) is another one than Ray shows.

    A new Ray session (the head died and has no GCS fault tolerance) has no applications, so they count as lost.
    """
    if config is None:
        return None
    observation = view.observation
    payload = config.payload_at(capacity)
    if view.applied_hash != config.hash:
        return ServePush(config.hash, payload, _attempt(observation, config), capacity=capacity)
    if observation is None or observation.seen_at is None or observation.error is not None:
        return None
    push = observation.push
    same = push is not None and (push.config_hash, push.capacity) == (config.hash, capacity)
    if push is not None and same and _recent(push, observation.seen_at, now):
        return ServePush(config.hash, payload, push.attempt, capacity=capacity)  # the same attempt is not repeated
    if observation.target_capacity != config.capacity_shown(capacity):
        return ServePush(
            config.hash, payload, f"capacity {capacity} after {push.at if push else 0:.3f}", capacity=capacity
        )
    if not lost(view, config):
        return None
    return ServePush(config.hash, payload, f"{observation.session}/{int(push.at) if push else 0}", capacity=capacity)


def push_again_at(view: ClusterView | None, config: Config | None, now: float) -> float | None:
    """When a config that Ray has lost may be pushed again, in epoch seconds; None where it may already, or has not.

    Nothing else would wake anybody by then: what the observer sees is the same at every look.
    """
    if view is None or config is None or not lost(view, config):
        return None
    push = view.observation.push if view.observation else None
    again = push.at + REPUSH_PAUSE_S if push is not None and push.config_hash == config.hash else 0.0
    return again if again > now else None


def _attempt(observation: ServeObservation | None, config: Config) -> str:
    """Tells this push from an earlier one of the same config with another one in between (A, B, A)."""
    push = observation.push if observation else None
    if push is None:
        return ""
    return push.attempt if push.config_hash == config.hash else f"after {push.at:.3f}"


def _recent(push: PushResult, seen_at: float, now: float) -> bool:
    return seen_at < push.at + SETTLE_S or now < push.at + REPUSH_PAUSE_S or push.state == "failing"


def lost(view: ClusterView, config: Config) -> tuple[str, ...]:
    """Applications of ``config`` that the cluster should have and has not, or has with another config."""
    observation = view.observation
    if observation is None or observation.seen_at is None or view.applied_hash != config.hash:
        return ()
    return (*missing_apps(config.parsed, observation), *drifted_apps(config.parsed, observation))
