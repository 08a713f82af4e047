"""What comes next in an in-place rollout: which pod goes, or what is waited for, told from what is there.

One pod after another (``maxUnavailable`` of them): named, drained, gone, its successor Ready, Serve well again as seen
after that; only then the next. With ``maxSurge`` the successor comes first. Groups go in their order, the head last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster.pods import PodView, pause_before
from rayservice_operator.cluster.roll import Roll, outdated
from rayservice_operator.cluster.status import trouble
from rayservice_operator.cluster.view import ClusterView as RayClusterView
from rayservice_operator.cluster.view import GroupView
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339
from rayservice_operator.service import thresholds
from rayservice_operator.service.apps import Phase, describe, gets_requests, head_trouble, serving_pods, standing
from rayservice_operator.service.context import ClusterView, Config, Context
from rayservice_operator.service.endpoints import all_healthy_proxies_routed, endpoint_pods
from rayservice_operator.service.roll import Phase as RollPhase

LOOK_AGAIN_S: Final = 1.0
"""Pause before asking whether Serve has been looked at since; a look that finds nothing new tells nobody."""

WHOLE_SECOND_S: Final = 1.0
"""Times in the status of pods are cut to whole seconds."""

_PAUSED: Final = "Paused."

_WENT_WRONG: Final = frozenset({Phase.FAILED, Phase.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class Pace:
    """``upgradeStrategy.inPlace`` and the limits, in pods and seconds. deadline: of the whole, None for none."""

    max_unavailable: int
    max_surge: int
    threshold: float
    deadline: float | None

    @property
    def batch(self) -> int:
        """How many pods go at a time."""
        return max(1, self.max_unavailable, self.max_surge)


def pace_of(service: Manifest) -> Pace:
    """The pace that a RayService asks for. What validation refuses counts as unset."""
    strategy: Mapping[str, Any] = service["spec"].get("upgradeStrategy") or {}
    asked: Mapping[str, Any] = strategy.get("inPlace") or {}
    surge = _number(asked.get("maxSurge")) or 0
    unavailable = _number(asked.get("maxUnavailable"))
    if unavailable is None or surge + unavailable == 0:
        unavailable = 0 if surge else 1
    threshold = thresholds.seconds_of(service, thresholds.DEPLOYMENT)
    return Pace(unavailable, surge, threshold, thresholds.progress_deadline_s(service))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


@dataclass(frozen=True, slots=True)
class Step:
    """What is done or waited for. pods: to be named now; unready: those of them that are not Ready; surge: by group, if
    it changes; done: all is as wanted.

    stop_at: epoch seconds when the wait is given up as hopeless; in the past: it is. held: it cannot go on at all.
    """

    message: str
    phase: RollPhase = RollPhase.WORKERS
    pods: tuple[str, ...] = ()
    unready: tuple[str, ...] = ()
    surge: Mapping[str, int] | None = None
    done: bool = False
    held: bool = False
    stop_at: float | None = None
    wake_at: float | None = None


@dataclass(frozen=True)
class Group:
    """The pods of one group (or the head) that are rolled, sorted out."""

    view: GroupView
    pods: tuple[PodView, ...]
    roll: Roll
    now: float

    @cached_property
    def living(self) -> tuple[PodView, ...]:
        """Not ended, not on their way."""
        return tuple(pod for pod in self.pods if pod.living)

    @cached_property
    def leaving(self) -> tuple[PodView, ...]:
        """Named, and still there."""
        named = (pod for pod in self.pods if self.roll.takes(pod) and not pod.dead)
        return tuple(
            pod
            for pod in named
            if (pod.may_run_until(self.now) is not None if pod.terminating else outdated(pod, self.view))
        )

    @cached_property
    def old(self) -> tuple[PodView, ...]:
        """Of another template than the wanted one, and not about to go."""
        return tuple(pod for pod in self.living if outdated(pod, self.view) and not self.roll.takes(pod))

    @cached_property
    def new(self) -> tuple[PodView, ...]:
        """Of the wanted template."""
        return tuple(pod for pod in self.living if not outdated(pod, self.view))

    @property
    def coming(self) -> tuple[PodView, ...]:
        """Of the wanted template and not Ready; those that died and are made anew after a pause too."""
        dead = (p for p in self.pods if p.dead and not p.terminating and not outdated(p, self.view))
        return (*(pod for pod in self.new if not pod.ready), *dead)

    @property
    def ready(self) -> int:
        """Pods that are Ready."""
        return sum(pod.ready for pod in self.living)

    @property
    def title(self) -> str:
        """``group gpu`` or ``the head group``."""
        return "the head group" if self.view.is_head else f"group {self.view.name}"


@dataclass(frozen=True)
class Rollout:
    """One RayCluster that is being rolled.

    config: the serve config that its applications are to run meanwhile. held: nothing new is begun (a pause).
    """

    context: Context
    cluster: ClusterView
    view: RayClusterView
    roll: Roll
    pace: Pace
    config: Config | None
    held: bool = False

    @cached_property
    def pods(self) -> tuple[PodView, ...]:
        """All pods of the cluster, by name."""
        return tuple(sorted((PodView(pod) for pod in self.cluster.pods), key=lambda pod: pod.name))

    def _group(self, view: GroupView) -> Group:
        pods = (pod for pod in self.pods if pod.is_head == view.is_head and (pod.is_head or pod.group == view.name))
        return Group(view, tuple(pods), self.roll, self.context.now)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The worker groups that are rolled, in their order."""
        return tuple(self._group(view) for view in self.view.workers if view.name in self.roll.groups)

    @cached_property
    def head(self) -> Group:
        """The head, whether it is rolled or not."""
        return self._group(self.view.head)

    @property
    def rolls_head(self) -> bool:
        """Whether the head is replaced at the end."""
        return names.HEAD_GROUP in self.roll.groups

    @property
    def counts(self) -> tuple[int, int]:
        """Pods that are done, and all that are to be."""
        rolled = (*self.groups, *([self.head] if self.rolls_head else []))
        done = sum(sum(pod.ready for pod in group.new) for group in rolled)
        extra = self.roll.surge
        wanted = (max(g.view.desired, len(g.living) - extra.get(g.view.name, 0)) for g in rolled)
        return done, max(done, sum(wanted))

    # --- the next step

    def next_step(self) -> Step:
        """The first of: pods that leave, a head that does not come up, the groups in their order, the head, the end."""
        for group in (*self.groups, *([self.head] if self.rolls_head else [])):
            if group.leaving:
                return self._leaving(group)
        if self.rolls_head and self.head.old and not self._head_ready:
            return self._name(self.head, self.head.old)  # nothing else can go on without it
        for group in self.groups:
            if step := self._group_step(group):
                return step
        if self.rolls_head and (step := self._head_step()):
            return step
        last = RollPhase.HEAD if self.rolls_head else RollPhase.WORKERS
        return self._unserved(last) or Step("All pods have the template of the spec.", last, done=True)

    def _leaving(self, group: Group) -> Step:
        going = [pod for pod in group.leaving if pod.terminating]
        what = "drained" if going else "replaced"
        until = [at for pod in going if (at := pod.may_run_until(self.context.now))]
        message = f"{_listed(group.leaving)} of {group.title} {_are(group.leaving)} being {what}. {self._failure()}"
        return Step(message.strip(), _phase(group), wake_at=min(until, default=None))

    def _group_step(self, group: Group) -> Step | None:
        """None when all pods of the group are new and Ready."""
        surge = min(self.pace.max_surge, len(group.old)) if group.view.desired else 0
        before = self.roll.surge.get(group.view.name, 0)
        if surge > before and self.held:
            return Step(_PAUSED)
        if surge != before:
            # Said again whenever it changes: an edit that takes maxSurge back takes a pod back that finds no place.
            return Step(
                f"{group.title} may have {surge} more pod(s).", surge={**self.roll.surge, group.view.name: surge}
            )
        unready = [pod for pod in group.old if not pod.ready]
        if unready and self._head_ready:
            return self._name(group, unready[: self.pace.batch])  # costs nothing: nobody is served by it
        if group.coming or len(group.living) < group.view.desired + surge:
            return self._coming(group)
        if not group.old:
            return None
        if step := self._late() or self._unserved():
            return step
        ready = sorted((pod for pod in group.old if pod.ready), key=lambda pod: (len(self._replicas(pod)), pod.name))
        spare = self.pace.max_unavailable + group.ready - group.view.desired
        chosen = ready[: max(0, min(spare, self.pace.batch))]
        if not chosen:
            return Step(f"Waiting for pods of {group.title} to be Ready.")
        return self._needed(group, chosen) or self._name(group, chosen)

    def _head_step(self) -> Step | None:
        head = self.head
        if head.old:
            if step := self._late() or self._unserved(RollPhase.HEAD):
                return step
            return self._needed(head, head.old) or self._name(head, head.old)
        return self._coming(head) if head.coming or not head.living else None

    def _name(self, group: Group, pods: Iterable[PodView]) -> Step:
        chosen = tuple(pods)
        if self.held:
            return Step(_PAUSED, _phase(group))
        surge = {**self.roll.surge}
        if not group.view.is_head:
            surge[group.view.name] = min(self.pace.max_surge, len(group.old) - len(chosen))
        done, total = self.counts
        message = f"{_listed(chosen)} of {group.title} {_are(chosen)} replaced ({done} of {total} pods are done)."
        unready = tuple(pod.name for pod in chosen if not pod.ready)
        return Step(message, _phase(group), pods=tuple(pod.name for pod in chosen), unready=unready, surge=surge)

    # --- what is waited for

    def _coming(self, group: Group) -> Step:
        if not group.coming:
            return Step(f"Waiting for a pod of {group.title}. {self._failure()}".strip(), _phase(group))
        moved, _, pod = min((moved_at(pod), pod.name, pod) for pod in group.coming)
        reason, said = _ended(pod) if pod.dead else trouble(pod)
        message = f"Pod {pod.name} of {group.title} is not Ready: {reason}{': ' + shorten(said, 512) if said else ''}."
        return Step(message, _phase(group), stop_at=moved + self.pace.threshold)

    @property
    def late_at(self) -> float | None:
        """When the whole has taken longer than it may, in epoch seconds; None without a limit, or while paused."""
        started = from_rfc3339(self.roll.started)
        if started is None or not self.pace.deadline or self.held:
            return None
        upgrade = self.context.stored.get("upgrade") or {}
        resumed = self.context.now if upgrade.get("paused") else from_rfc3339(upgrade.get("resumed")) or 0.0
        return max(started, resumed) + self.pace.deadline

    def _late(self) -> Step | None:
        """Nothing more goes once the whole has taken longer than it may."""
        if self.late_at is None or self.context.now < self.late_at:
            return None
        message = f"Pods were not all replaced within {self.pace.deadline} s ({thresholds.PROGRESS})."
        return Step(message, held=True)

    def _unserved(self, phase: RollPhase = RollPhase.WORKERS) -> Step | None:
        """Why Serve is not known to be well, as seen after the newest pod was Ready; None if it is."""
        if not self._head_ready:
            return Step(f"The head pod is not Ready. {self._failure()}".strip(), phase)
        if self.config is None:
            return None  # nothing is served
        context, cluster = self.context, self.cluster
        stands = standing(cluster, self.config, context.now, context.config.stale_after_s)
        if stands.phase is not Phase.SERVING:
            moved = max(from_rfc3339(at) or 0.0 for at in (self.roll.since, cluster.entry.get("lastUpdateTime")))
            limit = moved + self.pace.threshold if stands.phase in _WENT_WRONG else None
            return Step(stands.message, phase, stop_at=limit)
        seen = cluster.observation
        newest = max((pod.ready_since or 0.0 for pod in self.pods), default=0.0) + WHOLE_SECOND_S
        if seen is None or seen.seen_at is None or seen.error is not None or seen.seen_at < newest:
            wait = "Waiting for a look at Serve that is newer than the newest pod."
            return Step(wait, phase, wake_at=context.now + LOOK_AGAIN_S)
        if short := self._short_of_replicas():
            return Step(short, phase)
        labelled = [pod for pod in serving_pods(cluster) if gets_requests(pod)]
        behind = {pod["metadata"]["uid"] for pod in labelled}
        target = context.target
        assert target is not None
        if not all_healthy_proxies_routed(cluster, target) or not behind <= endpoint_pods(context, cluster.name):
            return Step("Waiting for every healthy proxy to be behind the serve service.", phase)
        return None

    def _short_of_replicas(self) -> str:
        """Which application has fewer replicas on living pods than it wants; empty if none has."""
        seen, config = self.cluster.observation, self.config
        assert seen is not None
        assert config is not None
        living = {pod.ip for pod in self.pods if pod.ready}
        for name in config.parsed.app_names:
            for deployment in seen.applications[name].deployments.values():
                running = (replica for replica in deployment.replicas if replica.state == "RUNNING")
                placed = [replica for replica in running if not replica.node_ip or replica.node_ip in living]
                if len(placed) < (deployment.target_replicas or 0):
                    target = deployment.target_replicas
                    return f"Deployment {deployment.name} of {name} has {len(placed)} of {target} replicas."
        waiting = [seen.applications[n] for n in config.parsed.app_names if seen.applications[n].status != "RUNNING"]
        return "; ".join(describe(application) for application in waiting)

    def _needed(self, group: Group, chosen: Iterable[PodView]) -> Step | None:
        """Whether requests would fail without these pods, as far as can be told beforehand."""
        pods = tuple(chosen)
        going = {pod.uid for pod in pods}
        behind = endpoint_pods(self.context, self.cluster.name)
        instead = (
            "Use upgradeStrategy.type NewCluster, or Recreate, which interrupts."
            if group.view.is_head
            else "Set upgradeStrategy.inPlace.maxSurge to 1, or add a worker."
        )
        if behind and behind <= going:
            message = (
                f"{_listed(pods)} {_are(pods)} all that is behind the serve service: requests would fail. {instead}"
            )
            return Step(message, _phase(group), held=True)
        others = [pod for pod in self.pods if pod.is_worker and pod.ready and pod.uid not in going]
        if group.view.is_head or others or self._head_takes_replicas or not any(map(self._replicas, pods)):
            return None
        message = f"{_listed(pods)} {_are(pods)} all that replicas can run on: requests would fail. {instead}"
        return Step(message, _phase(group), held=True)

    @property
    def _head_ready(self) -> bool:
        return any(pod.ready for pod in self.head.living)

    @property
    def _head_takes_replicas(self) -> bool:
        return self.view.head.spec.ray_start_params.get("num-cpus") != "0"

    def _replicas(self, pod: PodView) -> list[str]:
        """Replicas on that pod."""
        seen = self.cluster.observation
        deployments = [d for app in seen.applications.values() for d in app.deployments.values()] if seen else []
        return [r.replica_id for d in deployments for r in d.replicas if pod.ip and r.node_ip == pod.ip]

    def _failure(self) -> str:
        return head_trouble(self.cluster) if self.cluster.manifest.get("status") else ""


_SETTLING: Final = frozenset({"PodScheduled", "Initialized"})


def moved_at(pod: PodView) -> float:
    """When a pod that is not Ready yet last made progress, in epoch seconds, as far as it tells.

    Starting again is none: neither of a container, nor of a pod in place of one that died young. The latter are
    counted back over the pauses that were made between them.
    """
    if pod.attempt:
        return pod.created_at - sum(pause_before(number) for number in range(2, pod.attempt + 1))
    statuses = [*(pod.status.get("initContainerStatuses") or ()), *(pod.status.get("containerStatuses") or ())]
    again = any(status.get("restartCount") for status in statuses)
    times = [
        condition.get("lastTransitionTime")
        for condition in pod.status.get("conditions") or ()
        if not again or condition.get("type") in _SETTLING
    ]
    for status in statuses:
        state = status.get("state") or {}
        if not status.get("restartCount"):
            times.append((state.get("running") or {}).get("startedAt"))
            times.append((state.get("terminated") or {}).get("finishedAt"))
    return max([pod.created_at, *(at for text in times if (at := from_rfc3339(text)) is not None)])


def _ended(pod: PodView) -> tuple[str, str]:
    """Why a pod that died did, in the words of its Ray container."""
    ended: Mapping[str, Any] = (pod.ray_status.get("state") or {}).get("terminated") or {}
    code = ended.get("exitCode")
    said = str(ended.get("message") or pod.status.get("message") or ("" if code is None else f"exit code {code}"))
    return str(ended.get("reason") or pod.status.get("reason") or pod.phase), said


def _phase(group: Group) -> RollPhase:
    return RollPhase.HEAD if group.view.is_head else RollPhase.WORKERS


def _listed(pods: Iterable[PodView]) -> str:
    found = [pod.name for pod in pods]
    return f"Pod{'s' if len(found) > 1 else ''} {', '.join(found)}"


def _are(pods: tuple[PodView, ...]) -> str:
    return "is" if len(pods) == 1 else "are"
