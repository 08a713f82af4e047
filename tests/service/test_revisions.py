"""The history of accepted specs."""

from __future__ import annotations

from rayservice_operator.core.decision import Action, Apply, Delete
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.service import revisions
from tests.service.builders import cluster_spec, rayservice


def applied(history: tuple[Manifest, ...], actions: list[Action]) -> tuple[Manifest, ...]:
    """The history after ``actions``."""
    by_name = {name_of(r): r for r in history}
    for action in actions:
        if isinstance(action, Apply):
            by_name[name_of(action.obj)] = action.obj
        elif isinstance(action, Delete):
            by_name.pop(action.ref.name)
    return tuple(by_name.values())


def service(image: str, **spec: object) -> Manifest:
    return rayservice({"rayClusterConfig": cluster_spec(image), **spec})


def _last_valid(history: tuple[Manifest, ...], present: Manifest | None = None) -> Manifest | None:
    return revisions.last_valid_spec(history, present or {})


def test_a_spec_is_recorded_once() -> None:
    one = service("a")
    history = applied((), revisions.record(one, (), frozenset()))
    assert _last_valid(history) == {"rayClusterConfig": cluster_spec("a"), "suspend": False}
    assert revisions.record(one, history, frozenset()) == []


def test_suspend_is_no_new_revision() -> None:
    history = applied((), revisions.record(service("a"), (), frozenset()))
    assert revisions.record(service("a", suspend=True), history, frozenset()) == []


def test_suspended_clusters_are_no_new_revision() -> None:
    """Kueue writes it with every admission and eviction; what is in force of it is what is written now."""
    suspended = rayservice({"rayClusterConfig": cluster_spec("a", suspend=True)})
    history = applied((), revisions.record(suspended, (), frozenset()))
    assert "suspend" not in history[0]["data"]["spec"]["rayClusterConfig"]
    assert revisions.record(service("a"), history, frozenset()) == []
    for given, expected in ((True, {"suspend": True}), (False, {"suspend": False}), ("wrong", {})):
        present = {"rayClusterConfig": {"suspend": given}}
        assert _last_valid(history, present) == {
            "rayClusterConfig": cluster_spec("a", **expected),
            "suspend": False,
        }


def test_going_back_makes_the_old_revision_the_newest() -> None:
    history: tuple[Manifest, ...] = ()
    for image in ("a", "b", "a"):
        history = applied(history, revisions.record(service(image), history, frozenset()))
    assert len(history) == 2
    assert _last_valid(history) == {"rayClusterConfig": cluster_spec("a"), "suspend": False}


def test_history_is_bounded_but_keeps_what_is_referred_to() -> None:
    history: tuple[Manifest, ...] = ()
    first = revisions.spec_hash(service("0")["spec"])
    for number in range(2 * revisions.HISTORY_LIMIT):
        history = applied(history, revisions.record(service(str(number)), history, frozenset({first})))
    assert len(history) == revisions.HISTORY_LIMIT
    assert first in {revisions.hash_of(r) for r in history}
