"""Which worker pods of one group to make and which to delete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.roll import WHY


@dataclass(frozen=True, slots=True)
class Replacement:
    """A pod to make. ``instead_of`` is the dead pod whose place it takes; that one is deleted once this exists."""

    attempt: int = 0
    instead_of: PodView | None = None


SESSION_OVER_GRACE_S: Final = 5
"""A worker without its head would try to drain for 30 s with nobody to ask, holding what its successor needs."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A pod to delete, and why (ends a sentence that begins «deleted, because»).

    ``grace_seconds``: None leaves the pod's own. ``as_seen``: only while nothing about the pod is news.
    """

    pod: PodView
    why: str
    grace_seconds: int | None = None
    as_seen: bool = False


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """``replace``: pods to delete once the API server is known to take their successors, which come when they are gone.
    ``wake_at``: when a dead pod that now holds its place may be replaced.
    """

    create: tuple[Replacement, ...] = ()
    delete: tuple[Removal, ...] = ()
    replace: tuple[Removal, ...] = ()
    wake_at: float | None = None


def plan_group(
    pods: Collection[PodView],
    *,
    desired: int,
    named: Collection[str],
    stale: Collection[str],
    autoscaling: bool,
    load: Mapping[str, int] | None,
    now: float,
    outgoing: Collection[str] = (),
    surge: int = 0,
) -> GroupPlan:
    """Compare ``desired`` with the group's pods.

    named: pods that ``workersToDelete`` asks to delete; exactly these, as the autoscaler counts on it.
    stale: names of pods whose session is over; replaced at once.
    autoscaling: then a surplus stays, because only the autoscaler knows which worker is idle.
    load: work per pod address; unknown or absent counts as none.
    outgoing: names of pods that are rolled; each holds its place, and what it occupies, until it is gone.
    surge: pods to have beyond ``desired`` while the group is rolled.
    """
    leaving = [until for pod in pods if pod.name in outgoing and pod.terminating and (until := pod.may_run_until(now))]
    present = sorted((pod for pod in pods if not pod.terminating), key=lambda pod: pod.name)
    removals = [Removal(pod, "workersToDelete names it") for pod in present if pod.name in named]
    present = [pod for pod in present if pod.name not in named]

    removals += [Removal(pod, "its node is lost") for pod in present if pod.lost]
    living = [pod for pod in present if pod.living]
    removals += [Removal(pod, "its Ray session is over", SESSION_OVER_GRACE_S) for pod in living if pod.name in stale]
    living = [pod for pod in living if pod.name not in stale]
    # Whoever named one that is not Ready may have counted on that, and what is seen here may be old.
    replaced = [Removal(pod, WHY, as_seen=not pod.ready) for pod in living if pod.name in outgoing]
    living = [pod for pod in living if pod.name not in outgoing]

    desired += surge
    dead = sorted((pod for pod in present if pod.dead), key=lambda pod: (pod.replace_at, pod.name))
    wanted = max(0, desired - len(living) - len(replaced) - len(leaving))
    useless = dead[wanted:]
    removals += [Removal(pod, "it ended") for pod in useless]
    dead = dead[:wanted]
    due = [pod for pod in dead if pod.replace_at <= now]
    waiting = [pod for pod in dead if pod.replace_at > now]

    creations = [Replacement(pod.next_attempt, pod) for pod in due]
    creations += [Replacement()] * (wanted - len(dead))
    if not autoscaling:
        surplus = max(0, len(living) - desired)
        removals += [Removal(pod, "the group shrinks") for pod in _least_needed(living, load or {})[:surplus]]
    return GroupPlan(
        create=tuple(creations),
        delete=tuple(removals),
        replace=tuple(replaced),
        wake_at=min((*(pod.replace_at for pod in waiting), *leaving), default=None),
    )


def _least_needed(pods: Iterable[PodView], load: Mapping[str, int]) -> list[PodView]:
    """Not running first, then not ready, then least work, then youngest."""
    return sorted(
        pods,
        key=lambda pod: (pod.phase == "Running", pod.ready, load.get(pod.ip, 0), -pod.created_at, pod.name),
    )
