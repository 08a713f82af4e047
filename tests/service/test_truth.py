"""The status tells no lie: one test for each that a comparable operator tells.

The names P2 to P9 are those of probes of KubeRay 1.7's reconciler, each of which proved one.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.decision import Decision
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import PushResult, ServeObservation
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    SERVE_CONFIG,
    after,
    application,
    cluster_spec,
    condition,
    config_hash,
    edited,
    message,
    observation,
    pod,
    raycluster,
    rayservice,
    serving,
)

TWO_APPS = SERVE_CONFIG + SERVE_CONFIG.replace("applications:", "").replace("greeter", "other").replace(
    "route_prefix: /", "route_prefix: /other"
)


def say(decision: Decision) -> tuple[str, str, Any]:
    """Ready, the deprecated word for it, and the count: they must tell the same story."""
    assert decision.status is not None
    ready = condition(decision, "Ready")
    assert ready is not None
    return ready[0], decision.status["serviceStatus"], decision.status["numServeEndpoints"]


# --- the head, the dashboard


def test_head_and_endpoints_gone() -> None:
    """P3: Ready stayed True with one endpoint, because the pass ended at the first error."""
    snapshot = serving(pods={"demo-one": ()}, endpoint_slices=(), observations={})
    assert say(decide(snapshot, NOW)) == ("False", "", 0)
    assert condition(decide(snapshot, NOW), "Ready") == ("False", "HeadPodNotReady")


@pytest.mark.parametrize(
    "error", ["no answer within 2 s", "cannot connect to the dashboard: Connection refused", "HTTP 500: GCS is away"]
)
def test_dashboard_that_hangs_refuses_or_fails(error: str) -> None:
    """P4: Ready=True and applications RUNNING, for ever. How it fails makes no difference: nobody knows."""
    cluster = raycluster("demo-one")

    def seen_before(seconds: float) -> Decision:
        seen = observation(cluster, application(), seen_at=NOW - seconds, error=error, failing_since=NOW - seconds + 2)
        return decide(serving(observations={"demo-one": seen}), NOW)

    assert say(seen_before(3)) == ("True", "Running", 2), "one look that failed is no news"
    late = seen_before(60)
    assert say(late) == ("Unknown", "", 2)
    for told in ("Ready", "ApplicationsHealthy"):
        assert condition(late, told) == ("Unknown", "ObservationStale")
        assert "60 s ago" in message(late, told)
        assert error in message(late, told)
    assert late.wake_at == NOW + 900, "nothing but serviceUnhealthySecondThreshold is waited for"
    assert seen_before(3).wake_at is not None, "the moment at which it turns stale"


def test_dashboard_down_and_no_endpoints() -> None:
    """P4: what is known for sure goes before what is not known."""
    seen = observation(raycluster("demo-one"), application(), seen_at=NOW - 60, error="timeout")
    decision = decide(serving(observations={"demo-one": seen}, endpoint_slices=()), NOW)
    assert condition(decision, "Ready") == ("False", "ZeroServeEndpoints")


# --- applications


def test_failed_application_with_endpoints() -> None:
    """P9: Ready was «endpoints > 0» and nothing else."""
    seen = observation(raycluster("demo-one"), application("DEPLOY_FAILED", running=0))
    decision = decide(serving(observations={"demo-one": seen}), NOW)
    assert say(decision) == ("False", "", 2)


def two(*applications: str, pushed_at: float | None = None, good: bool = True) -> Decision:
    """Of a service that declares greeter and other; only ``applications`` are there."""
    apps = [application(name=name, text=TWO_APPS) for name in applications]
    push = None if pushed_at is None else PushResult(config_hash(TWO_APPS), "", "accepted", pushed_at)
    seen = observation(raycluster("demo-one"), *apps, push=push)
    spec = {"serveConfigV2": TWO_APPS, "rayClusterConfig": cluster_spec()}
    snapshot = serving(spec=spec, observations={"demo-one": seen})
    service = copy.deepcopy(snapshot.service)
    service["status"]["activeServiceStatus"]["appliedConfigHash"] = config_hash(TWO_APPS)
    first = decide(dataclasses.replace(snapshot, service=service), NOW)
    history = tuple(a.obj for a in first.actions if getattr(a, "obj", {}).get("kind") == "ControllerRevision")
    service["status"]["applied"] = {"goodConfigHash": config_hash(TWO_APPS)} if good else {}
    return decide(dataclasses.replace(snapshot, service=service, revisions=history), NOW)


def test_one_application_of_two_is_missing() -> None:
    """P14: deleted out of band, and Ready stayed True."""
    assert condition(two("greeter", "other"), "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(two("greeter", "other"), "ApplicationsHealthy") == ("True", "AllRunning")
    decision = two("greeter")
    assert condition(decision, "Ready") == ("False", "ApplicationsNotRunning")
    assert condition(decision, "ApplicationsHealthy") == ("False", "Missing")
    assert condition(decision, "Reconciling") == ("True", "DeployingApplications")
    for told in ("Ready", "ApplicationsHealthy"):
        assert "other is MISSING" in message(decision, told)
    assert decision.observe[0].push is not None, "and it is deployed again"


def test_all_applications_are_missing() -> None:
    decision = two()
    assert condition(decision, "Ready") == ("False", "ApplicationsNotRunning")
    assert condition(decision, "ApplicationsHealthy") == ("False", "NoApplications")


def test_an_application_that_is_added_is_no_outage() -> None:
    """Not before Ray lists it, and not before it runs: nobody was promised that it answers."""
    just_pushed = two("greeter", pushed_at=NOW - 0.6, good=False)
    assert condition(just_pushed, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(just_pushed, "ApplicationsHealthy") == ("False", "Deploying")
    later = two("greeter", pushed_at=NOW - 20, good=False)
    assert condition(later, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(later, "ApplicationsHealthy") == ("False", "Missing")


# --- edits


BAD = "applications: 5"


def test_invalid_edit_of_a_serving_service() -> None:
    """P8: Ready=False while serviceStatus said Running and requests were answered; and nothing healed any more."""
    snapshot = serving()
    revision = next(a.obj for a in decide(snapshot, NOW).actions if getattr(a, "obj", {}).get("kind") != "Service")  # type: ignore[union-attr]
    refused = decide(dataclasses.replace(edited(snapshot, serveConfigV2=BAD), revisions=(revision,)), NOW)
    assert say(refused) == ("True", "Running", 2)
    assert condition(refused, "Stalled") == ("True", "ValidationFailed")
    assert "last valid spec stays in force" in message(refused, "Stalled")
    assert condition(refused, "Reconciling") is None
    assert refused.observe, "its head is looked at as before"


def test_invalid_from_the_start_then_fixed() -> None:
    """P2: Ready kept ValidationFailed, UpgradeInProgress asked for a bug report, the timeout was never armed."""
    spec = {"serveConfigV2": BAD, "rayClusterConfig": cluster_spec()}
    snapshot = ServiceSnapshot(rayservice(spec, annotations={names.INITIALIZING_TIMEOUT: "5m"}), serving().config)
    refused = decide(snapshot, NOW)
    assert say(refused) == ("False", "", 0)
    assert condition(refused, "Ready") == ("False", "ValidationFailed")
    assert refused.status is not None
    assert refused.status["observedGeneration"] == 1, "P2: it stayed 0"

    fixed = decide(edited(after(snapshot, refused), serveConfigV2=SERVE_CONFIG), NOW)
    assert condition(fixed, "Ready") == ("False", "Initializing")
    assert condition(fixed, "UpgradeInProgress") == ("False", "Initializing")
    assert condition(fixed, "Stalled") is None
    assert "must be a list" not in str(fixed.status)
    began = edited(after(snapshot, fixed), serveConfigV2=SERVE_CONFIG)
    assert condition(decide(began, NOW + 301), "Ready") == ("False", "InitializingTimeout")


@pytest.mark.parametrize(
    "correction",
    [
        {"rayClusterConfig": cluster_spec("ray:2")},
        {"serveConfigV2": SERVE_CONFIG.replace("hello", "hi")},
    ],
    ids=["cluster", "serve config"],
)
def test_a_terminal_timeout_is_revived_by_a_corrected_spec(correction: Manifest) -> None:
    """kuberay#4138: one-shot and for ever, whatever was corrected."""
    cluster = raycluster("demo-one")
    status = {"conditions": [], "pendingServiceStatus": {"rayClusterName": "demo-one"}, "observedGeneration": 1}
    snapshot = ServiceSnapshot(
        rayservice(status=status, annotations={names.INITIALIZING_TIMEOUT: "5m"}),
        serving().config,
        clusters=(cluster,),
        pods={"demo-one": (pod(cluster, "head", "10.0.0.1", serve=False),)},
    )
    late = decide(after(snapshot, decide(snapshot, NOW)), NOW + 301)
    assert condition(late, "Stalled") == ("True", "InitializingTimeout")
    corrected = decide(edited(after(snapshot, late), **correction), NOW + 302)
    assert condition(corrected, "Ready") == ("False", "Initializing")
    assert condition(corrected, "Stalled") is None
    assert condition(corrected, "Reconciling") is not None


# --- two clusters


def upgrading(seen: ServeObservation) -> Decision:
    """A service whose next cluster is coming up, with this news of the active one."""
    spec = {"serveConfigV2": SERVE_CONFIG.replace("hello", "hi"), "rayClusterConfig": cluster_spec("ray:2")}
    new = raycluster("demo-two", cluster_spec("ray:2"))
    snapshot = serving(spec=spec, observations={"demo-one": seen})
    service = copy.deepcopy(snapshot.service)
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two"}
    pods = {**snapshot.pods, "demo-two": (pod(new, "head", "10.0.1.1", serve=False),)}
    clusters = (*snapshot.clusters, new)
    return decide(dataclasses.replace(snapshot, service=service, clusters=clusters, pods=pods), NOW)


def test_applications_of_the_old_cluster_are_told_during_an_upgrade() -> None:
    """P5: they were wiped."""
    decision = upgrading(observation(raycluster("demo-one"), application()))
    assert decision.status is not None
    told = decision.status["activeServiceStatus"]["applicationStatuses"]["greeter"]
    assert (told["status"], told["serveDeploymentStatuses"]["Greeter"]["replicasReady"]) == ("RUNNING", 1)
    assert say(decision) == ("True", "Running", 2)


def test_applications_of_the_old_cluster_are_current_during_an_upgrade() -> None:
    """It may fail meanwhile, and that its successor is on the way is no comfort to those who ask it."""
    decision = upgrading(observation(raycluster("demo-one"), application("UNHEALTHY", running=0)))
    assert decision.status is not None
    told = decision.status["activeServiceStatus"]["applicationStatuses"]["greeter"]
    assert (told["status"], told["serveDeploymentStatuses"]["Greeter"]["replicasReady"]) == ("UNHEALTHY", 0)
    assert say(decision) == ("False", "", 2)
    assert condition(decision, "ApplicationsHealthy") == ("False", "Unhealthy")


def test_a_hung_old_cluster_is_told_during_an_upgrade() -> None:
    stale = observation(raycluster("demo-one"), application(), seen_at=NOW - 60, error="timeout")
    assert condition(upgrading(stale), "Ready") == ("Unknown", "ObservationStale")
