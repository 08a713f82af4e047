"""What a person asks of an upgrade by annotation: pause, promote, abort, undo."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Create, Decision, Delete
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service import revisions
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    OTHER_SERVE_CONFIG,
    SERVE_CONFIG,
    after,
    annotated,
    cluster_spec,
    condition,
    config_hash,
    edited,
    rayservice,
    serving,
)
from tests.service.test_abort import failing
from tests.service.test_decide import upgrading


def role(decision: Decision, name: str) -> str:
    assert decision.status is not None
    entry: Manifest = decision.status.get(f"{name}ServiceStatus", {})
    return str(entry.get("rayClusterName", ""))


def upgrade(decision: Decision) -> Manifest:
    assert decision.status is not None
    found: Manifest = decision.status["upgrade"]
    return found


def paused(snapshot: ServiceSnapshot, **more: str) -> ServiceSnapshot:
    return annotated(snapshot, pause="true", **more)


def test_paused_upgrade_is_not_begun_and_says_how_to_go_on() -> None:
    snapshot = upgrading("planned")
    held = decide(paused(snapshot), NOW)
    assert (role(held, "active"), role(held, "pending")) == ("demo-one", "")
    assert condition(held, "UpgradeInProgress") == ("True", "UpgradePaused")
    assert condition(held, "Reconciling") == ("True", "UpgradePaused")
    assert upgrade(held)["phase"] == "Paused"
    assert "ray.io/pause" in upgrade(held)["message"]
    assert role(decide(after(snapshot, held), NOW), "pending")


def test_paused_by_the_spec() -> None:
    snapshot = edited(upgrading("planned"), upgradeStrategy={"paused": True})
    assert condition(decide(snapshot, NOW), "UpgradeInProgress") == ("True", "UpgradePaused")


def test_paused_upgrade_does_not_take_over_until_resumed() -> None:
    snapshot = upgrading("proven")
    held = decide(paused(snapshot), NOW)
    assert (role(held, "active"), role(held, "pending")) == ("demo-one", "demo-two")
    assert condition(held, "Reconciling") == ("True", "UpgradePaused")
    assert "demo-two" in upgrade(held)["message"]
    assert role(decide(after(snapshot, held), NOW), "active") == "demo-two"


def test_promote_passes_over_the_pause_of_this_cluster_only() -> None:
    snapshot = upgrading("proven")
    assert role(decide(paused(snapshot, promote="demo-two"), NOW), "active") == "demo-two"
    assert role(decide(paused(snapshot, promote="demo-six"), NOW), "active") == "demo-one"


def test_promote_does_not_pass_over_a_cluster_that_cannot_serve() -> None:
    assert role(decide(annotated(upgrading("built"), promote="demo-two"), NOW), "active") == "demo-one"


def test_no_time_counts_while_paused() -> None:
    """The threshold passed long ago; after the pause it begins anew."""
    held = decide(paused(failing()), NOW)
    assert held.status is not None
    assert "failedUpdate" not in held.status
    assert "deadline" not in upgrade(held)
    assert upgrade(held)["paused"] == to_rfc3339(NOW)

    resumed = decide(after(failing(), held), NOW + 5)
    assert "failedUpdate" not in (resumed.status or {})
    assert upgrade(resumed)["resumed"] == to_rfc3339(NOW + 5)
    later = decide(after(failing(), resumed), NOW + 6)
    assert from_rfc3339(upgrade(later)["deadline"]) == NOW + 305


def test_abort_gives_this_upgrade_up_whatever_its_state() -> None:
    """Also with the net switched off, and while paused."""
    snapshot = annotated(upgrading("proven"), abort="demo-two", rollback="false", pause="true")
    first = decide(snapshot, NOW)
    assert first.status is not None
    assert "ray.io/abort asks for it" in first.status["failedUpdate"]["message"]
    second = decide(after(snapshot, first), NOW)
    assert [a.ref.name for a in second.actions if isinstance(a, Delete)] == ["demo-two"]
    assert (role(second, "active"), role(second, "pending")) == ("demo-one", "")
    snapshot = dataclasses.replace(snapshot, clusters=snapshot.clusters[:1])
    third = decide(after(snapshot, second), NOW)
    assert not [a for a in third.actions if isinstance(a, Create)]
    assert condition(third, "Stalled") == ("True", "UpgradeAborted")


def test_abort_of_another_cluster_does_nothing() -> None:
    assert role(decide(annotated(upgrading("proven"), abort="demo-six"), NOW), "active") == "demo-two"


# --- undo


def with_history(*specs: Manifest) -> ServiceSnapshot:
    """``demo`` serving the first of the specs while its spec is the last one; all of them are in the history."""
    history: tuple[Any, ...] = ()
    for number, spec in enumerate(specs, 1):
        history = (*history, revisions.build(rayservice(spec), number))
    return dataclasses.replace(serving(spec=specs[-1]), revisions=history)


FIRST = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec()}
SECOND = {"serveConfigV2": OTHER_SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:2")}


def test_undo_keeps_an_earlier_revision_in_force_and_says_so() -> None:
    snapshot = annotated(with_history(FIRST, SECOND), undo="1")
    decision = decide(snapshot, NOW)
    assert (role(decision, "active"), role(decision, "pending")) == ("demo-one", "")
    assert condition(decision, "Stalled") == ("True", "Undone")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert decision.status is not None
    assert decision.status["undone"]["value"] == "1"
    again = decide(after(snapshot, decision), NOW + 5)
    assert again.status == decision.status


def test_undo_ends_with_the_annotation() -> None:
    snapshot = annotated(with_history(FIRST, SECOND), undo="1")
    undone = after(snapshot, decide(snapshot, NOW))
    decision = decide(annotated(undone), NOW)
    assert role(decision, "pending")
    assert decision.status is not None
    assert "undone" not in decision.status


def test_undo_does_not_touch_the_next_spec() -> None:
    """The annotation was left behind."""
    snapshot = annotated(with_history(FIRST, SECOND), undo="1")
    undone = after(snapshot, decide(snapshot, NOW))
    third = edited(undone, rayClusterConfig=cluster_spec("ray:3"))
    decision = decide(third, NOW)
    assert role(decision, "pending")
    assert condition(decision, "Stalled") is None


def test_undo_during_an_upgrade_gives_the_new_cluster_up() -> None:
    snapshot = upgrading("proven")
    spec = snapshot.service["spec"]
    history = (revisions.build(rayservice(FIRST), 1), revisions.build(rayservice(copy.deepcopy(spec)), 2))
    snapshot = annotated(dataclasses.replace(snapshot, revisions=history), undo="1")
    decision = decide(snapshot, NOW)
    assert (role(decision, "active"), role(decision, "pending")) == ("demo-one", "")
    assert [a.ref.name for a in decision.actions if isinstance(a, Delete)] == ["demo-two"]


def test_undo_to_a_revision_that_is_not_there_is_refused_with_those_that_are() -> None:
    snapshot = annotated(with_history(FIRST, SECOND), undo="7")
    decision = decide(snapshot, NOW)
    assert condition(decision, "Stalled") == ("True", "ValidationFailed")
    stalled = find((decision.status or {})["conditions"], "Stalled") or {}
    assert "metadata.annotations" in stalled["message"]
    assert "Known are: 1, 2" in stalled["message"]


def test_the_history_keeps_what_is_undone_to() -> None:
    later = [{**SECOND, "rayClusterConfig": cluster_spec(f"ray:{n}")} for n in range(revisions.HISTORY_LIMIT + 3)]
    specs = [FIRST, *later]
    snapshot = annotated(with_history(*specs), undo="1")
    decision = decide(after(snapshot, decide(snapshot, NOW)), NOW)
    deleted = {a.ref.name for a in decision.actions if isinstance(a, Delete)}
    assert deleted
    assert revisions.build(rayservice(specs[0]), 1)["metadata"]["name"] not in deleted


def test_a_paused_upgrade_leaves_the_serve_config_of_the_cluster_that_serves_alone() -> None:
    """The new config may need the new image; it comes with the new cluster."""
    spec = {"serveConfigV2": OTHER_SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:2")}
    snapshot = annotated(edited(serving(), **spec), pause="true")
    snapshot = dataclasses.replace(snapshot, revisions=(revisions.build(serving().service, 1),))
    decision = decide(snapshot, NOW)
    assert condition(decision, "UpgradeInProgress") == ("True", "UpgradePaused")
    assert condition(decision, "ServeConfigApplied") == ("False", "Pending")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    pushes = [target.push.config_hash for target in decision.observe or () if target.push]
    assert config_hash(OTHER_SERVE_CONFIG) not in pushes
