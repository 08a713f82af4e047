"""The store: the newest state, whatever order news arrives in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, uid_of
from rayservice_operator.kube.store import SERVICE_NAME_LABEL, Change, Store


def obj(name: str = "p", version: int | str = 1, uid: str = "u1", kind: str = "Pod", **meta: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version), **meta},
    }


def owner(uid: str, *, controller: bool = True) -> list[dict[str, Any]]:
    return [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": controller}]


@pytest.fixture
def changes() -> list[Change]:
    return []


@pytest.fixture
def store(changes: list[Change]) -> Store:
    store = Store()
    store.subscribe(changes.append)
    return store


def test_newer_replaces_and_older_is_ignored(store: Store, changes: list[Change]) -> None:
    assert store.put(obj(version=9))
    assert store.put(obj(version=10))
    assert not store.put(obj(version=10))
    assert not store.put(obj(version=9))
    assert store.get("Pod", "ns", "p") == obj(version=10)
    assert [(c.old is None, c.new is None) for c in changes] == [(True, False), (False, False)]


def test_versions_that_are_no_numbers_replace_when_they_differ(store: Store) -> None:
    assert store.put(obj(version="abc"))
    assert not store.put(obj(version="abc"))
    assert store.put(obj(version="abd"))


def test_a_deleted_object_does_not_come_back_by_an_old_event(store: Store, changes: list[Change]) -> None:
    store.put(obj(version=5))
    assert store.remove("Pod", "ns", "p", "u1")
    assert not store.put(obj(version=6))
    assert store.get("Pod", "ns", "p") is None
    assert len(changes) == 2


def test_a_delete_that_comes_before_the_object_wins(store: Store) -> None:
    assert not store.remove("Pod", "ns", "p", "u1")
    assert not store.put(obj(version=5))


def test_a_successor_takes_the_name_and_survives_the_old_ones_deletion(store: Store) -> None:
    store.put(obj(version=5))
    assert store.put(obj(version=8, uid="u2"))
    assert not store.remove("Pod", "ns", "p", "u1")
    assert not store.put(obj(version=7))
    stored = store.get("Pod", "ns", "p")
    assert stored is not None
    assert uid_of(stored) == "u2"


def test_the_predecessor_does_not_push_out_its_successor(store: Store) -> None:
    store.put(obj(version=8, uid="u2"))
    assert not store.put(obj(version=5))


def test_indexes_follow_owner_and_label(store: Store) -> None:
    store.put(obj(version=1, labels={names.CLUSTER: "c"}, ownerReferences=owner("o1")))
    assert [uid_of(o) for o in store.owned("o1")] == ["u1"]
    assert [uid_of(o) for o in store.labelled("Pod", "ns", "c")] == ["u1"]
    store.put(obj(version=2, labels={names.CLUSTER: "d"}, ownerReferences=owner("o2")))
    assert store.owned("o1") == ()
    assert store.labelled("Pod", "ns", "c") == ()
    assert [uid_of(o) for o in store.labelled("Pod", "ns", "d")] == ["u1"]
    store.put(obj(version=3, ownerReferences=owner("o2", controller=False)))
    assert store.owned("o2") == ()
    store.remove("Pod", "ns", "p")
    assert store.kind("Pod") == ()


def test_slices_are_found_by_their_service(store: Store) -> None:
    store.put(obj(kind="EndpointSlice", labels={SERVICE_NAME_LABEL: "svc"}))
    assert len(store.labelled("EndpointSlice", "ns", "svc")) == 1
    assert store.labelled("EndpointSlice", "other", "svc") == ()


def test_managed_fields_are_dropped(store: Store) -> None:
    store.put(obj(managedFields=[{"manager": "x"}]))
    stored = store.get("Pod", "ns", "p")
    assert stored == obj()


def test_a_list_reconciles_ghosts_and_keeps_what_is_newer_than_it(store: Store, changes: list[Change]) -> None:
    store.put(obj("ghost", 3, "u1"))
    store.put(obj("kept", 4, "u2"))
    store.put(obj("ours", 12, "u3"))  # written after the list was taken
    store.put(obj("other-kind", 3, "u4", kind="Service"))
    changes.clear()
    store.replace("Pod", None, [obj("kept", 4, "u2"), obj("new", 6, "u5")], "10", store.tick)
    assert {o["metadata"]["name"] for o in store.kind("Pod")} == {"kept", "ours", "new"}
    assert len(store.kind("Service")) == 1
    assert len(changes) == 2


def test_a_list_of_one_namespace_leaves_others_alone(store: Store) -> None:
    store.put(obj("here", 3, "u1"))
    store.put({**obj("there", 3, "u2"), "metadata": {**obj("there", 3, "u2")["metadata"], "namespace": "other"}})
    store.replace("Pod", "ns", [], "10", store.tick)
    assert [o["metadata"]["name"] for o in store.kind("Pod")] == ["there"]


def test_a_list_asked_for_before_a_delete_does_not_resurrect(store: Store) -> None:
    store.put(obj(version=3))
    since = store.tick
    store.remove("Pod", "ns", "p", "u1")
    store.replace("Pod", None, [obj(version=3)], "4", since)
    assert store.kind("Pod") == ()


def test_a_list_asked_for_after_a_mistaken_delete_does(store: Store) -> None:
    store.put(obj(version=3))
    store.remove("Pod", "ns", "p", "u1")
    store.replace("Pod", None, [obj(version=3)], "9", store.tick)
    assert len(store.kind("Pod")) == 1


# Histories: each object is created, changed some times, and perhaps deleted, at ever rising versions. News of it
# comes in any order and more than once; the store must end with the truth.
@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, Manifest]], dict[str, Manifest]]:
    version, events, final = 0, [], {}
    for number in range(draw(st.integers(1, 4))):
        name, uid = draw(st.sampled_from("ab")), f"u{number}"
        if name in final:
            continue
        for _ in range(draw(st.integers(1, 3))):
            version += 1
            final[name] = obj(name, version, uid)
            events.append(("put", final[name]))
        if draw(st.booleans()):
            version += 1
            events.append(("del", obj(name, version, uid)))
            del final[name]
    order = draw(st.permutations(events))
    repeats = draw(st.lists(st.sampled_from(events), max_size=4))
    return [*order, *repeats], final


@settings(max_examples=300, deadline=None)
@given(histories())
def test_any_order_of_news_ends_in_the_truth(history: tuple[list[tuple[str, Manifest]], dict[str, Manifest]]) -> None:
    events, final = history
    store = Store()
    for what, item in events:
        if what == "put":
            store.put(item)
        else:
            store.remove("Pod", "ns", item["metadata"]["name"], uid_of(item))
    assert {o["metadata"]["name"]: o for o in store.kind("Pod")} == final
