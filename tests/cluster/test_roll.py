"""Pods that the annotation of a RayCluster names are replaced; each keeps its place until it is gone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster.roll import Roll, roll_of
from rayservice_operator.core.decision import Create, Decision, Delete
from rayservice_operator.core.objects import Manifest, metadata, name_of
from tests.cluster.world import World, group, provisioned, raycluster, template

REDIS = {"redisAddress": "redis:6379"}
NEW = "ray:new"


def deleted(decision: Decision) -> list[str]:
    return [action.ref.name for action in decision.actions if isinstance(action, Delete)]


def created(decision: Decision) -> int:
    return sum(isinstance(action, Create) and action.obj["kind"] == "Pod" for action in decision.actions)


def edited(replicas: int = 2, *, head: bool = False, **spec: Any) -> World:
    """A cluster that runs, and whose template of the workers (and of the head) has been edited since."""
    world = provisioned(raycluster(group(replicas=replicas), **spec))
    new = template()
    new["spec"]["containers"][0]["image"] = NEW
    worker = copy.deepcopy(world.cluster["spec"]["workerGroupSpecs"][0]) | {"template": new}
    changes: Manifest = {"workerGroupSpecs": [worker]}
    if head:
        changes["headGroupSpec"] = {"rayStartParams": {}, "template": new}
    world.edit(**changes)
    return world


def ask(world: World, *pods: str, surge: int = 0, groups: tuple[str, ...] = ("small", names.HEAD_GROUP),
        unready: tuple[str, ...] = ()) -> None:  # fmt: skip
    """The RayService writes which pods go."""
    name = world.cluster["spec"]["workerGroupSpecs"][0]["groupName"]
    rolled = Roll("hash", "", frozenset({*groups, name}), frozenset(pods), frozenset(unready), surge={name: surge})
    world.cluster["metadata"].setdefault("annotations", {})[names.ROLL] = rolled.dump()


def workers(world: World) -> list[str]:
    return sorted(name_of(pod) for pod in world.pods.values() if pod is not world.head)


def image(world: World, name: str) -> str:
    return str(world.pods[name]["spec"]["containers"][0]["image"])


def test_what_the_annotation_says_is_read_as_it_was_written() -> None:
    rolled = Roll("h", "t", frozenset({"a", "b"}), frozenset({"p"}), frozenset({"p"}), "s", {"a": 1})
    assert roll_of({"metadata": {"annotations": {names.ROLL: rolled.dump()}}}) == rolled
    assert roll_of({"metadata": {}}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"to": 1, "started": "", "groups": 5}', '"x"'])
def test_an_unreadable_annotation_asks_for_nothing(text: str) -> None:
    assert roll_of({"metadata": {"annotations": {names.ROLL: text}}}) == Roll("", "", frozenset())


def test_an_edited_template_alone_replaces_nothing() -> None:
    world = edited()
    assert not deleted(world.step())
    ask(world)
    world.settle()
    assert len(world.pods) == 3
    assert world.condition("TemplateChangeHeldBack") is None


def test_a_named_pod_goes_and_the_next_comes_when_it_is_gone() -> None:
    world = edited()
    old = workers(world)
    ask(world, old[0])
    asking = world.step()
    assert not deleted(asking), "the API server is asked about the new pod first"
    assert deleted(world.step()) == [old[0]]
    world.settle()
    assert workers(world) == old, "its place is kept while it drains"
    assert "because its template has changed" in world.notes[-1].message
    del world.pods[old[0]]
    assert created(world.step()) == 1
    (new,) = set(workers(world)) - set(old)
    assert image(world, new) == NEW
    world.run_pods()
    world.settle()
    assert len(workers(world)) == 2
    assert image(world, old[1]) != NEW


def test_one_named_for_not_being_ready_stays_when_it_is() -> None:
    """History 3162: by then it may be the only one."""
    world = edited()
    old = workers(world)
    ask(world, old[0], unready=(old[0],))
    world.settle()
    assert workers(world) == old
    assert not any(metadata(pod).get("deletionTimestamp") for pod in world.pods.values())
    world.pods[old[0]]["status"]["conditions"] = []
    world.pods[old[0]]["metadata"]["resourceVersion"] = "7"
    assert not deleted(world.step()), "the API server is asked about the new pod first"
    (deletion,) = [action for action in world.step().actions if isinstance(action, Delete)]
    assert (deletion.ref.name, deletion.resource_version) == (old[0], "7"), "what is seen may be old"


def test_its_place_is_not_kept_for_ever() -> None:
    world = edited()
    old = workers(world)
    ask(world, old[0])
    world.settle()
    decision = world.decide()
    assert decision.wake_at == world.now + 60, "the end of its grace period, and 30 s"
    world.now += 61
    world.settle()
    assert len(workers(world)) == 3


def test_a_template_that_is_refused_costs_no_pod() -> None:
    world = edited()
    world.refusals["small"] = "spec.containers[0].imagee: unknown field"
    ask(world, workers(world)[0])
    world.settle()
    assert len(workers(world)) == 2
    assert not [pod for pod in world.pods.values() if metadata(pod).get("deletionTimestamp")]
    assert "imagee" in world.condition("Stalled")["message"]  # type: ignore[index]


def test_a_quota_that_is_used_up_is_no_refusal_of_a_replacement() -> None:
    world = edited()
    world.refusals["small"] = 'pods "x" is forbidden: exceeded quota: gpus'
    old = workers(world)
    ask(world, old[0])
    world.step()
    assert deleted(world.step()) == [old[0]]
    assert world.condition("Stalled") is None


def test_a_pod_of_the_present_template_is_kept_whatever_is_said() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    ask(world, *workers(world))
    world.settle()
    assert not [pod for pod in world.pods.values() if metadata(pod).get("deletionTimestamp")]


def test_surge() -> None:
    world = edited()
    old = workers(world)
    ask(world, surge=1)
    world.settle()
    assert len(workers(world)) == 3
    world.run_pods()
    ask(world, old[0], surge=1)
    world.settle()
    assert len(workers(world)) == 3, "the one that drains counts"
    del world.pods[old[0]]
    world.settle()
    assert len(workers(world)) == 3
    world.run_pods()
    ask(world, old[1])
    world.settle()
    del world.pods[old[1]]
    world.settle()
    assert len(workers(world)) == 2
    assert {image(world, name) for name in workers(world)} == {NEW}


def test_surge_taken_back() -> None:
    world = edited()
    old = workers(world)
    ask(world, surge=1)
    world.settle()
    ask(world)
    world.settle()
    left = [pod for pod in world.pods.values() if not metadata(pod).get("deletionTimestamp")]
    assert {name_of(pod) for pod in left} == {name_of(world.head), *old}, "the one that is not running goes"


def test_the_group_shrinks_while_one_goes() -> None:
    world = edited(replicas=3)
    old = workers(world)
    ask(world, old[0])
    world.settle()
    group_ = world.cluster["spec"]["workerGroupSpecs"][0] | {"replicas": 2}
    world.edit(workerGroupSpecs=[group_])
    world.settle()
    world.run_pods()
    world.settle()
    assert workers(world) == old[1:]


def test_the_head_goes_where_its_state_survives() -> None:
    world = edited(head=True, gcsFaultToleranceOptions=REDIS)
    old, before = world.head, workers(world)
    ask(world, name_of(old))
    world.settle()
    assert metadata(old).get("deletionTimestamp")
    world.run_pods()
    world.settle()
    assert world.head["spec"]["containers"][0]["image"] == NEW
    world.run_pods()
    world.settle()
    assert workers(world) == before


def test_the_head_stays_where_it_does_not() -> None:
    world = edited(head=True)
    ask(world, name_of(world.head))
    world.settle()
    assert not metadata(world.head).get("deletionTimestamp")
