"""Rules about numbers: whether the replicas of a deployment find room on the pods that there are or can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.nodes import CPU, UNLIMITED, Node
from rayservice_operator.lint.reading import as_count, counted, plain
from rayservice_operator.lint.room_for import capacity, gpus, gpus_at_least, on_one, ordinary, placeable
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Subject
from rayservice_operator.lint.workload import Workload


class _Room:
    """Capacity for a workload on those pods. Of many deployments most need the same, which is worked out once."""

    def __init__(self, nodes: Sequence[Node], pods: Sequence[int]) -> None:
        self._nodes, self._pods = nodes, pods
        self._known: dict[tuple[object, ...], float] = {}

    def __call__(self, work: Workload) -> float:
        key = (work.one_node, len(work.bundles), *work.needs.items())
        if key not in self._known:
            self._known[key] = capacity(work, self._nodes, self._pods)
        return self._known[key]


def _replicas(subject: Subject) -> Iterator[Problem]:
    nodes = subject.nodes
    room_of = _Room(nodes, [node.present for node in nodes])
    for deployment in subject.deployments:
        work = deployment.workload
        if work.least is None or not nodes:
            continue
        room = room_of(work)
        if work.least > room and placeable(work, nodes):
            problem = f"is {work.least}, but only {plain(room)} of these replicas fit on the cluster"
            yield Problem(work.least_path, problem, _more_room(subject, room))


def _more_room(subject: Subject, room: float) -> str:
    what = "maxReplicas" if subject.spec.enable_in_tree_autoscaling else "replicas"
    return f"Lower it to {plain(room)}, raise {what} of the worker group, or let a replica need less"


def _out_of_reach(subject: Subject) -> Iterator[Problem]:
    nodes = subject.nodes
    room_of = _Room(nodes, [node.most for node in nodes])
    for deployment in subject.deployments:
        work = deployment.workload
        if work.most is None or work.most_path == work.least_path or not nodes:
            continue
        room = room_of(work)
        if max(1, work.least or 0) <= room < work.most:
            problem = f"is {work.most}, but the groups' maxReplicas leave room for {plain(room)} of these replicas"
            fix = f"Lower it to {plain(room)}, or raise maxReplicas of the worker group"
            yield Problem(work.most_path, problem, fix)


def _gpus_in_all(subject: Subject) -> Iterator[Problem]:
    """Deployments that fit alone but not beside each other; said where the sum goes beyond what there is."""
    there = gpus(subject.nodes) if subject.nodes else None
    if there is None:
        return
    taken = 0.0
    for deployment in subject.deployments:
        wanted = gpus_at_least(deployment.workload)
        taken += wanted
        if taken > there and wanted <= there and taken - wanted <= there:
            problem = f"needs {counted(wanted, 'GPU')}; with the deployments before it that is {plain(taken)} of "
            problem += f"{plain(there)} in the cluster"
            yield Problem(deployment.path, problem, "Add workers with GPUs, or let replicas share them (num_gpus: 0.5)")


def _per_node(subject: Subject) -> Iterator[Problem]:
    nodes = [node for node in subject.nodes if node.offers(CPU) != 0 or not node.group.is_head]
    if not nodes or any(node.most == UNLIMITED for node in nodes):
        return
    for deployment in subject.deployments:
        limit = as_count(deployment.data.get("max_replicas_per_node"))
        wanted = deployment.workload.most
        if limit is None or limit < 1 or wanted is None:
            continue
        fitting = [node for node in nodes if on_one(node, ordinary(deployment.workload.needs)) >= 1]
        pods = sum(node.most if deployment.workload.autoscaled else node.present for node in fitting)
        if fitting and wanted > limit * pods:
            problem = f"is {limit}, which on {counted(pods, 'node')} allows {limit * pods} replicas of {wanted}"
            yield Problem(
                deployment.at("max_replicas_per_node"), problem, "Raise it, or add workers, or lower the replicas"
            )


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "replicas-do-not-fit",
        Severity.WARNING,
        "There is no room for the replicas that a deployment starts with",
        "Some of them stay pending, the application stays DEPLOYING, and an upgrade does not take over.",
        "Lower the count, or raise replicas (with the autoscaler maxReplicas) of the worker group.",
        "num_replicas: 4   # one GPU each, and two workers with one GPU",
        _replicas,
    ),
    Rule(
        "max-replicas-out-of-reach",
        Severity.WARNING,
        "max_replicas is more than the worker groups can ever hold",
        "Under load Serve asks for replicas that never come; they stay pending, and requests queue.",
        "Lower max_replicas, or raise maxReplicas of the worker group.",
        "autoscaling_config:\n  max_replicas: 16   # one GPU each, and maxReplicas: 4 with one GPU",
        _out_of_reach,
    ),
    Rule(
        "gpus-run-out",
        Severity.WARNING,
        "The deployments together need more GPUs than there are",
        "Each fits alone; together some replicas stay pending.",
        "Add workers with GPUs, or let replicas share one (num_gpus: 0.5).",
        "# two deployments with num_gpus: 1, and one worker with one GPU",
        _gpus_in_all,
    ),
    Rule(
        "replicas-per-node",
        Severity.WARNING,
        "max_replicas_per_node and the number of nodes do not allow the replicas",
        "The replicas beyond stay pending.",
        "Raise max_replicas_per_node, add workers, or lower the replicas.",
        "num_replicas: 4\nmax_replicas_per_node: 1   # and three nodes",
        _per_node,
    ),
)
