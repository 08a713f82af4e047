"""States of a RayService as the real operator leaves them: moments of the simulation's scenarios."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from rayservice_operator.cli.view import Objects
from rayservice_operator.core.objects import Manifest, metadata
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, condition, new, status
from tests.sim.world import World

LIMIT_S: Final = 900.0

Moment = Callable[[World], bool]


def _phase(*phases: str) -> Moment:
    return lambda world: (status(world).get("upgrade") or {}).get("phase") in phases and _second(world)


def _second(world: World) -> bool:
    """Whether it is about more than the first start."""
    return bool((status(world).get("upgrade") or {}).get("from"))


def _reason(type_: str, reason: str) -> Moment:
    def is_so(world: World) -> bool:
        found = status(world).get("conditions") or ()
        return any(c["type"] == type_ and c["reason"] == reason for c in found)

    return is_so


def _settled(world: World) -> bool:
    conditions = {c["type"]: c["status"] for c in status(world).get("conditions") or ()}
    return conditions.get("Ready") == "True" and "Reconciling" not in conditions


def _head_gone(world: World) -> bool:
    return condition(world, "Ready") == "False" and bool(status(world).get("activeServiceStatus"))


def _undone(world: World) -> bool:
    return bool(status(world).get("undone")) and _settled_but_stalled(world)


def _settled_but_stalled(world: World) -> bool:
    conditions = {c["type"]: c["status"] for c in status(world).get("conditions") or ()}
    return conditions.get("Ready") == "True" and conditions.get("Stalled") == "True"


MOMENTS: Final[Mapping[str, tuple[str, Moment]]] = {
    "ready": ("create", _settled),
    "starting": ("create", _reason("Reconciling", "DeployingApplications")),
    "upgrading": ("upgrade", _phase("DeployingApplications", "WaitingForEndpoints")),
    "promoted": ("upgrade", lambda world: _phase("Promoted")(world) and len(world.server.kind("RayCluster")) == 1),
    "paused": ("paused_then_promoted", _phase("Paused")),
    "aborted": ("aborted_by_hand", _phase("Aborted")),
    "in-steps": ("in_steps", _phase("MovingTraffic")),
    "in-place": ("in_place", _phase("ReplacingWorkers")),
    "roll-stopped": ("in_place_stuck", _phase("RollStopped")),
    "analysing": ("analysis_passed", _phase("Analyzing")),
    "no-room": ("upgrade_without_room", lambda world: bool((status(world).get("upgrade") or {}).get("capacity"))),
    "rolled-back": ("failed_update", _reason("Stalled", "RolledBack")),
    "invalid": ("invalid_then_fixed", _reason("Stalled", "ValidationFailed")),
    "head-gone": ("head_death", _head_gone),
    "suspended": ("suspend_resume", lambda world: condition(world, "Suspended") == "True" and not world.pods()),
    "stale": ("dashboard_hangs", lambda world: condition(world, "Ready") == "Unknown"),
    "undone": ("undone", _undone),
}
"""By name: a scenario, and the first moment in it at which this is so."""


@functools.cache
def _reached(name: str) -> tuple[Objects, float]:
    scenario, moment = MOMENTS[name]
    everything = new(*SCENARIOS[scenario])
    orderly = Orderly(everything)
    world = everything.world
    until = world.now + LIMIT_S
    while not moment(world):
        orderly.turn()
        assert world.now < until, f"{name} was never reached"
    server = world.server
    kinds = ("RayCluster", "Pod", "Event", "ControllerRevision")
    clusters, pods, events, revisions = (tuple(copy.deepcopy(server.kind(kind))) for kind in kinds)
    return Objects(copy.deepcopy(server.kind("RayService")[0]), clusters, pods, events, revisions), world.now


def reach(name: str) -> tuple[Objects, float]:
    """A copy of the objects at that moment, and the time."""
    objects, now = _reached(name)
    return copy.deepcopy(objects), now


def with_pods(objects: Objects, change: Callable[[Manifest], None], which: str) -> Objects:
    """``objects`` after ``change`` of the pods that have ``which`` in their name."""
    for pod in objects.pods:
        if which in str(metadata(pod)["name"]):
            change(pod)
    return objects


def waiting(why: str, message: str = "", **last: Any) -> Callable[[Manifest], None]:
    """A pod whose container waits for that reason; ``last``: how it ended before."""

    def change(pod: Manifest) -> None:
        ended = {"lastState": {"terminated": last}, "restartCount": 4} if last else {"restartCount": 0}
        state = {"waiting": {"reason": why, "message": message}}
        pod["status"] = {
            "phase": "Pending" if not last else "Running",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "ray", "ready": False, "state": state, **ended}],
        }

    return change


def unschedulable(message: str) -> Callable[[Manifest], None]:
    """A pod that no node has room for."""

    def change(pod: Manifest) -> None:
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
        pod["status"] = {"phase": "Pending", "conditions": conditions}
        (pod.get("spec") or {}).pop("nodeName", None)

    return change
