"""Replacing the pods of a running RayCluster by pods of an edited template: what its annotation asks for.

The RayService decides which pods go and when (``service.roll``), because only it knows what Serve says. It writes that
into one annotation of the RayCluster; this cluster's decision deletes the pods that are named there and makes the new
ones. Without the annotation an edited template changes no pod that runs (KubeRay's ``upgradeStrategy: None``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.view import GroupView
from rayservice_operator.core.objects import Manifest, annotations_of

WHY: Final = "its template has changed"


@dataclass(frozen=True, slots=True)
class Roll:
    """The annotation ``rayservice.ray.io/roll``: there from the first change of the spec until the last pod is new.

    to: hash of the cluster spec that the pods shall have. started: when that was asked for, RFC 3339.
    groups: whose pods are replaced; ``headgroup`` is the head. pods: names of those that go now; each holds its place
    until it is gone. unready: of these, those that were named because they were not Ready, which costs nobody anything.
    since: when they were named, RFC 3339. surge: pods that a group may have beyond its number.
    """

    to: str
    started: str
    groups: frozenset[str]
    pods: frozenset[str] = frozenset()
    unready: frozenset[str] = frozenset()
    since: str = ""
    surge: Mapping[str, int] = field(default_factory=dict)

    def takes(self, pod: PodView) -> bool:
        """Whether the pod goes. One that has become Ready since it was named for not being so stays: others may be less
        well now, and only the RayService can tell whether it can be done without.
        """
        if pod.name not in self.pods:
            return False
        return pod.terminating or not pod.ready or pod.name not in self.unready

    def dump(self) -> str:
        """The text of the annotation, the same for the same content."""
        told: dict[str, Any] = {"to": self.to, "started": self.started, "groups": sorted(self.groups)}
        if self.pods:
            told["pods"] = sorted(self.pods)
        if self.unready:
            told["unready"] = sorted(self.unready)
        if self.since:
            told["since"] = self.since
        if surge := {group: number for group, number in self.surge.items() if number}:
            told["surge"] = surge
        return json.dumps(told, sort_keys=True, separators=(",", ":"))


def roll_of(cluster: Manifest) -> Roll | None:
    """What the annotation of a RayCluster says; None where there is none.

    One that somebody has made unreadable asks for nothing; the RayService writes it anew.
    """
    text = annotations_of(cluster).get(names.ROLL)
    if text is None:
        return None
    try:
        told = json.loads(text)
        return Roll(
            to=str(told["to"]),
            started=str(told["started"]),
            groups=frozenset(map(str, told["groups"])),
            pods=frozenset(map(str, told.get("pods") or ())),
            unready=frozenset(map(str, told.get("unready") or ())),
            since=str(told.get("since") or ""),
            surge={str(group): int(number) for group, number in (told.get("surge") or {}).items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return Roll(to="", started="", groups=frozenset())


def outdated(pod: PodView, group: GroupView) -> bool:
    """Whether the pod was made from another template than the group has now."""
    return pod.annotations.get(names.TEMPLATE_HASH) != group.template_hash
