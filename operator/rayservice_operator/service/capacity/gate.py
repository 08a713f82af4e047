"""Asks for room before an upgrade begins, and now and then while its pods wait; tells what came of it.

Nothing is refused for want of room: a node autoscaler may add nodes, and what waits is no failure. An upgrade that
begins waits a moment for the answer, so that the warning comes before anything is built; then it goes on without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.decision import AskRoom, Level, Note
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, metadata
from rayservice_operator.core.room import PodsWanted, Room
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service.context import Context
from rayservice_operator.service.strategies.base import Plan
from rayservice_operator.service.strategies.needs import of_second_cluster

PATIENCE_S: Final = 3.0
"""How long the begin of an upgrade waits for the answer."""

REFRESH_S: Final = 60.0
"""While pods wait for a node it is looked again this often."""

REASON: Final = "InsufficientCapacity"


@dataclass(frozen=True, slots=True)
class Look:
    """What to do and to tell about room.

    ask: the question to put now. hold_until: an upgrade that begins waits for the answer until then. again_at: when
    to ask again. shown: ``status.upgrade.capacity``, empty for none. note: the warning, where it is news.
    """

    ask: AskRoom | None = None
    hold_until: float | None = None
    again_at: float | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    note: Note | None = None


NOTHING: Final = Look()


def look(context: Context, plan: Plan) -> Look:
    """For an upgrade that begins, or whose pods are coming up; nothing for everything else."""
    if not context.config.capacity_check or not plan.active:
        return NOTHING
    if plan.begins:
        return _before(context, plan)
    return _meanwhile(context, plan) if plan.pending or plan.roll else NOTHING


def _before(context: Context, plan: Plan) -> Look:
    assert plan.begins is not None
    if not plan.begins.pods:
        return NOTHING
    key = f"{plan.pending or plan.active}/{context.generation}"
    answer = context.snapshot.rooms.get(key)
    if answer is None:
        return Look(AskRoom(key, context.namespace, plan.begins.pods), hold_until=context.now + PATIENCE_S)
    if answer.at is None or answer.room is None:
        patient = context.now < answer.asked_at + PATIENCE_S
        return Look(hold_until=answer.asked_at + PATIENCE_S) if patient else NOTHING
    return _told(plan, answer.room, answer.at, {})


def _meanwhile(context: Context, plan: Plan) -> Look:
    """What was told stands until all pods have a node; those for which the scheduler has none are asked about again."""
    to = plan.pending or plan.active
    upgrade = context.stored.get("upgrade") or {}
    stored: Mapping[str, Any] = (upgrade.get("capacity") or {}) if upgrade.get("to") == to else {}
    view = context.live(to)
    pods = [pod for pod in (view.pods if view else ()) if not is_terminating(pod)]
    waiting = [pod for pod in pods if not (pod.get("spec") or {}).get("nodeName")]
    if not waiting:
        assert context.target is not None
        expected = of_second_cluster(context, context.target).count if plan.pending else 0
        complete = len(pods) >= expected
        return NOTHING if complete else Look(shown=stored)
    if not any(_unschedulable(pod) for pod in waiting):
        return Look(shown=stored)
    answer = context.snapshot.rooms.get(to)
    ask = None
    if answer is None or context.now >= answer.asked_at + REFRESH_S:
        ask = AskRoom(to, context.namespace, _by_group(waiting), since=_made(pods))
    again_at = (context.now if ask or answer is None else answer.asked_at) + REFRESH_S
    if answer is None or answer.at is None or answer.room is None:
        return Look(ask, again_at=again_at, shown=stored)
    told = _told(plan, answer.room, answer.at, stored)
    return Look(ask, again_at=again_at, shown=told.shown, note=told.note)


def _told(plan: Plan, room: Room, at: float, stored: Mapping[str, Any]) -> Look:
    said: dict[str, Any] = {
        "pods": room.pods,
        **({} if room.fit is None else {"fit": room.fit}),
        "message": room.message,
    }
    same = {key: value for key, value in stored.items() if key != "time"} == said
    shown = stored if same else {**said, "time": to_rfc3339(at)}
    was_short = "fit" in stored and stored["fit"] < stored["pods"]
    note = None
    if room.short and not was_short:
        note = Note(REASON, f"{room.message} {plan.active} serves meanwhile.", Level.WARNING)
    return Look(shown=shown, note=note)


def _made(pods: Iterable[Manifest]) -> float:
    """When the newest of them was created: what had a node by then is known to a look taken after it."""
    times = (from_rfc3339(metadata(pod).get("creationTimestamp")) for pod in pods)
    return max((at + 1 for at in times if at is not None), default=0.0)  # stored in whole seconds


def _unschedulable(pod: Manifest) -> bool:
    conditions: Iterable[Mapping[str, Any]] = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "PodScheduled" and c.get("status") == "False" for c in conditions)


def _by_group(pods: Iterable[Manifest]) -> tuple[PodsWanted, ...]:
    """Pods that exist and have no node yet; the quota has admitted them."""
    groups: dict[str, list[Manifest]] = {}
    for pod in pods:
        groups.setdefault(labels_of(pod).get(names.NODE_GROUP, ""), []).append(pod)
    return tuple(PodsWanted(name, mates[0], 0, len(mates)) for name, mates in sorted(groups.items()))
