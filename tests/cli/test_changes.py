"""The verbs that act, on states as the operator leaves them: what is written, or why nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cli import changes
from rayservice_operator.cli.changes import Change, Outcome, Waited
from rayservice_operator.cli.view import Objects
from rayservice_operator.core.objects import Manifest
from tests.cli import states
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, new, service, user
from tests.sim.world import World

Verb = Callable[[Objects], Change]

VERBS: dict[str, Verb] = {
    "pause": changes.pause,
    "resume": changes.resume,
    "promote": changes.promote,
    "abort": changes.abort,
    "retry": lambda objects: changes.retry(objects, "now"),
    "undo": lambda objects: changes.undo_to(objects, None),
}
_YES, _NO, _SAME = Outcome.CHANGE, Outcome.NOTHING, Outcome.ALREADY


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", {"pause": _YES, "resume": _SAME, "promote": _NO, "abort": _NO, "retry": _NO, "undo": _NO}),
        ("starting", {"pause": _YES, "resume": _SAME, "promote": _YES, "abort": _NO, "retry": _NO, "undo": _NO}),
        ("upgrading", {"pause": _YES, "resume": _SAME, "promote": _YES, "abort": _YES, "retry": _NO, "undo": _YES}),
        ("promoted", {"pause": _YES, "resume": _SAME, "promote": _NO, "abort": _NO, "retry": _NO, "undo": _YES}),
        ("paused", {"pause": _SAME, "resume": _YES, "promote": _YES, "abort": _YES, "retry": _NO, "undo": _YES}),
        ("aborted", {"promote": _NO, "abort": _NO, "retry": _YES, "undo": _YES}),
        ("in-steps", {"pause": _YES, "promote": _YES, "abort": _YES, "undo": _YES}),
        ("in-place", {"pause": _YES, "promote": _NO, "abort": _YES, "undo": _YES}),
        ("analysing", {"promote": _YES, "abort": _YES}),
        ("rolled-back", {"promote": _NO, "abort": _NO, "retry": _YES, "undo": _YES}),
        ("suspended", {"promote": _NO, "abort": _NO, "retry": _NO, "undo": _NO}),
        ("undone", {"retry": _NO, "undo": _NO}),
    ],
)
def test_what_each_verb_makes_of_each_state(state: str, expected: dict[str, Outcome]) -> None:
    for verb, outcome in expected.items():
        change = VERBS[verb](states.reach(state)[0])
        assert change.outcome is outcome, f"{verb}: {change.message}"
        assert change.verb == verb
        assert change.message
        assert (change.annotations is not None) == (outcome is Outcome.CHANGE)


def test_annotations_name_the_cluster() -> None:
    objects, _ = states.reach("upgrading")
    assert changes.promote(objects).annotations == {names.PROMOTE: "demo-ggrw9"}
    assert changes.abort(objects).annotations == {names.ABORT: "demo-ggrw9"}
    assert changes.abort(objects).patch() == {"metadata": {"annotations": {names.ABORT: "demo-ggrw9"}}}


def _annotated(objects: Objects, **values: str) -> Objects:
    meta: dict[str, Any] = objects.service["metadata"]
    meta["annotations"] = {**(meta.get("annotations") or {}), **{f"ray.io/{key}": v for key, v in values.items()}}
    return objects


def test_asked_for_already() -> None:
    asked = _annotated(states.reach("upgrading")[0], promote="demo-ggrw9", abort="demo-ggrw9")
    assert changes.promote(asked).outcome is Outcome.ALREADY
    assert changes.abort(asked).outcome is Outcome.ALREADY
    # Left behind by an earlier upgrade: means nothing to this one.
    stale = _annotated(states.reach("upgrading")[0], promote="demo-zzzzz", abort="demo-zzzzz")
    assert changes.promote(stale).outcome is Outcome.CHANGE
    assert changes.abort(stale).outcome is Outcome.CHANGE


def test_resume_cannot_edit_the_spec() -> None:
    objects, _ = states.reach("upgrading")
    objects.service["spec"]["upgradeStrategy"] = {"paused": True}
    change = changes.resume(objects)
    assert change.outcome is Outcome.NOTHING
    assert "upgradeStrategy.paused" in change.message


def test_undo_chooses_the_revision_before_the_one_in_force() -> None:
    objects, _ = states.reach("promoted")
    assert changes.undo_to(objects, None).annotations == {names.UNDO: "1"}
    assert changes.undo_to(objects, 2).outcome is Outcome.ALREADY
    unknown = changes.undo_to(objects, 7)
    assert unknown.outcome is Outcome.NOTHING
    assert "1, 2" in unknown.message

    undone, _ = states.reach("undone")
    assert changes.undo_to(undone, 1).outcome is Outcome.ALREADY
    back = {names.UNDO: None}
    assert changes.undo_to(undone, 2).annotations == back, "the present spec again"
    assert changes.undo_to(undone, None, clear=True).annotations == back


# --- what --wait goes by, against the operator itself


def _objects(world: World) -> Objects:
    known = service(world)
    assert known is not None
    server = world.server
    kinds = ("RayCluster", "Pod", "Event", "ControllerRevision")
    clusters, pods, events, revisions = (tuple(server.kind(kind)) for kind in kinds)
    return Objects(known, clusters, pods, events, revisions)


def _follow(scenario: str, state: str, verb: Verb, limit_s: float = 400.0) -> tuple[Waited, World, Change]:
    """Let a person run ``verb`` at that moment; what --wait says in the end. Before it ends it must not say done."""
    everything = new(*SCENARIOS[scenario][:2])  # the later stages are other things that people do
    orderly, world = Orderly(everything), everything.world
    while not states.MOMENTS[state][1](world):
        orderly.turn()
    change = verb(_objects(world))
    assert change.outcome is Outcome.CHANGE, change.message
    patch: Manifest = change.patch()
    user(world, patch)
    assert changes.waited(change, _objects(world))[0] is Waited.GOING_ON, "nobody has looked at it yet"
    until = world.now + limit_s
    while (told := changes.waited(change, _objects(world)))[0] is Waited.GOING_ON:
        assert told[1]
        orderly.turn()
        assert world.now < until, f"{change.verb} is waited for in vain: {told[1]}"
    return told[0], world, change


def test_promote_is_waited_for() -> None:
    end, world, change = _follow("upgrade", "upgrading", changes.promote)
    known = service(world)
    assert known is not None
    assert (end, known["status"]["activeServiceStatus"]["rayClusterName"]) == (Waited.DONE, change.cluster)


def test_abort_is_waited_for() -> None:
    end, world, change = _follow("upgrade", "upgrading", changes.abort)
    known = service(world)
    assert known is not None
    assert (end, known["status"]["upgrade"]["phase"]) == (Waited.DONE, "Aborted")
    assert known["status"]["activeServiceStatus"]["rayClusterName"] != change.cluster


def test_abort_in_steps_is_waited_for() -> None:
    end, world, _ = _follow("in_steps", "in-steps", changes.abort)
    known = service(world)
    assert known is not None
    assert (end, known["status"].get("pendingServiceStatus")) == (Waited.DONE, None)


def test_abort_of_a_rollout_in_place_is_waited_for() -> None:
    end, world, change = _follow("in_place", "in-place", changes.abort)
    known = service(world)
    assert known is not None
    assert (end, known["status"]["upgrade"]["phase"]) == (Waited.DONE, "Aborted")
    assert known["status"]["activeServiceStatus"]["rayClusterName"] == change.cluster
    assert changes.abort(_objects(world)).outcome is Outcome.NOTHING
    assert known["status"]["applied"]["revision"] == 1


def test_undo_is_waited_for() -> None:
    end, world, _ = _follow("upgrade", "promoted", lambda objects: changes.undo_to(objects, None))
    known = service(world)
    assert known is not None
    spec = known["status"]["applied"]
    assert (end, spec["revision"]) == (Waited.DONE, 1)


def test_pause_is_waited_for() -> None:
    end, world, _ = _follow("upgrade", "upgrading", changes.pause)
    known = service(world)
    assert known is not None
    assert (end, "paused" in known["status"]["upgrade"]) == (Waited.DONE, True)


def test_retry_that_fails_again_is_a_failure() -> None:
    end, world, _ = _follow("failed_update", "rolled-back", lambda objects: changes.retry(objects, "once more"))
    known = service(world)
    assert known is not None
    assert end is Waited.FAILED
    assert known["status"]["failedUpdate"]["retry"] == "once more"
