"""Rules of one group of pods at a time, head or workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rayservice_operator.api.names import HEAD_GROUP
from rayservice_operator.api.raycluster import WorkerGroupSpec
from rayservice_operator.api.validation.metadata import DNS_1123_SUBDOMAIN, is_label_key, is_label_value
from rayservice_operator.api.validation.subject import ClusterSubject, Group
from rayservice_operator.core.violations import Violation

Check = Callable[[Group], Iterator[Violation]]
WorkerCheck = Callable[[Group, WorkerGroupSpec, ClusterSubject], Iterator[Violation]]


def violations(subject: ClusterSubject) -> Iterator[Violation]:
    """Every rule of the tables below on every group."""
    for group in subject.groups:
        for check in CHECKS:
            yield from check(group)
    for group, spec in subject.worker_specs():
        for worker_check in WORKER_CHECKS:
            yield from worker_check(group, spec, subject)
    yield from _unique_names(subject)


def _has_container(group: Group) -> Iterator[Violation]:
    if group.template is not None and not group.template.spec.containers:
        yield Violation(group.at("template", "spec", "containers"), "is empty", "Add the container that runs Ray")


def _start_params_without_dashes(group: Group) -> Iterator[Violation]:
    for key in group.spec.ray_start_params:
        if key.startswith("-"):
            fix = f"Write {key.lstrip('-')!r}: the dashes are added"
            yield Violation(group.at("rayStartParams", key), "starts with a dash", fix)


def _labels_in_their_own_field(group: Group) -> Iterator[Violation]:
    if "labels" in group.spec.ray_start_params:
        path = group.at("rayStartParams", "labels")
        yield Violation(path, "is not allowed", f"Move the labels to {group.at('labels')}")


def start_param_of(resource: str) -> str:
    """The flag of ``ray start`` that stands for a key of a group's ``resources`` (KubeRay 1.7)."""
    if resource.lower().endswith("gpu"):
        return "num-gpus"
    return {"cpu": "num-cpus", "memory": "memory"}.get(resource.lower(), "resources")


def _resources_once(group: Group) -> Iterator[Violation]:
    for resource in group.spec.resources:
        param = start_param_of(resource)
        if param in group.spec.ray_start_params:
            problem = f"is also set by rayStartParams[{param}]"
            yield Violation(group.at("resources", resource), problem, "Keep one of the two")


def _label_syntax(group: Group) -> Iterator[Violation]:
    for key, value in group.spec.labels.items():
        if not is_label_key(key) or not is_label_value(value):
            yield Violation(
                group.at("labels", key),
                f"{key}={value} is no valid label",
                "Use letters, digits, '-', '_' and '.', at most 63 of them, with a letter or digit at both ends",
            )


CHECKS: Final[tuple[Check, ...]] = (
    _has_container,
    _start_params_without_dashes,
    _labels_in_their_own_field,
    _resources_once,
    _label_syntax,
)


def _group_name(group: Group, spec: WorkerGroupSpec, subject: ClusterSubject) -> Iterator[Violation]:
    path = group.at("groupName")
    if len(spec.group_name) > 63 or not DNS_1123_SUBDOMAIN.fullmatch(spec.group_name):
        # It is part of the pods' names and the value of a label.
        fix = "Use lower-case letters, digits and '-', at most 63 of them"
        yield Violation(path, f"{spec.group_name!r} cannot be part of a pod's name", fix)
    elif spec.group_name == HEAD_GROUP and subject.spec.enable_in_tree_autoscaling:
        yield Violation(path, f"{HEAD_GROUP!r} is the autoscaler's name for the head", "Give the group another name")


def _bounds(group: Group, spec: WorkerGroupSpec, subject: ClusterSubject) -> Iterator[Violation]:  # noqa: ARG001
    counts = {"replicas": spec.replicas, "minReplicas": spec.min_replicas, "maxReplicas": spec.max_replicas}
    for field, count in counts.items():
        if count < 0:
            yield Violation(group.at(field), f"is {count}", "Use 0 or more")
    if spec.min_replicas > spec.max_replicas:
        problem = f"is {spec.min_replicas}, more than maxReplicas ({spec.max_replicas})"
        yield Violation(group.at("minReplicas"), problem, "Lower minReplicas or raise maxReplicas")


def _idle_timeout(group: Group, spec: WorkerGroupSpec, subject: ClusterSubject) -> Iterator[Violation]:  # noqa: ARG001
    if spec.idle_timeout_seconds is not None and spec.idle_timeout_seconds < 0:
        yield Violation(group.at("idleTimeoutSeconds"), f"is {spec.idle_timeout_seconds}", "Use 0 or more seconds")


def _suspend(group: Group, spec: WorkerGroupSpec, subject: ClusterSubject) -> Iterator[Violation]:
    if spec.suspend and subject.spec.enable_in_tree_autoscaling:
        problem = "cannot be set while enableInTreeAutoscaling is true"
        yield Violation(group.at("suspend"), problem, "Remove suspend, or set maxReplicas to 0")


WORKER_CHECKS: Final[tuple[WorkerCheck, ...]] = (_group_name, _bounds, _idle_timeout, _suspend)


def _unique_names(subject: ClusterSubject) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for index, (group, spec) in enumerate(subject.worker_specs()):
        first = seen.setdefault(spec.group_name, index)
        if first != index:
            problem = f"{spec.group_name!r} is also the name of workerGroupSpecs[{first}]"
            yield Violation(group.at("groupName"), problem, "Give each group a name of its own")
