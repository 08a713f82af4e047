"""What must hold while pods are replaced in place: one away at a time, none beyond the number, nobody's surprise."""

from __future__ import annotations

from dataclasses import dataclass, field

from rayservice_operator.api import names
from rayservice_operator.cluster.roll import Roll, roll_of
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, name_of, uid_of
from tests.sim.apiserver import Logged
from tests.sim.world import World, ready

SETTLED_S = 60.0
"""Simulated seconds after which a pod that was lost, or a change of numbers, is no excuse any more."""


@dataclass
class Rolls:
    """Checks the rollouts of one world.

    unsettled: RayClusters that lost a pod or were scaled, not by a rollout, and when. surged: the most that a group of
    a RayCluster was allowed beyond its number; asked_for: the most that any user has asked for. exact: whether every
    answer of the API server arrives; pods may be made twice where one does not.
    """

    world: World
    unsettled: dict[str, float] = field(default_factory=dict)
    surged: dict[str, int] = field(default_factory=dict)
    asked_for: int = 0
    exact: bool = True

    def on_change(self, change: Logged, *, excused: bool) -> str:
        """What is broken by a change, empty if nothing is. ``excused``: a fault strikes just now."""
        match change.newest["kind"]:
            case "RayService":
                strategy = change.newest["spec"].get("upgradeStrategy") or {}
                # What is decided before an edit may be written after it.
                self.asked_for = max(self.asked_for, (strategy.get("inPlace") or {}).get("maxSurge") or 0)
            case "RayCluster":
                return self._cluster(change)
            case "Pod":
                return self._pod(change, excused=excused)
        return ""

    def _cluster(self, change: Logged) -> str:
        name, roll = name_of(change.newest), roll_of(change.newest)
        most = max((roll.surge if roll else {}).values(), default=0)
        self.surged[name] = max(self.surged.get(name, 0), most)
        if change.old is not None and _numbers(change.old) != _numbers(change.newest):
            self.unsettled[name] = self.world.now
        return f"{name} may have {most} pod(s) beyond its number, unasked" if most > self.asked_for else ""

    def _pod(self, change: Logged, *, excused: bool) -> str:
        pod = change.newest
        name = labels_of(pod).get(names.CLUSTER, "")
        cluster = next((c for c in self.world.server.kind("RayCluster") if name_of(c) == name), None)
        roll = roll_of(cluster) if cluster is not None else None
        if cluster is None or roll is None or labels_of(pod).get(names.NODE_TYPE) != names.WORKER:
            return ""
        ours = change.by == names.FIELD_MANAGER and name_of(pod) in roll.pods
        lost = change.verb == "delete" and not ours and not _going(change)
        ended = (pod.get("status") or {}).get("phase") == "Failed"
        if lost or ended or excused or not self.exact:
            self.unsettled[name] = self.world.now
        if self.world.now - self.unsettled.get(name, -SETTLED_S) < SETTLED_S or is_terminating(cluster):
            return ""
        if change.verb == "delete" and change.old is not None and ready(change.old) and not _going(change):
            return self._spared(cluster, pod)
        return self._room_for(cluster, pod, roll) if change.old is None else ""

    def _mates(self, pod: Manifest) -> list[Manifest]:
        group = labels_of(pod).get(names.NODE_GROUP)
        pods = self.world.pods(labels_of(pod).get(names.CLUSTER))
        return [p for p in pods if labels_of(p).get(names.NODE_GROUP) == group and self.world.may_run(p)]

    def _spared(self, cluster: Manifest, pod: Manifest) -> str:
        wanted = _numbers(cluster).get(labels_of(pod).get(names.NODE_GROUP, ""), 0)
        others = (p for p in self._mates(pod) if uid_of(p) != uid_of(pod))
        left = [p for p in others if ready(p) and not is_terminating(p)]
        if len(left) >= wanted - 1:
            return ""
        return f"{name_of(pod)} is replaced while only {len(left)} others of {wanted} are ready"

    def _room_for(self, cluster: Manifest, pod: Manifest, roll: Roll) -> str:
        wanted = _numbers(cluster).get(labels_of(pod).get(names.NODE_GROUP, ""), 0)
        there = [p for p in self._mates(pod) if not is_terminating(p) or name_of(p) in roll.pods]
        allowed = wanted + self.surged.get(name_of(cluster), 0)
        return (
            f"{len(there)} pods while {name_of(cluster)} is rolled, {allowed} at most" if len(there) > allowed else ""
        )


def _going(change: Logged) -> bool:
    """Whether the pod was on its way before this change."""
    return change.old is not None and is_terminating(change.old)


def _numbers(cluster: Manifest) -> dict[str, int]:
    """Wanted pods of each worker group."""
    return {group["groupName"]: group["replicas"] for group in cluster["spec"].get("workerGroupSpecs") or ()}
