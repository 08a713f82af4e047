"""Scaling of one group: never more than needed, the named ones exactly, the least needed first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.scaling import GroupPlan, plan_group
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import to_rfc3339
from tests.cluster.world import CALM, START

NOW = START + 10_000


def pod(name: str, state: str = "ready", age: float = 5000, attempt: int = 0) -> PodView:
    """A worker in one of: ready, unready, pending, dead, lost, terminating."""
    at = to_rfc3339(NOW - age)
    meta: Manifest = {"name": name, "uid": f"u-{name}", "creationTimestamp": at, "labels": {}, "annotations": {}}
    if attempt:
        meta["annotations"]["rayservice.ray.io/attempt"] = str(attempt)
    if state == "terminating":
        meta["deletionTimestamp"] = at
    phase = {"pending": "Pending", "dead": "Failed", "lost": "Unknown"}.get(state, "Running")
    ready = "True" if state in {"ready", "terminating"} else "False"
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": to_rfc3339(NOW - 1)}]
    status = {"phase": phase, "podIP": f"ip-{name}", "conditions": conditions}
    return PodView({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})


def plan(pods: list[PodView], desired: int, **more: Any) -> GroupPlan:
    options: dict[str, Any] = {"named": (), "stale": (), "autoscaling": False, "load": None, "now": NOW}
    return plan_group(pods, desired=desired, **(options | more))


def deleted(found: GroupPlan) -> list[str]:
    return [removal.pod.name for removal in found.delete]


states = st.sampled_from(["ready", "unready", "pending", "dead", "lost", "terminating"])
pods_of = st.lists(states, max_size=8).map(lambda found: [pod(f"p{i}", state) for i, state in enumerate(found)])


@CALM
@given(pods=pods_of, desired=st.integers(0, 8), autoscaling=st.booleans(), data=st.data())
def test_counts(pods: list[PodView], desired: int, autoscaling: bool, data: st.DataObject) -> None:
    all_names = [p.name for p in pods]
    named = data.draw(st.sets(st.sampled_from(all_names)) if all_names else st.just(set()))
    stale = data.draw(st.sets(st.sampled_from(all_names)) if all_names else st.just(set()))
    found = plan(pods, desired, named=named, stale=stale, autoscaling=autoscaling)
    gone = deleted(found)
    assert len(gone) == len(set(gone))
    by_name = {p.name: p for p in pods}
    assert not any(by_name[name].terminating for name in gone)
    assert {name for name in named if not by_name[name].terminating} <= set(gone)

    good = {p.name for p in pods if p.living and p.name not in named and p.name not in stale}
    taken_for_size = [name for name in gone if name in good]
    assert len(taken_for_size) == (0 if autoscaling else max(0, len(good) - desired))
    assert len(good) + len(found.create) >= desired
    assert len(good) - len(taken_for_size) + len(found.create) <= max(desired, len(good))
    if found.create:
        assert not taken_for_size


@CALM
@given(pods=pods_of, desired=st.integers(0, 8), order=st.randoms())
def test_order_of_the_listing_does_not_matter(pods: list[PodView], desired: int, order: Any) -> None:
    shuffled = list(pods)
    order.shuffle(shuffled)
    assert plan(pods, desired) == plan(shuffled, desired)


def test_workers_to_delete_are_exactly_those() -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    found = plan(pods, 2, named={"b", "never-existed"}, autoscaling=True)
    assert deleted(found) == ["b"]
    assert not found.create


def test_a_named_pod_counts_as_gone() -> None:
    found = plan([pod("a"), pod("b"), pod("c")], 3, named={"b"})
    assert deleted(found) == ["b"]
    assert len(found.create) == 1


@pytest.mark.parametrize(
    ("pods", "load", "victims"),
    [
        ([pod("a"), pod("b", "pending"), pod("c", "unready")], None, ["b"]),
        ([pod("a"), pod("c", "unready")], None, ["c"]),
        ([pod("a"), pod("b"), pod("c")], {"ip-a": 2, "ip-b": 0, "ip-c": 1}, ["b"]),
        ([pod("a"), pod("b"), pod("c")], {"ip-a": 2, "ip-c": 1}, ["b"]),
        ([pod("old", age=100), pod("young", age=10), pod("older", age=200)], None, ["young"]),
        ([pod("old", age=100), pod("busy", age=10)], {"ip-busy": 1}, ["old"]),
    ],
)
def test_the_least_needed_goes_first(pods: list[PodView], load: dict[str, int] | None, victims: list[str]) -> None:
    assert deleted(plan(pods, len(pods) - 1, load=load)) == victims


def test_with_the_autoscaler_a_surplus_stays() -> None:
    assert plan([pod("a"), pod("b")], 1, autoscaling=True) == GroupPlan()


def test_stale_pods_are_replaced_at_once() -> None:
    found = plan([pod("a"), pod("b")], 2, stale={"a"})
    assert deleted(found) == ["a"]
    assert [replacement.attempt for replacement in found.create] == [0]


def test_the_dead_are_replaced_and_keep_count() -> None:
    (replacement,) = plan([pod("a"), pod("b", "dead", age=50)], 2).create
    assert replacement.attempt == 1
    assert replacement.instead_of is not None
    assert replacement.instead_of.name == "b"


def test_the_dead_of_a_smaller_group_are_only_deleted() -> None:
    found = plan([pod("a"), pod("b", "dead", age=50)], 1)
    assert deleted(found) == ["b"]
    assert not found.create


@pytest.mark.parametrize(("attempt", "pause"), [(0, 0), (1, 10), (2, 20), (3, 40), (6, 300), (60, 300)])
def test_who_dies_young_again_waits_longer(attempt: int, pause: float) -> None:
    died = NOW - 1
    dead = pod("a", "dead", age=30, attempt=attempt)
    found = plan_group([dead], desired=1, named=(), stale=(), autoscaling=False, load=None, now=died + pause - 0.5)
    if pause:
        assert found == GroupPlan(wake_at=died + pause)
    later = plan_group([dead], desired=1, named=(), stale=(), autoscaling=False, load=None, now=died + pause)
    assert [replacement.attempt for replacement in later.create] == [attempt + 1]


def test_a_long_life_clears_the_count() -> None:
    (replacement,) = plan([pod("a", "dead", age=5000, attempt=5)], 1).create
    assert replacement.attempt == 0


def test_a_lost_pod_is_deleted_and_replaced() -> None:
    found = plan([pod("a", "lost")], 1)
    assert deleted(found) == ["a"]
    assert len(found.create) == 1


def test_terminating_pods_do_not_count() -> None:
    found = plan([pod("a", "terminating"), pod("b")], 2)
    assert not found.delete
    assert len(found.create) == 1
