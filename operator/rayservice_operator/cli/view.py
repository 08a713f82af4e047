"""What every view is made of: objects as fetched, pods in words, and the JSON form.

A view is a frozen dataclass of plain values, built by a pure function from the objects. Times stay RFC 3339 texts: only
the renderer knows what time it is. The JSON of ``-o json`` is the view itself in camelCase, every key always there.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_camel

from rayservice_operator.api import names
from rayservice_operator.api.raycluster_status import lenient_status
from rayservice_operator.api.rayservice_status import RayServiceStatus
from rayservice_operator.cli.human import line
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, metadata, name_of
from rayservice_operator.service.apps import is_ready


@dataclass(frozen=True, slots=True)
class Objects:
    """A RayService and what belongs to it, as the API server has it. ``events``: of all of them, in any order."""

    service: Manifest
    clusters: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    revisions: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. ``since``: RFC 3339, when its status changed last."""

    type: str
    status: str
    reason: str
    message: str
    since: str | None


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod in kubectl's words. ``group``: of workers, ``headgroup`` for the head.

    ``reason`` and ``message``: why it is not Ready, as far as Kubernetes says; empty else.
    """

    name: str
    cluster: str
    group: str
    ip: str
    node: str
    state: str
    ready: bool
    serving: bool
    restarts: int
    created: str | None
    reason: str
    message: str


def status_of(service: Manifest) -> RayServiceStatus:
    """The typed status; what cannot be read (another operator wrote it) is left out."""
    return RayServiceStatus.model_validate(lenient_status(service, RayServiceStatus).get("status") or {})


def command(namespace: str, verb: str, *args: str) -> str:
    """A command line of ours to be copied: it names the namespace, which need not be the context's."""
    return " ".join(["kubectl rayservice", verb, *args, "-n", namespace])


def conditions(service: Manifest) -> tuple[Condition, ...]:
    """All conditions of an object, in their order."""
    return tuple(
        Condition(
            str(c.get("type") or ""),
            str(c.get("status") or ""),
            str(c.get("reason") or ""),
            line(str(c.get("message") or "")),
            c.get("lastTransitionTime"),
        )
        for c in (service.get("status") or {}).get("conditions") or ()
    )


def cluster_names(service: Manifest) -> tuple[tuple[str, str], ...]:
    """Role and name of the clusters that the status names: the active one first."""
    status = service.get("status") or {}
    found = ((role, (status.get(f"{role}ServiceStatus") or {}).get("rayClusterName")) for role in ("active", "pending"))
    return tuple((role, str(name)) for role, name in found if name)


# --- pods

_NOT_YET: Final = frozenset({"ContainerCreating", "PodInitializing"})
_MESSAGE: Final = 400


def pod(manifest: Manifest) -> Pod:
    """The view of a pod."""
    status, spec = manifest.get("status") or {}, manifest.get("spec") or {}
    state, reason, message = _state(manifest)
    labels = labels_of(manifest)
    head = labels.get(names.NODE_TYPE) == names.HEAD
    return Pod(
        name=name_of(manifest),
        cluster=labels.get(names.CLUSTER, ""),
        group=labels.get(names.NODE_GROUP) or (names.HEAD_GROUP if head else ""),
        ip=str(status.get("podIP") or ""),
        node=str(spec.get("nodeName") or ""),
        state=state,
        ready=is_ready(manifest) and not is_terminating(manifest),
        serving=labels.get(names.SERVE) == "true",
        restarts=sum(int(c.get("restartCount") or 0) for c in status.get("containerStatuses") or ()),
        created=metadata(manifest).get("creationTimestamp"),
        reason=reason,
        message=line(message, _MESSAGE),
    )


def _state(manifest: Manifest) -> tuple[str, str, str]:
    """kubectl's word, and why the pod is not Ready: reason and message."""
    status = manifest.get("status") or {}
    phase = str(status.get("phase") or "Unknown")
    if is_terminating(manifest):
        return "Terminating", "", ""
    if status.get("reason"):  # Evicted, NodeLost …
        return str(status["reason"]), str(status["reason"]), str(status.get("message") or "")
    for which, prefix in (("initContainerStatuses", "Init:"), ("containerStatuses", "")):
        for container in status.get(which) or ():
            if (found := _container(container, prefix)) is not None:
                return found
    if phase == "Pending":
        scheduled: Mapping[str, Any] = next(
            (c for c in status.get("conditions") or () if c.get("type") == "PodScheduled"), {}
        )
        if scheduled.get("status") == "False":
            return phase, str(scheduled.get("reason") or "Unschedulable"), str(scheduled.get("message") or "")
    return phase, "", ""


def _container(container: Mapping[str, Any], prefix: str) -> tuple[str, str, str] | None:
    """What a container that is not well makes of its pod; None for one that runs or has ended as it should."""
    state, last = container.get("state") or {}, (container.get("lastState") or {}).get("terminated") or {}
    name = container.get("name")
    if waiting := state.get("waiting"):
        word = str(waiting.get("reason") or "Waiting")
        if word in _NOT_YET:
            return prefix + word, "", ""
        told = str(waiting.get("message") or "")
        return prefix + word, word, f"container {name}: {told}{_ended(last)}"
    ended = state.get("terminated") or {}
    if ended and int(ended.get("exitCode") or 0) != 0:
        word = str(ended.get("reason") or "Error")
        return prefix + word, word, f"container {name}{_ended(ended)}"
    if not prefix and last and not container.get("ready") and int(container.get("restartCount") or 0):
        return "Running", str(last.get("reason") or "Restarted"), f"container {name} was restarted{_ended(last)}"
    return None


def _ended(terminated: Mapping[str, Any]) -> str:
    """`` ended with exit code 1 (Error): message``; empty for nothing."""
    if not terminated:
        return ""
    told = line(str(terminated.get("message") or ""), 200)
    reason = terminated.get("reason") or "Error"
    return f"; it ended with exit code {terminated.get('exitCode')} ({reason})" + (f": {told}" if told else "")


def pods_of(objects: Objects) -> tuple[Pod, ...]:
    """Views of all pods: the head of each cluster first."""
    found = [pod(manifest) for manifest in objects.pods]
    return tuple(sorted(found, key=lambda p: (p.cluster, p.group != names.HEAD_GROUP, p.group, p.name)))


# --- JSON


def to_json(value: Any) -> Any:
    """A view as JSON: field names in camelCase, enums by value; keys of mappings as they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {to_camel(f.name): to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
