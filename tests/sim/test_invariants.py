"""The simulation notices: an operator with a mistake built in breaks an invariant."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from rayservice_operator.core.decision import Decision, Delete, JsonPatch, MergePatch
from rayservice_operator.core.objects import name_of, ref
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.sim import process
from tests.sim.invariants import BrokenInvariantError
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, new

Mistake = Callable[[ServiceSnapshot, Decision], Decision]


def chatty(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Writes at every pass."""
    patch = {"metadata": {"annotations": {"seen": snapshot.service["metadata"]["resourceVersion"]}}}
    return dataclasses.replace(decision, actions=(MergePatch(ref(snapshot.service), patch), *decision.actions))


def hasty(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Deletes whatever has no role at once."""
    status = decision.status or {}
    roles = {(status.get(f"{role}ServiceStatus") or {}).get("rayClusterName") for role in ("active", "pending")}
    useless = [c for c in snapshot.clusters if c["metadata"]["name"] not in roles]
    return dataclasses.replace(decision, actions=(*decision.actions, *(Delete(ref(c)) for c in useless)))


def credulous(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Says Ready as soon as there is a cluster."""
    status = decision.status
    if status is None or not snapshot.clusters:
        return decision
    conditions = [c | {"status": "True"} if c["type"] == "Ready" else c for c in status["conditions"]]
    return dataclasses.replace(decision, status={**status, "conditions": conditions})


def forgetful(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Never writes which generation it has seen."""
    status = decision.status
    if status is None:
        return decision
    return dataclasses.replace(decision, status={k: v for k, v in status.items() if k != "observedGeneration"})


def impatient(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Replaces all pods at a time."""
    everyone = [name_of(pod) for pods in snapshot.pods.values() for pod in pods]
    return _rolled_otherwise(decision, lambda roll: {**roll, "pods": everyone} if roll.get("pods") else roll)


def lavish(snapshot: ServiceSnapshot, decision: Decision) -> Decision:
    """Has a pod more than asked for."""
    return _rolled_otherwise(decision, lambda roll: {**roll, "surge": {"gpu": 1}} if roll.get("pods") else roll)


def _rolled_otherwise(decision: Decision, change: Callable[[Any], Any]) -> Decision:
    def of(operation: dict[str, Any]) -> dict[str, Any]:
        if not operation["path"].endswith("~1roll") or "value" not in operation:
            return operation
        return {**operation, "value": json.dumps(change(json.loads(operation["value"])))}

    actions = (
        JsonPatch(action.ref, tuple(of(operation) for operation in action.operations))
        if isinstance(action, JsonPatch)
        else action
        for action in decision.actions
    )
    return dataclasses.replace(decision, actions=tuple(actions))


@pytest.mark.parametrize(
    ("mistake", "told", "scenario"),
    [
        (chatty, "writes at once", "upgrade"),
        (hasty, "while it was active", "upgrade"),
        (credulous, "Ready=True without endpoints", "upgrade"),
        (forgetful, "not settled", "upgrade"),
        (impatient, "is replaced while only", "in_place"),
        (lavish, "beyond its number, unasked", "in_place"),
    ],
)
def test_mistake_is_noticed(mistake: Mistake, told: str, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right: Any = process.decide_service
    monkeypatch.setattr(process, "decide_service", lambda snapshot, now: mistake(snapshot, right(snapshot, now)))
    with pytest.raises(BrokenInvariantError, match=told):
        Orderly(new(*SCENARIOS[scenario])).finish()
