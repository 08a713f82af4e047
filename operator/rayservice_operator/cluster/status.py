"""The status of a RayCluster, all of it from one snapshot. Fields and reasons are KubeRay's (v1.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ClusterCondition as Type
from rayservice_operator.api.conditions import ClusterReason as Reason
from rayservice_operator.cluster import children, quantity
from rayservice_operator.cluster.plan import Problem, Scene
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.resources import is_gpu
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core import conditions
from rayservice_operator.core.conditions import Condition
from rayservice_operator.core.objects import Manifest, generation_of
from rayservice_operator.core.timestamps import to_rfc3339

TEMPLATE_CHANGE_HELD_BACK: Final = "TemplateChangeHeldBack"
"""Condition, present only when True: pods run a template that is no longer the spec's."""


def stored(cluster: Manifest) -> Mapping[str, Any]:
    """The status as it stands on the object."""
    return cluster.get("status") or {}


def stored_conditions(cluster: Manifest) -> Sequence[Mapping[str, Any]]:
    """The conditions as they stand on the object."""
    return stored(cluster).get("conditions") or ()


def build(
    scene: Scene,
    *,
    problem: Problem | None = None,
    suspending: bool | None = None,
    suspended: bool | None = None,
    invalid: str = "",
) -> Manifest:
    """The whole status.

    suspending, suspended: None leaves what is stored. ``invalid``: what is wrong with the spec.
    """
    cluster, view = scene.snapshot.cluster, scene.view
    suspending = _stored_flag(cluster, Type.SUSPENDING) if suspending is None else suspending
    suspended = _stored_flag(cluster, Type.SUSPENDED) if suspended is None else suspended
    head = scene.head
    workers = [pod for pod in scene.pods if pod.is_worker and pod.living]
    desired = 0 if suspended or suspending else sum(group.desired for group in view.workers)
    waits = _waits(scene) if not (suspended or suspending) else []
    complete = head is not None and head.ready and not waits and not (suspended or suspending)

    facts: Manifest = {
        **wanted_resources(view),
        "desiredWorkerReplicas": desired,
        "minWorkerReplicas": view.min_workers,
        "maxWorkerReplicas": view.max_workers,
        "readyWorkerReplicas": sum(pod.ready for pod in workers),
        "availableWorkerReplicas": sum(pod.phase == "Running" for pod in workers),
        **_addresses(scene, head),
    }
    wanted = [
        head_condition(head),
        _provisioned(cluster, complete=complete, reset=bool(suspended), waits=waits),
        *([] if problem is None else [Condition(Type.REPLICA_FAILURE, "True", problem.reason, problem.message)]),
        *([] if suspending is None else [_flag(Type.SUSPENDING, on=suspending)]),
        *([] if suspended is None else [_flag(Type.SUSPENDED, on=suspended)]),
        *_held_back(scene),
        *_progress(
            complete=complete or bool(suspended),
            problem=problem,
            invalid=invalid,
            waits=waits,
            leaving=[] if invalid or suspended or suspending else _leaving(scene),
        ),
    ]
    state = _state(cluster, complete=complete, suspended=bool(suspended), failed=bool(problem or invalid))
    reason = (invalid or (problem.message if problem else "")) if state == "failed" else ""
    return finish(cluster, facts, wanted, state=state, reason=reason, now=scene.now)


def unreadable(cluster: Manifest, pods: Sequence[PodView], message: str, now: float) -> Manifest:
    """The status of a RayCluster whose spec has no readable shape: its pods are told of, the rest stays as it was."""
    old = stored(cluster)
    head = next((pod for pod in pods if pod.is_head and pod.living), None)
    workers = [pod for pod in pods if pod.is_worker and pod.living]
    owned = {Type.HEAD_POD_READY, Type.STALLED, Type.RECONCILING}
    kept = [
        Condition(c["type"], c["status"], c.get("reason", ""), c.get("message", ""))
        for c in stored_conditions(cluster)
        if c.get("type") not in owned
    ]
    facts = {
        **{key: value for key, value in old.items() if key not in _DERIVED},
        "readyWorkerReplicas": sum(pod.ready for pod in workers),
        "availableWorkerReplicas": sum(pod.phase == "Running" for pod in workers),
    }
    wanted = [head_condition(head), *kept, Condition(Type.STALLED, "True", Reason.VALIDATION_FAILED, message)]
    state = _state(cluster, complete=False, suspended=old.get("state") == "suspended", failed=True)
    return finish(cluster, facts, wanted, state=state, reason=message if state == "failed" else "", now=now)


_DERIVED: Final = frozenset(
    {"conditions", "state", "reason", "stateTransitionTimes", "observedGeneration", "lastUpdateTime"}
)


def finish(
    cluster: Manifest, facts: Manifest, wanted: Sequence[Condition], *, state: str, reason: str, now: float
) -> Manifest:
    """Put the pieces together. ``lastUpdateTime`` moves only when something else did."""
    old = stored(cluster)
    generation = generation_of(cluster)
    times = dict(old.get("stateTransitionTimes") or {})
    if state and (state != old.get("state") or state not in times):
        times[state] = to_rfc3339(now)
    status: Manifest = {
        **facts,
        "conditions": conditions.merge(stored_conditions(cluster), wanted, generation=generation, now=now),
        "observedGeneration": generation,
        **({"state": state} if state else {}),
        **({"reason": conditions.shorten(reason)} if reason else {}),
        **({"stateTransitionTimes": times} if times else {}),
    }
    same = {key: value for key, value in old.items() if key != "lastUpdateTime"} == status
    status["lastUpdateTime"] = old["lastUpdateTime"] if same and old.get("lastUpdateTime") else to_rfc3339(now)
    return status


def head_condition(head: PodView | None) -> Condition:
    """HeadPodReady: the reason is the container's own where it waits for something."""
    if head is None:
        return Condition(Type.HEAD_POD_READY, "False", Reason.HEAD_POD_NOT_FOUND, "There is no head pod")
    if head.ready:
        return Condition(Type.HEAD_POD_READY, "True", Reason.HEAD_POD_RUNNING_AND_READY)
    reason, message = trouble(head)
    return Condition(Type.HEAD_POD_READY, "False", reason, message)


def trouble(pod: PodView) -> tuple[str, str]:
    """Why a pod is not ready, in Kubernetes' own words: a waiting container, the scheduler, its Ready condition."""
    statuses = [*(pod.status.get("initContainerStatuses") or ()), *(pod.status.get("containerStatuses") or ())]
    for status in statuses:
        waiting: Mapping[str, Any] = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in {"PodInitializing", "ContainerCreating"}:
            return str(waiting["reason"]), f"{status.get('name')}: {waiting.get('message') or waiting['reason']}"
    scheduled = pod.condition("PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("reason") or "Unschedulable"), str(scheduled.get("message") or "")
    for status in statuses:
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"]), str(waiting.get("message") or f"{status.get('name')} is being prepared")
    ready = pod.condition("Ready")
    return str(ready.get("reason") or Reason.UNKNOWN), str(ready.get("message") or "")


def _waits(scene: Scene) -> list[str]:
    """One phrase for each worker group that lacks ready pods."""
    result = []
    for group in scene.view.workers:
        pods = [pod for pod in scene.workers(group) if pod.living]
        ready = sum(pod.ready for pod in pods)
        if ready >= group.desired:
            continue
        first = next((pod for pod in pods if not pod.ready), None)
        reason, message = trouble(first) if first else ("", "")
        why = f" ({first.name}: {reason}{': ' + message if message else ''})" if first else ""
        result.append(f"{ready} of {group.desired} workers of group {group.name} are ready{why}")
    return result


def _provisioned(cluster: Manifest, *, complete: bool, reset: bool, waits: Sequence[str]) -> Condition:
    """RayClusterProvisioned stays True once it was, as KubeRay's does: it says «was complete once since resumed»."""
    once = not reset and conditions.is_true(stored_conditions(cluster), Type.PROVISIONED)
    if complete or once:
        return Condition(
            Type.PROVISIONED, "True", Reason.ALL_PODS_READY_FIRST_TIME, "All pods were running and ready at once"
        )
    return Condition(Type.PROVISIONED, "False", Reason.PODS_PROVISIONING, "; ".join(waits))


def _leaving(scene: Scene) -> list[str]:
    """One phrase for each worker group of which pods that still run are to go: not yet what the spec asks for."""
    result = []
    for group, plan in scene.group_plans:
        count = sum(removal.pod.living for removal in plan.delete)
        if count:
            running = sum(pod.living for pod in scene.workers(group))
            result.append(
                f"{count} of {running} running workers of group {group.name} {'is' if count == 1 else 'are'} to go"
            )
    return result


def _progress(
    *, complete: bool, problem: Problem | None, invalid: str, waits: Sequence[str], leaving: Sequence[str]
) -> list[Condition]:
    """kstatus' pair: at most one of them, and only when True."""
    if invalid:
        return [Condition(Type.STALLED, "True", Reason.VALIDATION_FAILED, invalid)]
    if problem is not None:
        return [Condition(Type.STALLED, "True", Reason.DRY_RUN_REFUSED, problem.message)]
    if complete and not leaving:
        return []
    why = "; ".join([*waits, *leaving]) or "The head pod is not ready"
    return [Condition(Type.RECONCILING, "True", Reason.PROGRESSING, why)]


def _stored_flag(cluster: Manifest, type_: Type) -> bool | None:
    """None where suspension has never been a matter."""
    found = conditions.find(stored_conditions(cluster), type_)
    return None if found is None else found.get("status") == "True"


def _flag(type_: Type, *, on: bool) -> Condition:
    return Condition(type_, "True" if on else "False", str(type_))


def _held_back(scene: Scene) -> list[Condition]:
    outdated = held_back(scene)
    return [Condition(TEMPLATE_CHANGE_HELD_BACK, "True", "PodsKeepTheirTemplate", outdated)] if outdated else []


def held_back(scene: Scene) -> str:
    """Which pods run a template that has since been edited, and what to do; empty if none does."""
    rolled = scene.roll.groups if scene.roll else frozenset()
    groups = (group for group in (scene.view.head, *scene.view.workers) if group.name not in rolled)
    current = {group.name: group.template_hash for group in groups}
    counts: dict[str, int] = {}
    for pod in scene.pods:
        built_from = pod.annotations.get(names.TEMPLATE_HASH)
        if pod.living and built_from and current.get(pod.group, built_from) != built_from:
            counts[pod.group] = counts.get(pod.group, 0) + 1
    if not counts:
        return ""
    listed = ", ".join(f"{count} of group {group}" for group, count in sorted(counts.items()))
    return f"Pods that run keep the template they were made from: {listed}. Delete them to have the new one applied"


def _state(cluster: Manifest, *, complete: bool, suspended: bool, failed: bool) -> str:
    """The older summary. ``ready`` stays until the cluster is suspended, as KubeRay's does; conditions are exact."""
    if suspended:
        return "suspended"
    if complete or stored(cluster).get("state") == "ready":
        return "ready"
    return "failed" if failed else ""


def wanted_resources(view: ClusterView) -> Manifest:
    """Sum of what all wanted pods ask for: limits, where absent requests, of every container of the templates."""
    return _summed((group, group.desired) for group in (view.head, *view.workers))


def resources_of(group: GroupView, pods: int) -> Manifest:
    """What so many pods of the group ask for, in the form of :func:`wanted_resources`."""
    return _summed([(group, pods)])


def _summed(wanted: Iterable[tuple[GroupView, int]]) -> Manifest:
    total: dict[str, Decimal] = {"cpu": Decimal(0), "memory": Decimal(0), "gpu": Decimal(0), "tpu": Decimal(0)}
    for group, pods in wanted:
        for key, amount in _pod_resources(group).items():
            total[key] += amount * pods
    return {
        "desiredCPU": quantity.format_decimal(total["cpu"]),
        "desiredMemory": quantity.format_binary(total["memory"]),
        "desiredGPU": quantity.format_decimal(total["gpu"]),
        "desiredTPU": quantity.format_decimal(total["tpu"]),
    }


def _pod_resources(group: GroupView) -> dict[str, Decimal]:
    result = {"cpu": Decimal(0), "memory": Decimal(0), "gpu": Decimal(0), "tpu": Decimal(0)}
    for container in group.pod_spec.get("containers") or ():
        resources = container.get("resources") or {}
        for key, text in {**(resources.get("requests") or {}), **(resources.get("limits") or {})}.items():
            field = "gpu" if is_gpu(key) else "tpu" if key == "google.com/tpu" else key
            if field in result:
                result[field] += quantity.parse_or_zero(text)
    return result


def _addresses(scene: Scene, head: PodView | None) -> Manifest:
    """``head`` and ``endpoints``. A headless service has no address of its own; the head pod's stands for it."""
    service = children.find(scene.snapshot.children, "Service", scene.view.head_service_name)
    spec: Mapping[str, Any] = (service or {}).get("spec") or {}
    cluster_ip = str(spec.get("clusterIP") or "")
    pod_ip = head.ip if head else ""
    info = {
        "podIP": pod_ip,
        "podName": head.name if head else "",
        "serviceIP": pod_ip if cluster_ip in {"", "None"} else cluster_ip,
        "serviceName": scene.view.head_service_name if service else "",
    }
    endpoints = {
        str(port.get("name") or port["port"]): str(port.get("nodePort") or port.get("targetPort") or port["port"])
        for port in spec.get("ports") or ()
    }
    return {
        "head": {key: value for key, value in info.items() if value},
        **({"endpoints": endpoints} if endpoints else {}),
    }
