"""A hot update that fails goes back to the last good serve config, and what failed is not tried again."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Decision, Delete, ServePush
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import PushResult
from rayservice_operator.service import revisions
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    OTHER_SERVE_CONFIG,
    SERVE_CONFIG,
    after,
    annotated,
    application,
    cluster_spec,
    condition,
    config_hash,
    edited,
    observation,
    pod,
    raycluster,
    rayservice,
    serving,
    unmoved,
)

GOOD, BAD = config_hash(), config_hash(OTHER_SERVE_CONFIG)
TWO_APPS = SERVE_CONFIG + "  - {name: second, route_prefix: /second, import_path: 'second:app'}\n"


def spec_of(text: str) -> Manifest:
    return {"serveConfigV2": text, "rayClusterConfig": cluster_spec()}


def revision(text: str, number: int) -> Manifest:
    return revisions.build(rayservice(spec_of(text)), number)


def pushed(decision: Decision) -> ServePush:
    (target,) = decision.observe
    assert target.push is not None
    return target.push


def looked(text: str, *applications: Any) -> dict[str, Any]:
    """Observations after a push of ``text`` was taken, with what came of it."""
    seen = observation(raycluster("demo-one"), *applications)
    push = PushResult(config_hash(text), "", "accepted", NOW - 1)
    return {"demo-one": dataclasses.replace(seen, push=push)}


def failing(bad: str = OTHER_SERVE_CONFIG, *, good: str = SERVE_CONFIG, **meta: Any) -> ServiceSnapshot:
    """A service that served with ``good``; Ray has taken ``bad`` and says DEPLOY_FAILED of its first application."""
    status = {
        "conditions": [],
        "activeServiceStatus": {"rayClusterName": "demo-one", "appliedConfigHash": config_hash(bad)},
        "applied": {"configHash": config_hash(good), "goodConfigHash": config_hash(good)},
        "observedGeneration": 2,
    }
    return serving(
        service=rayservice(spec_of(bad), generation=2, status=status, **meta),
        revisions=(revision(good, 1), revision(bad, 2)),
        observations=looked(bad, application("DEPLOY_FAILED", running=0, text=bad)),
    )


def rolled_back(**meta: Any) -> ServiceSnapshot:
    """The good config serves again, and nothing more is to be done."""
    snapshot = failing(**meta)
    snapshot = after(snapshot, decide(snapshot, NOW))
    return after(snapshot, decide(snapshot, NOW), observations=looked(SERVE_CONFIG, application()))


def test_the_failure_is_remembered_before_anything_is_pushed() -> None:
    snapshot = failing()
    first = decide(snapshot, NOW)
    assert first.actions == ()
    assert first.status is not None
    assert first.status["failedUpdate"]["configHash"] == BAD
    assert first.status["failedUpdate"]["rolledBackTo"] == GOOD
    assert condition(first, "RollbackInProgress") == ("True", "ServeConfigFailed")
    assert condition(first, "Reconciling") == ("True", "RollingBack")
    assert condition(first, "Stalled") is None
    assert [note.reason for note in first.notes].count("RollingBack") == 1

    second = decide(after(snapshot, first), NOW)
    assert pushed(second).config_hash == GOOD
    assert condition(second, "RollbackInProgress") == ("True", "ServeConfigFailed")


def test_once_back_it_serves_and_says_what_to_do() -> None:
    snapshot = rolled_back()
    decision = decide(snapshot, NOW)
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(decision, "ServeConfigApplied") == ("False", "RolledBack")
    assert condition(decision, "Stalled") == ("True", "RolledBack")
    assert condition(decision, "RollbackInProgress") is None
    assert condition(decision, "Reconciling") is None
    assert decision.status is not None
    stalled = find(decision.status["conditions"], "Stalled")
    assert stalled is not None
    assert "ray.io/retry" in stalled["message"]
    assert "DEPLOY_FAILED" in stalled["message"]
    assert [note.reason for note in decision.notes].count("RolledBack") == 1
    settled = after(snapshot, decision)
    again = decide(settled, NOW + 1)
    assert again.status == settled.service["status"], "nothing is written any more"
    assert again.notes == ()


def test_a_config_that_waits_for_a_pause_is_not_said_to_have_failed() -> None:
    """History 11994: what has failed is the one before it, which still runs."""
    corrected = SERVE_CONFIG.replace("hello", "corrected")
    paused = {"upgradeStrategy": {"type": "NewCluster", "paused": True}, "rayClusterConfig": cluster_spec("ray:2")}
    decision = decide(edited(failing(), **{**spec_of(corrected), **paused}), NOW)
    assert condition(decision, "UpgradeInProgress") == ("True", "UpgradePaused")
    assert condition(decision, "ApplicationsHealthy") == ("False", "DeployFailed")
    assert condition(decision, "Stalled") is None
    same = decide(edited(failing(annotations={"ray.io/rollback": "false"}), **paused), NOW)
    assert condition(same, "Stalled") == ("True", "DeployFailed"), "and the spec's own is"


def test_the_failed_config_is_not_tried_again_by_a_new_process() -> None:
    snapshot = dataclasses.replace(rolled_back(), observations={})
    assert pushed_hash(decide(snapshot, NOW)) in {None, GOOD}


def pushed_hash(decision: Decision) -> str | None:
    (target,) = decision.observe
    return target.push.config_hash if target.push else None


def test_another_config_is_tried_and_the_memory_is_gone() -> None:
    corrected = SERVE_CONFIG.replace("hello", "corrected")
    decision = decide(edited(rolled_back(), **spec_of(corrected)), NOW)
    assert pushed(decision).config_hash == config_hash(corrected)
    assert decision.status is not None
    assert "failedUpdate" not in decision.status
    assert condition(decision, "Stalled") is None


def test_retry_tries_it_once_more_and_remembers_that() -> None:
    snapshot = annotated(rolled_back(), retry="1")
    decision = decide(snapshot, NOW)
    assert pushed(decision).config_hash == BAD
    assert pushed(decision).attempt, "another push than the first one of this config"
    assert condition(decision, "Stalled") is None
    again = looked(OTHER_SERVE_CONFIG, application("DEPLOY_FAILED", running=0, text=OTHER_SERVE_CONFIG))
    failed_again = decide(after(snapshot, decision, observations=again), NOW)
    assert failed_again.status is not None
    assert failed_again.status["failedUpdate"]["retry"] == "1"
    back = decide(after(snapshot, failed_again, observations=again), NOW)
    assert pushed(back).config_hash == GOOD, "the same value is no new request"


def hanging(**spec: Any) -> ServiceSnapshot:
    """Ray has taken the new config, and its application stays DEPLOYING: its constructor does not return."""
    snapshot = failing()
    hung = looked(OTHER_SERVE_CONFIG, application("DEPLOYING", state="STARTING", text=OTHER_SERVE_CONFIG))
    return dataclasses.replace(edited(snapshot, **spec), observations=hung)


def test_an_update_that_hangs_goes_back_at_the_progress_deadline() -> None:
    snapshot = hanging(upgradeStrategy={"progressDeadlineSeconds": 600})
    waiting = decide(unmoved(snapshot, 500), NOW)
    assert waiting.status is not None
    assert "failedUpdate" not in waiting.status
    assert waiting.wake_at is not None
    assert waiting.wake_at <= NOW + 102, "it comes back by itself when the time is over"

    back = decide(unmoved(snapshot, 602), NOW)
    assert back.status is not None
    assert back.status["failedUpdate"]["rolledBackTo"] == GOOD
    assert "progressDeadlineSeconds" in back.status["failedUpdate"]["message"]


def test_without_a_progress_deadline_an_update_may_take_any_time() -> None:
    decision = decide(unmoved(hanging(), 1e6), NOW)
    assert decision.status is not None
    assert "failedUpdate" not in decision.status


@pytest.mark.parametrize("value", ["false", "False", " off "])
def test_without_the_net_it_stays_and_is_stalled(value: str) -> None:
    decision = decide(annotated(failing(), rollback=value), NOW)
    assert decision.status is not None
    assert "failedUpdate" not in decision.status
    assert condition(decision, "Stalled") == ("True", "DeployFailed")
    assert pushed_hash(decision) in {None, BAD}


def test_the_net_can_be_taken_away_afterwards() -> None:
    decision = decide(annotated(rolled_back(), rollback="false"), NOW)
    assert pushed(decision).config_hash == BAD


def test_an_application_that_the_update_left_alone_is_no_reason() -> None:
    """It failed by itself; going back would not help, and would undo somebody's work."""
    bad = TWO_APPS.replace("second:app", "second:other")
    snapshot = failing(bad, good=TWO_APPS)
    decision = decide(snapshot, NOW)
    assert condition(decision, "Stalled") == ("True", "DeployFailed")
    assert decision.status is not None
    assert "failedUpdate" not in decision.status


def test_a_new_application_is_a_reason() -> None:
    snapshot = failing(TWO_APPS, good=SERVE_CONFIG)
    second = dataclasses.replace(application("DEPLOY_FAILED", running=0), name="second")
    seen = looked(TWO_APPS, application(), second)
    decision = decide(dataclasses.replace(snapshot, observations=seen), NOW)
    assert decision.status is not None
    assert decision.status["failedUpdate"]["configHash"] == config_hash(TWO_APPS)


@pytest.mark.parametrize("status", ["DEPLOYING", "DEPLOY_FAILED"])
def test_an_application_that_is_built_anew_serves_on(status: str) -> None:
    """Ray lists no deployments while it builds, nor when that fails; the replicas of before answer."""
    building = dataclasses.replace(application(status, running=0, text=OTHER_SERVE_CONFIG), deployments={})
    snapshot = dataclasses.replace(failing(), observations=looked(OTHER_SERVE_CONFIG, building))

    def ready(was: str) -> tuple[str, str] | None:
        service = copy.deepcopy(snapshot.service)
        service["status"]["conditions"] = [{"type": "Ready", "status": was, "reason": "x"}]
        return condition(decide(dataclasses.replace(snapshot, service=service), NOW), "Ready")

    assert ready("True") == ("True", "NonZeroServeEndpoints")
    assert ready("False") == ("False", "ApplicationsNotRunning"), "nothing came back"


def test_nothing_to_go_back_to() -> None:
    snapshot = failing()
    service = copy.deepcopy(snapshot.service)
    del service["status"]["applied"]
    for broken in (dataclasses.replace(snapshot, service=service), dataclasses.replace(snapshot, revisions=())):
        decision = decide(broken, NOW)
        assert condition(decision, "Stalled") == ("True", "DeployFailed")


def test_good_is_what_has_run() -> None:
    decision = decide(serving(pushed=GOOD), NOW)
    assert decision.status is not None
    assert decision.status["applied"]["goodConfigHash"] == GOOD
    moving = {"demo-one": observation(raycluster("demo-one"), application("DEPLOYING"), pushed=GOOD)}
    decision = decide(serving(observations=moving), NOW)
    assert decision.status is not None
    assert "goodConfigHash" not in decision.status["applied"]


def test_the_history_keeps_the_good_revision() -> None:
    snapshot = failing()
    many = (
        *(revision(SERVE_CONFIG.replace("hello", f"hello {n}"), n + 3) for n in range(revisions.HISTORY_LIMIT)),
        *snapshot.revisions,
    )
    newest = dataclasses.replace(snapshot, revisions=many, observations={})
    deleted = {action.ref.name for action in decide(newest, NOW).actions if isinstance(action, Delete)}
    assert deleted
    assert snapshot.revisions[0]["metadata"]["name"] not in deleted


def test_a_refused_edit_meanwhile_changes_nothing() -> None:
    decision = decide(edited(rolled_back(), serveConfigV2="applications: 5"), NOW)
    assert condition(decision, "Stalled") == ("True", "ValidationFailed")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert pushed_hash(decision) in {None, GOOD}


def test_suspension_keeps_the_memory() -> None:
    snapshot = rolled_back()
    service = copy.deepcopy(snapshot.service)
    service["spec"]["suspend"] = True
    suspending = dataclasses.replace(snapshot, service=service)
    decision = decide(suspending, NOW)
    assert decision.status is not None
    assert decision.status["failedUpdate"]["configHash"] == BAD
    assert decision.status["applied"]["goodConfigHash"] == GOOD


def test_a_cluster_that_is_coming_up_gets_the_good_config() -> None:
    """The cluster spec is edited while the serve config is the failed one still."""
    snapshot = rolled_back()
    service = copy.deepcopy(snapshot.service)
    service["spec"]["rayClusterConfig"] = cluster_spec("ray:2")
    service["metadata"]["generation"] = 3
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two"}
    new = raycluster("demo-two", cluster_spec("ray:2"))
    pods = {**snapshot.pods, "demo-two": (pod(new, "head", "10.0.1.1", serve=False),)}
    upgrading = dataclasses.replace(
        snapshot, service=service, clusters=(*snapshot.clusters, new), pods=pods, revisions=snapshot.revisions
    )
    targets = {target.cluster.name: target for target in decide(upgrading, NOW).observe}
    push = targets["demo-two"].push
    assert push is not None
    assert push.config_hash == GOOD
