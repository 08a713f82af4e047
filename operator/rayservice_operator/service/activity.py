"""What a cluster is doing on its way to serving, told from its pods and from one observation of its Serve instance.

Each activity has a name that users meet in the status, and a word on time: whether it is a step that goes on (an image
is pulled, a model is loaded), waiting for resources, or one in which time counts against a threshold. Sources of the
states: Kubernetes' pod lifecycle; Ray 2.60 ``deployment_state.py`` (a replica has no node before it is placed;
``REPLICA_STARTUP_FAILED`` is set once replicas failed to start several times in a row).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.objects import is_terminating, labels_of
from rayservice_operator.core.observation import ApplicationView, DeploymentView, ReplicaView
from rayservice_operator.service.apps import Phase, Standing, is_ready
from rayservice_operator.service.context import ClusterView, Config
from rayservice_operator.service.hashing import digest
from rayservice_operator.service.messages import plain


class Activity(enum.StrEnum):
    """What goes on. The order is that in which they hide one another: what is first is told."""

    APPLICATIONS_FAILING = "ApplicationsFailing"
    PULLING = "PullingImages"
    INITIALIZING = "InitializingPods"
    PODS_FAILING = "PodsFailing"
    WAITING = "WaitingForResources"
    SCHEDULING = "Scheduling"
    STARTING_RAY = "StartingRay"
    BUILDING = "BuildingApplications"
    LOADING = "LoadingReplicas"
    SETTLING = "Settling"
    UNREACHABLE = "ServeApiUnreachable"
    SERVING = "Serving"


class Counted(enum.Enum):
    """Which threshold time runs against, while nothing moves."""

    NONE = enum.auto()
    """A step that goes on by itself, or waiting for what only the cluster's owner can give."""
    SERVICE = enum.auto()
    """``serviceUnhealthySecondThreshold`` only: nothing has failed, and nothing is known to go on either."""
    DEPLOYMENT = enum.auto()
    """``deploymentUnhealthySecondThreshold`` too: something has failed."""


COUNTED: Final[Mapping[Activity, Counted]] = {
    Activity.APPLICATIONS_FAILING: Counted.DEPLOYMENT,
    Activity.PULLING: Counted.NONE,
    Activity.INITIALIZING: Counted.NONE,
    Activity.PODS_FAILING: Counted.DEPLOYMENT,
    Activity.WAITING: Counted.NONE,
    Activity.SCHEDULING: Counted.SERVICE,
    Activity.STARTING_RAY: Counted.SERVICE,
    Activity.BUILDING: Counted.NONE,
    Activity.LOADING: Counted.NONE,
    Activity.SETTLING: Counted.SERVICE,
    Activity.UNREACHABLE: Counted.SERVICE,
    Activity.SERVING: Counted.NONE,
}

WORDS: Final[Mapping[Activity, str]] = {
    Activity.APPLICATIONS_FAILING: "applications failing",
    Activity.PULLING: "pulling images or mounting volumes",
    Activity.INITIALIZING: "running init containers",
    Activity.PODS_FAILING: "containers failing",
    Activity.WAITING: "waiting for resources",
    Activity.SCHEDULING: "scheduling pods",
    Activity.STARTING_RAY: "starting Ray",
    Activity.BUILDING: "importing the code and installing its runtime_env",
    Activity.LOADING: "loading replicas",
    Activity.SETTLING: "settling",
    Activity.UNREACHABLE: "the Serve API not reachable",
    Activity.SERVING: "serving",
}


@dataclass(frozen=True, slots=True)
class Sighting:
    """``detail`` is for people and may be empty. ``state``: a short hash of the state, the same whenever it comes back.

    ``ready``: pods that are Ready plus replicas that run.
    """

    activity: Activity
    detail: str
    state: str
    ready: int


_AT_REST: Final = frozenset({Phase.SERVING, Phase.SUSPENDED})
_OF_PODS: Final = frozenset({Phase.CREATING, Phase.STARTING_HEAD, Phase.STARTING_SERVE})
_OF_APPLICATIONS: Final = frozenset({Phase.DEPLOYING, Phase.FAILED, Phase.UNHEALTHY})


def sight(view: ClusterView | None, config: Config | None, standing: Standing) -> Sighting:
    """What the cluster does now; ``standing`` is its own with respect to ``config``."""
    activity, detail = _activity(view, config, standing)
    pods = _pods(view) if view is not None else []
    wanted = _wanted(view, config)
    marks = [standing.phase, sorted({_pod_mark(pod) for pod in pods}), sorted(_application_marks(wanted))]
    seen = view.observation.applications.values() if view is not None and view.observation is not None else ()
    ready = sum(map(is_ready, pods)) + sum(d.running for app in seen for d in app.deployments.values())
    return Sighting(activity, detail, digest(marks)[:6], ready)


def _activity(view: ClusterView | None, config: Config | None, standing: Standing) -> tuple[Activity, str]:
    if standing.phase in _AT_REST or (config is None and standing.phase is Phase.PUSHING):
        return Activity.SERVING, ""
    if view is None:
        return Activity.SETTLING, ""
    if standing.phase is Phase.REJECTED:
        return Activity.APPLICATIONS_FAILING, ""
    if standing.phase is Phase.UNKNOWN:
        return Activity.UNREACHABLE, ""
    if standing.phase in _OF_PODS:
        return _of_pods(view) or (Activity.STARTING_RAY, "")
    if standing.phase in _OF_APPLICATIONS:
        found = [_of_application(app, view) for app in _wanted(view, config)]
        return min(found, key=lambda known: list(Activity).index(known[0]), default=(Activity.SETTLING, ""))
    return _of_pods(view) or (Activity.SETTLING, "")


def _wanted(view: ClusterView | None, config: Config | None) -> list[ApplicationView]:
    """Applications of the config as they were seen, but those that run."""
    seen = view.observation.applications if view is not None and view.observation is not None else {}
    expected = config.parsed.app_names if config is not None else ()
    return [seen[name] for name in expected if name in seen and seen[name].status != "RUNNING"]


# --- applications


def _of_application(app: ApplicationView, view: ClusterView) -> tuple[Activity, str]:
    """One application that does not run."""
    deployments = list(app.deployments.values())
    if app.status == "DEPLOY_FAILED" or any(d.status == "DEPLOY_FAILED" for d in deployments):
        return Activity.APPLICATIONS_FAILING, ""  # Ray has given it up
    if any(d.status_trigger == "REPLICA_STARTUP_FAILED" for d in deployments):
        return Activity.APPLICATIONS_FAILING, ""  # each try has a replica that is placed anew
    replicas = [(d, r) for d in deployments for r in d.replicas if r.state == "STARTING"]
    unplaced = [(d, r) for d, r in replicas if not r.node_ip]
    if unplaced:
        return _of_pods(view) or _unplaced(app, unplaced)
    if replicas:
        return Activity.LOADING, f"{len(replicas)} replica(s) of {_names(app, replicas)} are being loaded."
    if app.status == "UNHEALTHY" or any(d.status == "UNHEALTHY" for d in deployments):
        return _going_on(view) or (Activity.APPLICATIONS_FAILING, "")
    if not deployments and app.status == "DEPLOYING":
        return Activity.BUILDING, f"Ray imports the code of {app.name} and installs its runtime_env."
    return Activity.SETTLING, ""


_NO_ROOM: Final = re.compile(
    r"to be scheduled.*?(Resources required for each replica: .*?)\. Use `ray status`", re.DOTALL
)
"""What Ray says of a deployment in which a replica has no place after 30 s, but for one that is UNHEALTHY."""


def _unplaced(app: ApplicationView, replicas: list[tuple[DeploymentView, ReplicaView]]) -> tuple[Activity, str]:
    """Replicas without a node: none has room, or the process and its runtime_env are only being made.

    Ray says which only after a while, and not of a deployment that is UNHEALTHY; what is not known is not told.
    """
    said = next(filter(None, (_NO_ROOM.search(d.message) for d, _ in replicas)), None)
    if said is None:
        return Activity.LOADING, f"{len(replicas)} replica(s) of {_names(app, replicas)} are being placed."
    return Activity.WAITING, f"No node has room for a replica of {_names(app, replicas)}. {' '.join(said[1].split())}."


def _names(app: ApplicationView, replicas: list[tuple[DeploymentView, ReplicaView]]) -> str:
    return ", ".join(dict.fromkeys(f"{app.name}/{d.name}" for d, _ in replicas))


def _application_marks(applications: list[ApplicationView]) -> Iterator[str]:
    for app in applications:
        yield f"{app.name} {app.status} {plain(app.message)}"
        for d in app.deployments.values():
            states = sorted({f"{r.state}{'' if r.node_ip else ' unplaced'}" for r in d.replicas if r.state})
            yield f"{app.name}/{d.name} {d.status} {d.status_trigger} {plain(d.message)} {states}"


# --- pods


def _pods(view: ClusterView) -> list[Mapping[str, Any]]:
    return [pod for pod in view.pods if not is_terminating(pod)]


_STEPS: Final = (
    Activity.PULLING,
    Activity.INITIALIZING,
    Activity.PODS_FAILING,
    Activity.WAITING,
    Activity.SCHEDULING,
    Activity.STARTING_RAY,
)


def _of_pods(view: ClusterView) -> tuple[Activity, str] | None:
    """What the pods that are not Ready do: the head before the others. None when all are Ready."""
    refused = _refused(view)
    pods = _pods(view)
    heads = [pod for pod in pods if labels_of(pod).get(names.NODE_TYPE) == names.HEAD]
    for group in (heads, pods):
        doing = [known for pod in group if (known := _of_pod(pod)) is not None]
        if doing:
            activity, detail = min(doing, key=lambda known: _STEPS.index(known[0]))
            return activity, f"{_count(doing, activity)}{': ' + detail if detail else ''}"
    return refused


def _count(doing: list[tuple[Activity, str]], activity: Activity) -> str:
    return f"{sum(1 for known, _ in doing if known is activity)} pod(s) {_POD_WORDS[activity]}"


_POD_WORDS: Final[Mapping[Activity, str]] = {
    Activity.PULLING: "pull images or mount volumes",
    Activity.INITIALIZING: "run init containers",
    Activity.PODS_FAILING: "fail",
    Activity.WAITING: "wait for a node with room",
    Activity.SCHEDULING: "have no node yet",
    Activity.STARTING_RAY: "run and are not Ready",
}


def _going_on(view: ClusterView) -> tuple[Activity, str] | None:
    """What the pods do, if it is a step that goes on."""
    found = _of_pods(view)
    return found if found is not None and COUNTED[found[0]] is Counted.NONE else None


def _refused(view: ClusterView) -> tuple[Activity, str] | None:
    """Pods that the API server does not take: too little quota is waiting for resources, all else a failure."""
    conditions = (view.manifest.get("status") or {}).get("conditions") or ()
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            message = str(condition.get("message") or "")
            quota = "exceeded quota" in message
            return (Activity.WAITING if quota else Activity.PODS_FAILING), shorten(message, 300)
    return None


_MAKING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_MANY_RESTARTS: Final = 3


def _of_pod(pod: Mapping[str, Any]) -> tuple[Activity, str] | None:
    if is_ready(pod):
        return None
    status = pod.get("status") or {}
    init, main = _containers(status, "initContainerStatuses"), _containers(status, "containerStatuses")
    if failing := next(filter(None, map(_failure, (*init, *main))), ""):
        return Activity.PODS_FAILING, failing
    scheduled = next((c for c in status.get("conditions") or () if c.get("type") == "PodScheduled"), None)
    if scheduled is not None and scheduled.get("status") == "False":
        return Activity.WAITING, shorten(str(scheduled.get("message") or scheduled.get("reason") or ""), 300)
    if scheduled is None and not main and not init and not (pod.get("spec") or {}).get("nodeName"):
        return Activity.SCHEDULING, ""
    if running := [str(c.get("name")) for c in init if "running" in _state(c)]:
        return Activity.INITIALIZING, ", ".join(running)
    if not main or any("waiting" in _state(c) for c in (*init, *main)):
        return Activity.PULLING, ""
    return Activity.STARTING_RAY, ""


def _containers(status: Mapping[str, Any], which: str) -> list[Mapping[str, Any]]:
    return list(status.get(which) or ())


def _state(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return container.get("state") or {}


def _failure(container: Mapping[str, Any]) -> str:
    """Why a container does not come up, with its last words; empty while that is not known to be so."""
    waiting = _state(container).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if waiting and reason not in _MAKING:
        return f"{container.get('name')}: {reason} {waiting.get('message') or ''}".strip() + _last_words(container)
    if int(container.get("restartCount") or 0) >= _MANY_RESTARTS and not container.get("ready"):
        return f"{container.get('name')} restarts again and again{_last_words(container)}"
    return ""


def _last_words(container: Mapping[str, Any]) -> str:
    """What it left in its termination log before it ended, as ``prefetch`` of serve_runtime does."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    said = " ".join(str(ended.get("message") or "").split())
    return f"; it said: {shorten(said, 300)}" if said else ""


def _pod_mark(pod: Mapping[str, Any]) -> str:
    """Group and states of a pod, without its name: another pod in the same state is nothing new."""
    status = pod.get("status") or {}
    states = [
        f"{c.get('name')} {next(iter(_state(c)), '')} {(_state(c).get('waiting') or {}).get('reason') or ''}"
        for which in ("initContainerStatuses", "containerStatuses")
        for c in _containers(status, which)
    ]
    return f"{labels_of(pod).get(names.NODE_GROUP)} {status.get('phase')} {is_ready(pod)} {states}"
