"""It is looked for room before an upgrade is built, and again while its pods wait; nothing is refused for it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import AskRoom, Decision
from rayservice_operator.core.objects import Manifest, labels_of
from rayservice_operator.core.room import Room, RoomAnswer
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.capacity.gate import PATIENCE_S, REFRESH_S
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, after, cluster_spec, config_hash, edited, pod, raycluster, rayservice, serving
from tests.service.test_decide import created, upgrading
from tests.service.test_in_place import in_place, workers_spec

CONFIG = OperatorConfig(version="test")
SHORT = Room(3, 2, "2 of 3 pods fit now: nodes that match group small lack 1 cpu.")
ENOUGH = Room(3, 3, "3 of 3 pods fit now.")


def planned() -> ServiceSnapshot:
    return dataclasses.replace(upgrading("planned"), config=CONFIG)


def asked(decision: Decision) -> list[AskRoom]:
    return [action for action in decision.actions if isinstance(action, AskRoom)]


def answered(snapshot: ServiceSnapshot, question: AskRoom, room: Room | None, age: float = 0.2) -> ServiceSnapshot:
    answer = RoomAnswer(NOW - age, None if room is None else NOW - age, room)
    return dataclasses.replace(snapshot, rooms={question.key: answer})


def upgrade_of(decision: Decision) -> Manifest:
    assert decision.status is not None
    upgrade: Manifest = decision.status.get("upgrade", {})
    return upgrade


def reasons(decision: Decision) -> list[str]:
    return [note.reason for note in decision.notes]


def test_asked_before_anything_is_stored_or_built() -> None:
    first = decide(planned(), NOW)
    (question,) = asked(first)
    assert first.status is None
    assert first.notes == ()
    assert first.observe is None, "the serving cluster is watched as before"
    assert first.wake_at == NOW + PATIENCE_S
    assert [(want.group, want.to_create, want.to_place) for want in question.wanted] == [
        ("headgroup", 1, 1),
        ("small", 2, 2),
    ]
    assert question.namespace == "default"


def test_the_answer_is_waited_for_a_moment_and_then_it_goes_on_without() -> None:
    (question,) = asked(decide(planned(), NOW))
    waiting = decide(answered(planned(), question, None), NOW)
    assert (waiting.actions, waiting.status, waiting.wake_at) == ((), None, NOW - 0.2 + PATIENCE_S)
    late = decide(answered(planned(), question, None, age=PATIENCE_S), NOW)
    assert upgrade_of(late)["to"]
    assert "capacity" not in upgrade_of(late)
    assert asked(late) == []


@pytest.mark.parametrize(
    ("room", "warned"), [(SHORT, True), (ENOUGH, False), (Room(3, None, "not known"), False), (Room(3, 0, "0"), True)]
)
def test_told_before_the_cluster_is_built(room: Room, warned: bool) -> None:
    (question,) = asked(decide(planned(), NOW))
    snapshot = answered(planned(), question, room)
    decision = decide(snapshot, NOW)
    capacity = upgrade_of(decision)["capacity"]
    assert capacity["message"] == room.message
    assert (capacity["pods"], capacity.get("fit")) == (3, room.fit)
    assert capacity["time"] == to_rfc3339(NOW - 0.2)
    assert reasons(decision)[-1 - warned :] == ["UpgradeStarted", "InsufficientCapacity"][: 1 + warned]
    if warned:
        assert decision.notes[-1].message == f"{room.message} demo-one serves meanwhile."
    assert created(decision, "RayCluster") == []
    built = decide(after(snapshot, decision, rooms={}), NOW)
    assert created(built, "RayCluster"), "a warning is no refusal"
    assert upgrade_of(built)["capacity"] == capacity
    assert "InsufficientCapacity" not in reasons(built)


def test_switched_off() -> None:
    off = dataclasses.replace(CONFIG, capacity_check=False)
    decision = decide(dataclasses.replace(planned(), config=off), NOW)
    assert asked(decision) == []
    assert upgrade_of(decision)["needs"]


def test_a_first_cluster_and_one_taken_back_need_no_question() -> None:
    assert asked(decide(ServiceSnapshot(rayservice(), CONFIG), NOW)) == []
    kept = {names.DELETE_AFTER: to_rfc3339(NOW + 60)}
    former = raycluster("demo-two", cluster_spec("ray:2"), annotations=kept)
    snapshot = planned()
    decision = decide(dataclasses.replace(snapshot, clusters=(*snapshot.clusters, former)), NOW)
    assert asked(decision) == []
    assert "Readopted" in reasons(decision)
    assert upgrade_of(decision)["needs"] == "no pods beside those that run"


def building(*stages: str, capacity: Manifest | None = None) -> ServiceSnapshot:
    """An upgrade whose new cluster has a head and workers; each is placed, waiting or new (not looked at yet)."""
    snapshot = planned()
    new = raycluster("demo-two", cluster_spec("ray:2"))
    service = copy.deepcopy(snapshot.service)
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two", "appliedConfigHash": config_hash()}
    service["status"]["upgrade"] = {
        "to": "demo-two",
        "started": to_rfc3339(NOW - 60),
        **({"capacity": capacity} if capacity else {}),
    }
    pods = tuple(_pod(new, number, stage) for number, stage in enumerate(stages))
    return dataclasses.replace(
        snapshot,
        service=service,
        clusters=(*snapshot.clusters, new),
        pods={**snapshot.pods, "demo-two": pods},
    )


def _pod(cluster: Manifest, number: int, stage: str) -> Manifest:
    made = pod(cluster, "head" if number == 0 else str(number), "", serve=False, ready=False)
    made["metadata"]["labels"] |= {"ray.io/group": "headgroup" if number == 0 else "small"}
    made["status"] = {"phase": "Pending"}
    if stage == "placed":
        made["spec"]["nodeName"] = "a"
    if stage == "waiting":
        made["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    return made


TOLD: Manifest = {"pods": 3, "fit": 2, "message": SHORT.message, "time": "2027-01-15T07:00:00Z"}


@pytest.mark.parametrize(
    ("stages", "shown", "question"),
    [
        ((), TOLD, False),
        (("new",), TOLD, False),
        (("placed",), TOLD, False),  # the workers are not made yet
        (("placed", "placed", "placed"), None, False),
        (("placed", "placed", "waiting"), TOLD, True),
        (("placed", "placed", "new"), TOLD, False),
    ],
)
def test_what_was_told_stands_until_all_have_a_node(stages: tuple[str, ...], shown: Any, question: bool) -> None:
    decision = decide(building(*stages, capacity=TOLD), NOW)
    assert upgrade_of(decision).get("capacity") == shown
    assert bool(asked(decision)) is question
    if question:
        (ask,) = asked(decision)
        assert [(want.group, want.to_create, want.to_place) for want in ask.wanted] == [("small", 0, 1)]
        assert labels_of(ask.wanted[0].pod)["ray.io/group"] == "small"
        assert decision.wake_at is not None
        assert decision.wake_at <= NOW + REFRESH_S


def test_asked_again_now_and_then() -> None:
    snapshot = building("placed", "placed", "waiting", capacity=TOLD)
    (question,) = asked(decide(snapshot, NOW))
    one = Room(1, 0, "0 of 1 pod fits now: nodes that match group small lack 1 cpu.")
    fresh = decide(answered(snapshot, question, one), NOW)
    assert asked(fresh) == []
    assert upgrade_of(fresh)["capacity"]["pods"] == 1
    assert fresh.wake_at is not None
    assert fresh.wake_at <= NOW - 0.2 + REFRESH_S
    old = decide(answered(snapshot, question, one, age=REFRESH_S), NOW)
    assert len(asked(old)) == 1
    assert upgrade_of(old)["capacity"]["pods"] == 1, "the former answer stands until there is another"


def test_warned_once_and_again_only_after_there_was_room() -> None:
    short = Room(1, 0, "0 of 1 pod fits now.")
    for told, warned in ((TOLD, False), ({**TOLD, "fit": 3}, True), (None, True)):
        snapshot = building("placed", "placed", "waiting", capacity=told)
        (question,) = asked(decide(snapshot, NOW))
        assert ("InsufficientCapacity" in reasons(decide(answered(snapshot, question, short), NOW))) is warned


def test_the_same_news_is_no_write() -> None:
    one = {"pods": 1, "fit": 0, "message": "0 of 1 pod fits now.", "time": "2027-01-15T07:00:00Z"}
    snapshot = building("placed", "placed", "waiting", capacity=one)
    (question,) = asked(decide(snapshot, NOW))
    decision = decide(answered(snapshot, question, Room(1, 0, "0 of 1 pod fits now.")), NOW)
    assert upgrade_of(decision)["capacity"] == one


def test_what_an_upgrade_waited_for_goes_with_it() -> None:
    """Promoted: neither deadline nor needs nor capacity are told of it any more."""
    snapshot = serving(spec=None)
    service = copy.deepcopy(snapshot.service)
    past = {"to": "demo-one", "phase": "Serving", "deadline": to_rfc3339(NOW), "needs": "3 pods", "capacity": TOLD}
    service["status"]["upgrade"] = {**past, "started": to_rfc3339(NOW - 60)}
    decision = decide(dataclasses.replace(snapshot, service=service), NOW)
    assert upgrade_of(decision) == {
        "to": "demo-one",
        "phase": "Promoted",
        "started": to_rfc3339(NOW - 60),
        "message": "RayCluster demo-one is active.",
    }


def test_a_third_spec_asks_for_itself() -> None:
    (question,) = asked(decide(planned(), NOW))
    snapshot = answered(planned(), question, ENOUGH)
    third = edited(snapshot, rayClusterConfig=cluster_spec("ray:3"))
    (other,) = asked(decide(third, NOW))
    assert other.key != question.key


def test_in_place_asks_for_the_surge_and_for_nothing_without_one() -> None:
    for surge, questions in ((0, 0), (1, 1)):
        rolled = in_place(upgradeStrategy={"type": "InPlace", "inPlace": {"maxSurge": surge, "maxUnavailable": 1}})
        rolled.edit(rayClusterConfig=workers_spec("ray:2"))
        snapshot = dataclasses.replace(rolled.snapshot, config=CONFIG)
        first = decide(snapshot, NOW)
        assert len(asked(first)) == questions
        if not questions:
            assert upgrade_of(first)["phase"] == "Announced"
            continue
        (question,) = asked(first)
        assert [(want.group, want.to_place) for want in question.wanted] == [("small", 1)]
        told = decide(answered(snapshot, question, Room(1, 0, "0 of 1 pod fits now.")), NOW)
        assert upgrade_of(told)["phase"] == "Announced"
        assert upgrade_of(told)["capacity"]["fit"] == 0
        assert reasons(told)[-1] == "InsufficientCapacity"
        assert "UpgradeStarted" in reasons(told)
