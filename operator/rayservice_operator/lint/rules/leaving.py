"""Rules about how pods and replicas go: whether requests in flight are finished, and who answers meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.cluster import drain
from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.nodes import GPU
from rayservice_operator.lint.reading import as_count, as_map, as_number, plain
from rayservice_operator.lint.room_for import capacity, gpus, gpus_at_least
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Subject

_PROXY_DRAIN_S: Final = 30
"""Least time that Ray's proxies drain for (RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S, Ray 2.60)."""

_LEAST_GRACE_S: Final = _PROXY_DRAIN_S + drain.SHUTDOWN_S + 5

_SURGE_SINCE: Final = (2, 60, 0)


def _grace(subject: Subject) -> Iterator[Problem]:
    if subject.service is None or not subject.nodes or not drain.wanted(subject.view):
        return
    for node in subject.nodes:
        given = node.group.pod_spec.get("terminationGracePeriodSeconds")
        seconds = as_count(given)
        if node.group.is_head or seconds is None or seconds >= _LEAST_GRACE_S:
            continue
        problem = f"is {seconds}, but Ray takes {_PROXY_DRAIN_S} s to drain a node and {drain.SHUTDOWN_S} s to stop"
        fix = f"Write {_LEAST_GRACE_S} or more, or leave it out: the operator sets {drain.WORKER_GRACE_S}"
        yield Problem((*node.path, "template", "spec", "terminationGracePeriodSeconds"), problem, fix)


def _grace_below_shutdown(subject: Subject) -> Iterator[Problem]:
    if subject.service is None or not subject.nodes or not drain.wanted(subject.view):
        return
    workers = [node for node in subject.nodes if not node.group.is_head]
    graces = [as_count(n.group.pod_spec.get("terminationGracePeriodSeconds", drain.WORKER_GRACE_S)) for n in workers]
    known = [grace for grace in graces if grace is not None]
    if not known:
        return
    longest = max(known)
    for deployment in subject.deployments:
        seconds = as_number(deployment.data.get("graceful_shutdown_timeout_s"))
        if seconds is not None and longest >= _LEAST_GRACE_S and seconds + drain.SHUTDOWN_S > longest:
            problem = f"is {plain(seconds)}, but a worker pod is killed {longest} s after its deletion"
            fix = (
                f"Set terminationGracePeriodSeconds of the workers to {plain(seconds + drain.SHUTDOWN_S + 10)} or more"
            )
            yield Problem(deployment.at("graceful_shutdown_timeout_s"), problem, fix)


def _own_hook(subject: Subject) -> Iterator[Problem]:
    if subject.service is None or not subject.nodes or not drain.wanted(subject.view):
        return
    for node in subject.nodes:
        if not node.group.is_head and as_map(node.group.ray_container.get("lifecycle")).get("preStop"):
            path = (*node.path, "template", "spec", "containers", 0, "lifecycle", "preStop")
            problem = "takes the place of the operator's hook, which drains the node before it goes"
            fix = "Remove it (ray stop is sent anyway), or call ray drain-node in it yourself"
            yield Problem(path, problem, fix)


def _no_surge(subject: Subject) -> Iterator[Problem]:
    """Only where a replica is slow to come and there is room for a second one: then surge costs nothing."""
    version = subject.ray_version
    if version is None or version < _SURGE_SINCE or not subject.nodes:
        return
    pods = [node.present for node in subject.nodes]
    there = gpus(subject.nodes)
    taken = sum(gpus_at_least(deployment.workload) for deployment in subject.deployments)
    for deployment in subject.deployments:
        work = deployment.workload
        single = deployment.data.get("num_replicas") == 1 and work.llm is None
        if there is None or not single or not work.slow or "max_surge_percent" in deployment.data:
            continue
        if capacity(work, subject.nodes, pods) >= 2 and taken + work.needs.get(GPU, 0.0) <= there:
            problem = "is 1: in an update the only replica goes before its successor loads the model"
            fix = "Set max_surge_percent: 100; there is room for a second replica"
            yield Problem(deployment.at("num_replicas"), problem, fix)


def _force_stop(subject: Subject) -> Iterator[Problem]:
    for deployment in subject.deployments:
        if as_number(deployment.data.get("graceful_shutdown_timeout_s")) == 0:
            problem = "is 0: a replica is killed with the requests it has"
            path = deployment.at("graceful_shutdown_timeout_s")
            yield Problem(path, problem, "Write a little more than your longest request takes")


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "grace-too-short",
        Severity.WARNING,
        "Worker pods are killed before Ray has drained them",
        "Requests that are on their way to such a pod fail whenever it is deleted: in upgrades, scale-downs, node "
        "drains.",
        f"Set terminationGracePeriodSeconds to {_LEAST_GRACE_S} or more, or leave it to the operator.",
        "terminationGracePeriodSeconds: 10",
        _grace,
    ),
    Rule(
        "grace-below-shutdown-timeout",
        Severity.WARNING,
        "A replica may take longer to shut down than its pod lives",
        "graceful_shutdown_timeout_s promises requests a time that the pod's grace period cuts off.",
        "Raise terminationGracePeriodSeconds of the workers, or lower graceful_shutdown_timeout_s.",
        "graceful_shutdown_timeout_s: 600   # and terminationGracePeriodSeconds is not set",
        _grace_below_shutdown,
    ),
    Rule(
        "own-prestop-hook",
        Severity.WARNING,
        "A preStop hook of your own keeps the operator from draining workers",
        "The operator leaves a hook that is there alone. `ray stop` as a hook ends Ray with the requests it has.",
        "Remove the hook, or drain in it.",
        'lifecycle: {preStop: {exec: {command: [sh, -c, "ray stop"]}}}',
        _own_hook,
    ),
    Rule(
        "shutdown-without-grace",
        Severity.WARNING,
        "Replicas are killed with the requests they have",
        "graceful_shutdown_timeout_s: 0 leaves no time to finish them, in updates and scale-downs alike.",
        "Write a little more than your longest request takes.",
        "graceful_shutdown_timeout_s: 0",
        _force_stop,
    ),
    Rule(
        "single-replica-without-surge",
        Severity.HINT,
        "The only replica of a model goes before its successor comes",
        "Requests wait for the whole model load in each update that restarts the replica, though there is room for "
        "a second one.",
        "Set max_surge_percent: 100.",
        "num_replicas: 1   # num_gpus: 1, and two workers with one GPU",
        _no_surge,
    ),
)
