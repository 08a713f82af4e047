"""What the steps of a RayCluster's decision look at, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from rayservice_operator.api.conditions import ClusterReason
from rayservice_operator.cluster import gcs
from rayservice_operator.cluster.pods import PodView, of_lost_session
from rayservice_operator.cluster.roll import WHY, Roll, outdated, roll_of
from rayservice_operator.cluster.scaling import GroupPlan, Removal, plan_group
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core.decision import Action, Note


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps pods from being made: becomes the condition ReplicaFailure."""

    reason: ClusterReason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step wants done."""

    actions: tuple[Action, ...] = ()
    notes: tuple[Note, ...] = ()
    problem: Problem | None = None
    wake_at: float | None = None

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            actions=self.actions + other.actions,
            notes=self.notes + other.notes,
            problem=self.problem or other.problem,
            wake_at=earliest((self.wake_at, other.wake_at)),
        )


def earliest(times: Iterable[float | None]) -> float | None:
    """The first of the times that are set."""
    return min((at for at in times if at is not None), default=None)


@dataclass(frozen=True)
class Scene:
    """One RayCluster with its pods sorted out."""

    snapshot: ClusterSnapshot
    view: ClusterView
    now: float

    @cached_property
    def pods(self) -> tuple[PodView, ...]:
        """Head and workers, terminating ones too, by name."""
        pods = (PodView(obj) for obj in self.snapshot.pods)
        return tuple(sorted((pod for pod in pods if pod.is_head or pod.is_worker), key=lambda pod: pod.name))

    @cached_property
    def heads(self) -> tuple[PodView, ...]:
        """Head pods, oldest first."""
        return tuple(sorted((pod for pod in self.pods if pod.is_head), key=lambda pod: (pod.created_at, pod.name)))

    @property
    def head(self) -> PodView | None:
        """The head pod that counts."""
        return next((pod for pod in self.heads if pod.living), None)

    def workers(self, group: GroupView) -> tuple[PodView, ...]:
        """Pods of that worker group."""
        return tuple(pod for pod in self.pods if pod.is_worker and pod.group == group.name)

    @cached_property
    def strays(self) -> tuple[PodView, ...]:
        """Pods of worker groups that the spec no longer has, and head pods beside the one that counts."""
        known = {group.name for group in self.view.workers}
        orphans = [pod for pod in self.pods if pod.is_worker and pod.group not in known and not pod.terminating]
        spare = [pod for pod in self.heads if pod.living and pod is not self.head]
        if self.head is not None:  # ended ones too: an operator stopped after their replacement left them behind
            spare += [pod for pod in self.heads if pod.dead and not pod.terminating]
        return (*orphans, *spare)

    @property
    def state_survives(self) -> bool:
        """Whether workers outlive the head, because the GCS keeps its state elsewhere."""
        if self.head is not None:
            return gcs.head_state_survives(self.view, self.head.obj)
        return gcs.fault_tolerance(self.view) is not gcs.FaultTolerance.OFF

    @cached_property
    def roll(self) -> Roll | None:
        """Which pods the RayService has replaced now, if any."""
        return roll_of(self.snapshot.cluster)

    def outgoing(self, group: GroupView) -> frozenset[str]:
        """Names of the group's pods that are being replaced: named, and still of another template or on their way."""
        if self.roll is None:
            return frozenset()
        pods = self.heads if group.is_head else self.workers(group)
        named = (pod for pod in pods if self.roll.takes(pod))
        return frozenset(pod.name for pod in named if pod.terminating or outdated(pod, group))

    @property
    def outgoing_head(self) -> Removal | None:
        """The head pod where it is to be replaced, never one whose state would go with it."""
        head = self.head
        if head is None or not self.state_survives or head.name not in self.outgoing(self.view.head):
            return None
        return Removal(head, WHY, as_seen=not head.ready)

    @cached_property
    def group_plans(self) -> tuple[tuple[GroupView, GroupPlan], ...]:
        """For each worker group, in the order in which they get pods, what is to be made and deleted."""
        head = None if self.state_survives else self.head
        result = []
        for group in sorted(self.view.workers, key=lambda group: (-group.priority, group.index)):
            workers = self.workers(group)
            plan = plan_group(
                workers,
                desired=group.desired,
                named=group.workers_to_delete,
                stale=frozenset(pod.name for pod in workers if head is not None and of_lost_session(pod, head)),
                autoscaling=self.view.autoscaling,
                load=self.snapshot.load,
                now=self.now,
                outgoing=self.outgoing(group),
                surge=self.roll.surge.get(group.name, 0) if self.roll and group.desired else 0,
            )
            result.append((group, plan))
        return tuple(result)
