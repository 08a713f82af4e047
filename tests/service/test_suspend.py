"""Suspension: of the whole service (``spec.suspend``), and of its clusters (``rayClusterConfig.suspend``, Kueue)."""

from __future__ import annotations

import copy
import dataclasses

import jsonpatch
import pytest

from rayservice_operator.api import names
from rayservice_operator.core.decision import Create, Decision, Delete, JsonPatch
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    CONFIG,
    NOW,
    SERVE_CONFIG,
    after,
    annotated,
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


def suspended(view: Manifest, *, done: bool = True) -> Manifest:
    """The RayCluster with ``suspend`` set, and its pods gone if ``done``."""
    cluster = copy.deepcopy(view)
    cluster["spec"]["suspend"] = True
    kind = "RayClusterSuspended" if done else "RayClusterSuspending"
    cluster["status"] = {"state": "suspended" if done else "ready", "conditions": [{"type": kind, "status": "True"}]}
    return cluster


def patches(decision: Decision) -> dict[str, list[Manifest]]:
    """Operations on each RayCluster that concern its suspension."""
    found = {}
    for action in decision.actions:
        if isinstance(action, JsonPatch) and any(o["path"] == "/spec/suspend" for o in action.operations):
            found[action.ref.name] = list(action.operations)
    return found


def asked(snapshot: ServiceSnapshot, value: bool | None) -> ServiceSnapshot:
    """Somebody sets, or takes away, ``rayClusterConfig.suspend``."""
    config = {k: v for k, v in snapshot.service["spec"]["rayClusterConfig"].items() if k != "suspend"}
    return edited(snapshot, rayClusterConfig={**config, **({} if value is None else {"suspend": value})})


# --- of its clusters


def test_an_edit_reaches_the_cluster_once_and_back() -> None:
    snapshot = asked(serving(), True)
    (operations,) = patches(decide(snapshot, NOW)).values()
    cluster = jsonpatch.apply_patch(snapshot.clusters[0], operations)
    assert cluster["spec"]["suspend"] is True
    snapshot = dataclasses.replace(snapshot, clusters=(cluster,))
    assert patches(decide(snapshot, NOW)) == {}

    for back in (False, None):
        (operations,) = patches(decide(asked(snapshot, back), NOW)).values()
        assert jsonpatch.apply_patch(cluster, operations)["spec"]["suspend"] is False


def test_what_a_queue_wrote_into_the_cluster_stays() -> None:
    """Kueue suspends a new RayCluster as it is created and resumes it when there is quota; nobody may overrule it."""
    snapshot = serving()
    held_back = dataclasses.replace(snapshot, clusters=(suspended(snapshot.clusters[0]),))
    assert patches(decide(held_back, NOW)) == {}

    declared = asked(snapshot, True)
    (operations,) = patches(decide(declared, NOW)).values()
    admitted = jsonpatch.apply_patch(declared.clusters[0], operations)
    admitted["spec"]["suspend"] = False
    assert patches(decide(dataclasses.replace(declared, clusters=(admitted,)), NOW)) == {}


def test_a_cluster_is_built_suspended_where_that_is_asked() -> None:
    spec = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec(suspend=True)}
    snapshot = ServiceSnapshot(rayservice(spec), CONFIG)
    built = decide(after(snapshot, decide(snapshot, NOW)), NOW)
    (cluster,) = [a.obj for a in built.actions if isinstance(a, Create) and a.obj["kind"] == "RayCluster"]
    assert cluster["spec"]["suspend"] is True
    assert cluster["metadata"]["annotations"][names.SUSPEND_APPLIED] == "true"
    snapshot = dataclasses.replace(after(snapshot, built), clusters=(cluster,))
    assert patches(decide(snapshot, NOW)) == {}
    assert patches(decide(asked(snapshot, False), NOW)) != {}


def test_it_is_told_as_what_it_is() -> None:
    """Not ready, not failing, nothing to be done about; and the same cluster comes back."""
    snapshot = asked(serving(), True)
    going = dataclasses.replace(snapshot, clusters=(suspended(snapshot.clusters[0], done=False),))
    decision = decide(going, NOW)
    assert condition(decision, "Ready") == ("False", "RayClusterSuspended")
    assert condition(decision, "Reconciling") == ("True", "Suspended")
    assert "2 of its pods are still there" in message(decision, "Ready")

    rest = dataclasses.replace(
        after(going, decision),
        clusters=(suspended(snapshot.clusters[0]),),
        pods={},
        endpoint_slices=(),
        observations={},
    )
    decision = decide(rest, NOW)
    assert condition(decision, "Ready") == ("False", "RayClusterSuspended")
    assert "rayClusterConfig.suspend" in message(decision, "Ready")
    assert condition(decision, "Reconciling") is None
    assert condition(decision, "Stalled") is None
    assert condition(decision, "ServeConfigApplied") == ("False", "Pending")
    assert condition(decision, "UpgradeInProgress") == ("False", "NoPendingCluster")
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
    assert (decision.status["serviceStatus"], decision.status["numServeEndpoints"]) == ("", 0)
    assert not [a for a in decision.actions if isinstance(a, Create | Delete)]

    much_later = decide(after(rest, decision), NOW + 100_000)
    assert much_later.status == decision.status, "no clock runs out"
    assert much_later.wake_at is None


def test_nothing_is_recovered_that_is_suspended() -> None:
    """Not serving is what was asked for, however long it takes, with ``ray.io/auto-recovery`` too."""
    snapshot = annotated(serving(), **{"auto-recovery": "true"})
    snapshot = after(snapshot, decide(snapshot, NOW))
    rest = dataclasses.replace(
        asked(snapshot, True), clusters=(suspended(snapshot.clusters[0]),), pods={}, endpoint_slices=(), observations={}
    )
    for seconds in (1, 1_000, 10_000, 100_000):
        decision = decide(rest, NOW + seconds)
        rest = after(rest, decision)
        assert condition(decision, "Ready") == ("False", "RayClusterSuspended")
        assert condition(decision, "Stalled") is None
        assert decision.status is not None
        assert not decision.status.get("recovery")
        assert "pendingServiceStatus" not in decision.status


def test_a_new_cluster_is_not_begun_meanwhile_and_is_afterwards() -> None:
    snapshot = serving()
    rest = dataclasses.replace(
        edited(snapshot, rayClusterConfig=cluster_spec("ray:2", suspend=True)),
        clusters=(suspended(snapshot.clusters[0]),),
        pods={},
        endpoint_slices=(),
        observations={},
    )
    decision = decide(rest, NOW)
    assert decision.status is not None
    assert "pendingServiceStatus" not in decision.status
    assert condition(decision, "UpgradeInProgress") == ("True", "RayClusterSuspended")
    begun = decide(asked(after(rest, decision), False), NOW)
    assert begun.status is not None
    assert "pendingServiceStatus" in begun.status


def upgrading(**pending: object) -> ServiceSnapshot:
    """A service whose second cluster is there; its applications have failed."""
    new = raycluster("demo-two", cluster_spec("ray:2"))
    snapshot = serving(spec={"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:2")})
    service = copy.deepcopy(snapshot.service)
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two"}
    service["status"]["upgrade"] = {"to": "demo-two", "started": to_rfc3339(NOW - 100), **pending}
    head = pod(new, "head", "10.0.1.1", serve=False)
    failed = observation(new, application("DEPLOY_FAILED", running=0), pushed=config_hash(), proxies={})
    return dataclasses.replace(
        snapshot,
        service=service,
        clusters=(*snapshot.clusters, new),
        pods={**snapshot.pods, "demo-two": (head,)},
        observations={**snapshot.observations, "demo-two": failed},
    )


def test_both_clusters_of_an_upgrade_are_suspended() -> None:
    """Comparable operators suspend the pending one only, and the active one runs on for ever (kuberay#4841)."""
    assert set(patches(decide(asked(upgrading(), True), NOW))) == {"demo-one", "demo-two"}


def test_no_time_counts_while_the_new_cluster_waits_for_its_quota() -> None:
    snapshot = upgrading()
    snapshot.service["spec"]["upgradeStrategy"] = {"type": "NewCluster", "progressDeadlineSeconds": 60}
    (old, new) = snapshot.clusters
    queued = dataclasses.replace(snapshot, clusters=(old, suspended(new)), pods={"demo-one": snapshot.pods["demo-one"]})
    decision = decide(queued, NOW)
    assert decision.status is not None
    assert decision.status["upgrade"]["phase"] == "Suspended"
    assert "failedUpdate" not in decision.status
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(decision, "Reconciling") == ("True", "Suspended")

    admitted = dataclasses.replace(queued, clusters=(old, new))
    resumed = decide(after(admitted, decision), NOW + 1000)
    assert resumed.status is not None
    assert "failedUpdate" not in resumed.status
    late = decide(after(admitted, resumed), NOW + 1061)
    assert late.status is not None
    assert "failedUpdate" in late.status


def test_no_time_counts_against_the_first_cluster_either() -> None:
    cluster = raycluster("demo-one")
    status = {"conditions": [], "pendingServiceStatus": {"rayClusterName": "demo-one"}, "observedGeneration": 1}
    service = rayservice(status=status, annotations={names.INITIALIZING_TIMEOUT: "5m"})
    snapshot = ServiceSnapshot(service, CONFIG, clusters=(suspended(cluster),))
    queued = decide(snapshot, NOW)
    assert condition(queued, "Ready") == ("False", "RayClusterSuspended")
    still = decide(after(snapshot, queued), NOW + 10_000)
    assert condition(still, "Ready") == ("False", "RayClusterSuspended")
    assert condition(still, "Stalled") is None
    admitted = dataclasses.replace(after(snapshot, still), clusters=(cluster,))
    began = decide(admitted, NOW + 10_000)
    assert condition(began, "Ready") == ("False", "Initializing")
    assert condition(decide(after(admitted, began), NOW + 10_301), "Stalled") == ("True", "InitializingTimeout")


# --- of the whole service, whatever state it is in


def refused(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    return edited(snapshot, serveConfigV2="applications: 5")


def hung(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    (cluster,) = snapshot.clusters
    seen = observation(cluster, application(), seen_at=NOW - 600, error="timeout", failing_since=NOW - 598)
    return dataclasses.replace(snapshot, observations={name_of(cluster): seen})


def rolled_back(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    service = copy.deepcopy(snapshot.service)
    service["status"]["failedUpdate"] = {"configHash": "x", "rolledBackTo": config_hash(), "message": "failed"}
    return dataclasses.replace(snapshot, service=service)


STATES = {
    "nothing yet": ServiceSnapshot(rayservice(), CONFIG),
    "never valid": refused(ServiceSnapshot(rayservice(), CONFIG)),
    "serving": serving(),
    "invalid edit": refused(serving()),
    "hung head": hung(serving()),
    "no head": serving(pods={"demo-one": ()}, endpoint_slices=(), observations={}),
    "upgrading": upgrading(),
    "rolled back": rolled_back(serving()),
    "clusters suspended": asked(serving(), True),
}


ENDING = [("True", "SuspendComplete"), ("False", "RayServiceResumed")]


@pytest.mark.parametrize("name", STATES)
def test_suspend_from_any_state_is_committed_first_and_takes_everything(name: str) -> None:
    snapshot = edited(STATES[name], suspend=True)
    first = decide(snapshot, NOW)
    assert first.actions == (), "the intention is stored before anything is deleted"
    assert condition(first, "Suspending") == ("True", "SuspendInProgress")
    assert condition(first, "Ready") == ("False", "SuspendInProgress")
    assert condition(first, "Stalled") is None

    taken_back = edited(after(snapshot, first), suspend=False)
    second = decide(taken_back, NOW)
    assert {a.ref.name for a in second.actions if isinstance(a, Delete)} == {name_of(c) for c in snapshot.clusters}
    assert second.observe == ()

    gone = dataclasses.replace(after(taken_back, second), clusters=(), pods={}, endpoint_slices=(), observations={})
    told = [condition(second, "Suspended")]
    while told[-1] != ("False", "RayServiceResumed"):
        decision = decide(gone, NOW)
        told.append(condition(decision, "Suspended"))
        gone = after(gone, decision)
    assert told == [*told[: -len(ENDING)], *ENDING]
    assert set(told[: -len(ENDING)]) <= {("False", "SuspendInProgress")}
    built = decide(gone, NOW)
    assert built.status is not None
    assert ("pendingServiceStatus" in built.status) != (condition(built, "Ready") == ("False", "ValidationFailed"))
