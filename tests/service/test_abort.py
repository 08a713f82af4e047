"""An upgrade that fails is given up: the new cluster goes, the old one serves on, and it is not tried again."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Create, Decision, Delete
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import revisions
from rayservice_operator.service.apps import application_statuses
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    OTHER_SERVE_CONFIG,
    after,
    annotated,
    application,
    cluster_spec,
    condition,
    config_hash,
    edited,
    observation,
    raycluster,
    rayservice,
    unmoved,
)
from tests.service.test_decide import upgrading

STARTED = NOW - 1000


def failing(unmoved_s: float = 400, status: str = "DEPLOY_FAILED", **spec: Any) -> ServiceSnapshot:
    """An upgrade from demo-one to demo-two, whose application failed ``unmoved_s`` seconds ago."""
    snapshot = upgrading("proven")
    new = raycluster("demo-two", cluster_spec("ray:2"))
    seen = observation(new, application(status, running=0), pushed=config_hash(), proxies={"10.0.1.1": True})
    service = copy.deepcopy(snapshot.service)
    service["spec"].update(spec)
    service["status"]["applied"] = {"goodConfigHash": config_hash()}
    service["status"]["upgrade"] = {"from": "demo-one", "to": "demo-two", "started": to_rfc3339(STARTED)}
    service["status"]["pendingServiceStatus"] |= {
        "rayClusterStatus": {"state": "ready"},
        "applicationStatuses": application_statuses(seen),
    }
    seen_by_all = {**snapshot.observations, "demo-two": seen}
    return unmoved(dataclasses.replace(snapshot, service=service, observations=seen_by_all), unmoved_s)


def remembered(decision: Decision) -> Manifest:
    assert decision.status is not None
    failed: Manifest = decision.status.get("failedUpdate", {})
    return failed


def given_up() -> ServiceSnapshot:
    """The new cluster is deleted."""
    snapshot = failing()
    snapshot = after(snapshot, decide(snapshot, NOW))
    snapshot = after(snapshot, decide(snapshot, NOW))
    only = tuple(c for c in snapshot.clusters if c["metadata"]["name"] == "demo-one")
    return dataclasses.replace(snapshot, clusters=only)


def test_remembered_first_then_the_new_cluster_goes_then_it_is_told() -> None:
    snapshot = failing()
    first = decide(snapshot, NOW)
    assert first.actions == ()
    assert "demo-two is given up" in remembered(first)["message"]
    assert "deploymentUnhealthySecondThreshold" in remembered(first)["message"]
    assert condition(first, "RollbackInProgress") == ("True", "UpgradeAborted")
    assert condition(first, "Stalled") is None

    second = decide(after(snapshot, first), NOW)
    (deletion,) = second.actions
    assert isinstance(deletion, Delete)
    assert deletion.ref.name == "demo-two"
    assert second.status is not None
    assert "pendingServiceStatus" not in second.status
    assert second.status["upgrade"]["phase"] == "Aborted"

    last = decide(given_up(), NOW)
    assert condition(last, "Stalled") == ("True", "UpgradeAborted")
    assert condition(last, "UpgradeInProgress") == ("False", "UpgradeAborted")
    assert condition(last, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(last, "ServeConfigApplied") == ("True", "Applied")
    assert condition(last, "Reconciling") is None
    assert not [action for action in last.actions if isinstance(action, Create)]
    assert last.status is not None
    stalled = find(last.status["conditions"], "Stalled")
    assert stalled is not None
    assert "ray.io/retry" in stalled["message"]


@pytest.mark.parametrize(
    ("unmoved_s", "status", "spec", "given"),
    [
        (299, "DEPLOY_FAILED", {}, False),
        (301, "DEPLOY_FAILED", {}, True),
        (11, "DEPLOY_FAILED", {"deploymentUnhealthySecondThreshold": 10}, True),
        (301, "UNHEALTHY", {}, True),
        (3000, "DEPLOYING", {}, False),  # a model that loads
        (1, "DEPLOYING", {"upgradeStrategy": {"progressDeadlineSeconds": 900}}, True),
        (1, "DEPLOYING", {"upgradeStrategy": {"progressDeadlineSeconds": 1100}}, False),
        (400, "DEPLOY_FAILED", {"deploymentUnhealthySecondThreshold": 0}, True),
    ],
)
def test_limits(unmoved_s: float, status: str, spec: dict[str, Any], given: bool) -> None:
    decision = decide(failing(unmoved_s, status, **spec), NOW)
    assert bool(remembered(decision)) == given
    if not given and status == "DEPLOY_FAILED":
        assert decision.status is not None
        assert decision.status["upgrade"]["deadline"] == to_rfc3339(NOW - unmoved_s + 300)
        assert decision.wake_at is not None
        assert decision.wake_at <= NOW + 1


def test_what_moves_is_not_given_up() -> None:
    snapshot = failing()
    service = copy.deepcopy(snapshot.service)
    service["status"]["progress"]["seen"] = ["another one before"]
    decision = decide(dataclasses.replace(snapshot, service=service), NOW)
    assert not remembered(decision)


def test_nothing_is_given_up_while_the_old_cluster_does_not_serve() -> None:
    decision = decide(dataclasses.replace(failing(), endpoint_slices=()), NOW)
    assert not remembered(decision)
    assert condition(decision, "Stalled") == ("True", "DeployFailed")


def test_the_good_config_may_fail_on_the_new_cluster_too() -> None:
    """A failed hot update is remembered; then the cluster spec is edited, and that fails as well."""
    snapshot = failing(serveConfigV2=OTHER_SERVE_CONFIG)
    service = copy.deepcopy(snapshot.service)
    bad, good = config_hash(OTHER_SERVE_CONFIG), config_hash()
    service["status"]["failedUpdate"] = {"configHash": bad, "rolledBackTo": good, "message": "it failed"}
    history = (revisions.build(rayservice(), 1), revisions.build(service, 2))
    snapshot = unmoved(dataclasses.replace(snapshot, service=service, revisions=history), 400)
    decision = decide(snapshot, NOW)
    assert remembered(decision)["clusterHash"]
    assert remembered(decision)["configHash"] == config_hash(OTHER_SERVE_CONFIG)
    gone = decide(after(snapshot, decision), NOW)
    assert [action.ref.name for action in gone.actions if isinstance(action, Delete)] == ["demo-two"]


def test_without_the_net_it_stays() -> None:
    decision = decide(annotated(failing(), rollback="false"), NOW)
    assert not remembered(decision)
    assert condition(decision, "Stalled") == ("True", "DeployFailed")


def test_another_spec_is_tried() -> None:
    decision = decide(edited(given_up(), rayClusterConfig=cluster_spec("ray:3")), NOW)
    assert not remembered(decision)
    assert decision.status is not None
    assert decision.status["pendingServiceStatus"]["rayClusterName"]
    assert condition(decision, "Stalled") is None


def test_the_spec_before_is_no_failure() -> None:
    decision = decide(edited(given_up(), rayClusterConfig=cluster_spec()), NOW)
    assert not remembered(decision)
    assert condition(decision, "Stalled") is None
    assert condition(decision, "UpgradeInProgress") == ("False", "NoPendingCluster")


def test_retry_tries_it_once_more() -> None:
    decision = decide(annotated(given_up(), retry="now"), NOW)
    assert not remembered(decision)
    assert decision.status is not None
    assert decision.status["pendingServiceStatus"]["rayClusterName"]


def test_more_replicas_are_no_other_spec() -> None:
    snapshot = given_up()
    service = copy.deepcopy(snapshot.service)
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] = 4
    service["metadata"]["generation"] = 2
    decision = decide(dataclasses.replace(snapshot, service=service), NOW)
    assert remembered(decision)
    assert condition(decision, "Stalled") == ("True", "UpgradeAborted")
