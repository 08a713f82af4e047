"""Decisions about one RayService, state by state."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Apply, Create, Decision, Delete, Failure, JsonPatch, MergePatch
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.observation import PushResult
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import endpoints, hashing, revisions
from rayservice_operator.service.context import ClusterView, Target
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    CONFIG,
    NOW,
    OTHER_SERVE_CONFIG,
    SERVE_CONFIG,
    after,
    application,
    cluster_spec,
    condition,
    config_hash,
    edited,
    endpoint_slice,
    message,
    observation,
    pod,
    raycluster,
    rayservice,
    serving,
)


def created(decision: Decision, kind: str) -> list[Manifest]:
    return [a.obj for a in decision.actions if isinstance(a, Create | Apply) and a.obj["kind"] == kind]


# --- from nothing to serving


def test_the_role_is_stored_before_the_cluster_is_built() -> None:
    snapshot = ServiceSnapshot(rayservice(), CONFIG)
    first = decide(snapshot, NOW)
    assert first.actions == ()
    assert first.status is not None
    name = first.status["pendingServiceStatus"]["rayClusterName"]
    assert first.status["observedGeneration"] == 1
    assert condition(first, "Reconciling") == ("True", "CreatingCluster")

    second = decide(after(snapshot, first), NOW)
    (cluster,) = created(second, "RayCluster")
    assert name_of(cluster) == name
    assert cluster["spec"] == cluster_spec()
    assert len(created(second, "ControllerRevision")) == 1


def test_tracking_keys_stay_on_the_users_object() -> None:
    """Argo CD prunes an object that carries its tracking id and is not in Git (argo-cd#8683)."""
    snapshot = ServiceSnapshot(
        rayservice(
            annotations={"argocd.argoproj.io/tracking-id": "x", "team": "ml"},
            labels={"app.kubernetes.io/instance": "x"},
        ),
        CONFIG,
    )
    (cluster,) = created(decide(after(snapshot, decide(snapshot, NOW)), NOW), "RayCluster")
    assert cluster["metadata"]["annotations"]["team"] == "ml"
    assert "argocd.argoproj.io/tracking-id" not in cluster["metadata"]["annotations"]
    assert "app.kubernetes.io/instance" not in cluster["metadata"]["labels"]


def starting() -> ServiceSnapshot:
    """A service whose first cluster has a head that answers, with nothing applied yet."""
    cluster = raycluster("demo-one")
    head = pod(cluster, "head", "10.0.0.1", serve=False)
    status = {"conditions": [], "pendingServiceStatus": {"rayClusterName": "demo-one"}, "observedGeneration": 1}
    return ServiceSnapshot(rayservice(status=status), CONFIG, clusters=(cluster,), pods={"demo-one": (head,)})


def test_the_config_is_pushed_before_the_api_was_ever_seen() -> None:
    (target,) = decide(starting(), NOW).observe
    assert target.head_ip == "10.0.0.1"
    assert target.push is not None
    assert target.push.config_hash == config_hash()
    assert target.fast


def test_a_cluster_that_was_deleted_before_the_status_told_of_it_gets_a_successor_of_another_name() -> None:
    """Its pods are still there; under the same name they would share labels and head service with the new ones."""
    snapshot = dataclasses.replace(starting(), clusters=())
    decision = decide(snapshot, NOW)
    assert decision.status is not None
    assert decision.status["pendingServiceStatus"]["rayClusterName"] != "demo-one"
    assert not [action for action in decision.actions if isinstance(action, Create)]

    never_built = dataclasses.replace(snapshot, pods={"demo-one": ()})
    created = [action for action in decide(never_built, NOW).actions if isinstance(action, Create)]
    assert [name_of(action.obj) for action in created if action.obj["kind"] == "RayCluster"] == ["demo-one"]


def test_promotion_is_one_status_write_when_requests_get_through() -> None:
    snapshot = starting()
    (cluster,) = snapshot.clusters
    head = pod(cluster, "head", "10.0.0.1", serve=True)
    running = {"demo-one": observation(cluster, application(), pushed=config_hash(), proxies={"10.0.0.1": True})}
    without_endpoints = dataclasses.replace(snapshot, pods={"demo-one": (head,)}, observations=running)
    assert "activeServiceStatus" not in (decide(without_endpoints, NOW).status or {})

    decision = decide(dataclasses.replace(without_endpoints, endpoint_slices=(endpoint_slice(head),)), NOW)
    assert decision.actions == ()
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
    assert "pendingServiceStatus" not in decision.status
    assert decision.status["serviceStatus"] == "Running"
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(decision, "UpgradeInProgress") == ("False", "NoPendingCluster")
    assert condition(decision, "Reconciling") is None


def test_pods_get_the_serve_label_when_their_proxy_answers() -> None:
    snapshot = starting()
    (cluster,) = snapshot.clusters
    head, worker = pod(cluster, "head", "10.0.0.1", serve=False), pod(cluster, "1", "10.0.0.2", serve=False)
    seen = observation(
        cluster, application("DEPLOYING"), pushed=config_hash(), proxies={"10.0.0.1": True, "10.0.0.2": False}
    )
    decision = decide(
        dataclasses.replace(snapshot, pods={"demo-one": (head, worker)}, observations={"demo-one": seen}), NOW
    )
    (patch,) = [a for a in decision.actions if isinstance(a, MergePatch)]
    assert patch.ref.name == name_of(head)
    assert patch.patch == {"metadata": {"labels": {names.SERVE: "true"}}}


def test_services_point_to_the_first_cluster_while_it_comes_up() -> None:
    services = created(decide(starting(), NOW), "Service")
    assert sorted(name_of(s) for s in services) == ["demo-head-svc", "demo-serve-svc"]
    serve = next(s for s in services if name_of(s) == "demo-serve-svc")
    assert serve["spec"]["selector"] == {names.CLUSTER: "demo-one", names.SERVE: "true"}
    assert [(p["name"], p["port"]) for p in serve["spec"]["ports"]] == [("serve", 8000)]


# --- steady


def settled(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    """The snapshot after its own decisions were carried out until nothing is left to do."""
    for _ in range(5):
        decision = decide(snapshot, NOW)
        children = {(c["kind"], name_of(c)): c for c in snapshot.children}
        history = {name_of(r): r for r in snapshot.revisions}
        for action in decision.actions:
            assert isinstance(action, Apply), action
            known = history if action.obj["kind"] == "ControllerRevision" else children
            known[name_of(action.obj) if known is history else (action.obj["kind"], name_of(action.obj))] = action.obj
        snapshot = dataclasses.replace(
            after(snapshot, decision), children=tuple(children.values()), revisions=tuple(history.values())
        )
        if not decision.actions and decision.status == snapshot.service["status"]:
            return snapshot
    raise AssertionError("did not settle")


def test_a_steady_service_is_written_nothing() -> None:
    snapshot = settled(serving())
    later = NOW + 3600
    seen = {n: dataclasses.replace(o, seen_at=later) for n, o in snapshot.observations.items()}
    decision = decide(dataclasses.replace(snapshot, observations=seen), later)
    assert decision.actions == ()
    assert decision.status == snapshot.service["status"]
    assert decision.notes == ()
    assert decision.wake_at is None
    assert not decision.observe[0].fast
    assert decision.observe[0].push is None


def test_decide_is_pure() -> None:
    snapshot = serving()
    before = copy.deepcopy(snapshot)
    assert decide(snapshot, NOW) == decide(snapshot, NOW)
    assert snapshot == before


def test_hot_update_pushes_and_keeps_the_cluster() -> None:
    spec = {"serveConfigV2": OTHER_SERVE_CONFIG, "rayClusterConfig": cluster_spec()}
    decision = decide(serving(spec=spec), NOW)
    assert not created(decision, "RayCluster")
    push = decision.observe[0].push
    assert push is not None
    assert push.config_hash == config_hash(OTHER_SERVE_CONFIG)
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints"), "it answers with the old config meanwhile"
    assert condition(decision, "ServeConfigApplied") == ("False", "Pending")
    assert condition(decision, "Reconciling") == ("True", "PushingServeConfig")


@pytest.mark.parametrize(("before", "ready"), [("RUNNING", "True"), ("DEPLOY_FAILED", "False")])
def test_applications_of_the_config_before_say_nothing_of_the_new_one(before: str, ready: str) -> None:
    """Taken by Ray, not looked at since: neither done nor failed, whatever the former applications were."""
    spec = {"serveConfigV2": OTHER_SERVE_CONFIG, "rayClusterConfig": cluster_spec()}
    seen = observation(raycluster("demo-one"), application(before, running=int(before == "RUNNING")))
    push = PushResult(config_hash(OTHER_SERVE_CONFIG), "", "accepted", NOW - 0.1)
    seen = dataclasses.replace(seen, push=push)
    decision = decide(serving(spec=spec, observations={"demo-one": seen}), NOW)
    assert condition(decision, "Ready")[0] == ready
    assert condition(decision, "Stalled") is None
    assert condition(decision, "Reconciling") == ("True", "DeployingApplications")
    assert condition(decision, "ServeConfigApplied") == ("True", "Applied")

    looked = dataclasses.replace(seen, seen_at=push.at)
    decision = decide(serving(spec=spec, observations={"demo-one": looked}), NOW)
    failed = before == "DEPLOY_FAILED"
    assert condition(decision, "Stalled") == (("True", "DeployFailed") if failed else None)
    assert condition(decision, "Reconciling") is None


def test_an_application_under_another_name_is_no_outage_before_ray_knows_it() -> None:
    renamed = {
        "serveConfigV2": SERVE_CONFIG.replace("name: greeter", "name: other"),
        "rayClusterConfig": cluster_spec(),
    }
    assert condition(decide(serving(spec=renamed), NOW), "Ready") == ("True", "NonZeroServeEndpoints")


def test_a_failure_is_one_event() -> None:
    seen = observation(raycluster("demo-one"), application("DEPLOY_FAILED", running=0))
    notes = decide(serving(observations={"demo-one": seen}), NOW).notes
    assert [note.reason for note in notes].count("DeployFailed") == 1


def test_a_config_that_comes_back_is_pushed_again() -> None:
    """A, B, A: the second push of A is another attempt than the first."""
    cluster = raycluster("demo-one")
    seen = observation(cluster, application(), pushed=config_hash(OTHER_SERVE_CONFIG))
    push = decide(serving(observations={"demo-one": seen}), NOW).observe[0].push
    assert push is not None
    assert push.config_hash == config_hash()
    assert push.attempt


def test_an_app_deleted_behind_our_back_is_deployed_again() -> None:
    """kuberay P14: nobody notices there, and Ready stays True."""
    cluster = raycluster("demo-one")
    decision = decide(serving(observations={"demo-one": observation(cluster)}), NOW)
    push = decision.observe[0].push
    assert push is not None
    assert push.config_hash == config_hash()
    assert condition(decision, "Ready") == ("False", "ApplicationsNotRunning")


def test_no_push_without_an_answer_of_the_api() -> None:
    cluster = raycluster("demo-one")
    seen = observation(cluster, error="connection refused", failing_since=NOW - 1)
    assert decide(serving(observations={"demo-one": seen}), NOW).observe[0].push is None


# --- the status does not lie


def test_failed_app_is_not_ready() -> None:
    cluster = raycluster("demo-one")
    seen = observation(cluster, application("DEPLOY_FAILED", running=0))
    decision = decide(serving(observations={"demo-one": seen}), NOW)
    assert condition(decision, "Ready") == ("False", "ApplicationsNotRunning")
    assert condition(decision, "ApplicationsHealthy") == ("False", "DeployFailed")
    assert decision.status is not None
    assert decision.status["serviceStatus"] == ""
    assert "ApplicationsNotRunning" in {n.reason for n in decision.notes}


def test_unhealthy_app_is_not_stalled_because_ray_goes_on_trying() -> None:
    cluster = raycluster("demo-one")
    seen = observation(cluster, application("UNHEALTHY", running=0))
    decision = decide(serving(observations={"demo-one": seen}), NOW)
    assert condition(decision, "Ready") == ("False", "ApplicationsNotRunning")
    assert condition(decision, "Stalled") is None
    assert condition(decision, "Reconciling") == ("True", "ApplicationUnhealthy")


def test_app_that_serves_on_while_it_updates_stays_ready() -> None:
    cluster = raycluster("demo-one")
    decision = decide(
        serving(observations={"demo-one": observation(cluster, application("DEPLOYING", running=1))}), NOW
    )
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")


@pytest.mark.parametrize(
    ("state", "ready"), [("UPDATING", "True"), ("PENDING_MIGRATION", "True"), ("STARTING", "False")]
)
def test_hot_update_of_the_only_replica_is_no_outage(state: str, ready: str) -> None:
    """Ray says UPDATING while a replica takes over its user_config; its requests wait for that moment."""
    cluster = raycluster("demo-one")
    seen = observation(cluster, application("DEPLOYING", state=state))
    decision = decide(serving(observations={"demo-one": seen}), NOW)
    assert condition(decision, "Ready")[0] == ready


def test_head_gone_is_not_ready() -> None:
    """kuberay P3: head pod and endpoints gone, Ready True."""
    snapshot = serving()
    workers = tuple(p for p in snapshot.pods["demo-one"] if p["metadata"]["labels"][names.NODE_TYPE] == names.WORKER)
    decision = decide(dataclasses.replace(snapshot, pods={"demo-one": workers}), NOW)
    assert condition(decision, "Ready") == ("False", "HeadPodNotReady")


def test_stale_observation_is_unknown_and_leaves_endpoints_alone() -> None:
    cluster = raycluster("demo-one")
    seen = observation(cluster, application(), seen_at=NOW - 60, error="timeout", failing_since=NOW - 58, proxies={})
    decision = decide(serving(observations={"demo-one": seen}), NOW)
    assert condition(decision, "Ready") == ("Unknown", "ObservationStale")
    assert condition(decision, "ApplicationsHealthy") == ("Unknown", "ObservationStale")
    assert not [a for a in decision.actions if isinstance(a, MergePatch)]


def test_no_endpoints_is_not_ready() -> None:
    assert condition(decide(serving(endpoint_slices=()), NOW), "Ready") == ("False", "ZeroServeEndpoints")


def test_restarted_operator_keeps_the_news_until_its_first_look() -> None:
    snapshot = settled(serving())
    blind = dataclasses.replace(snapshot, observations={})
    decision = decide(blind, NOW)
    assert decision.status == snapshot.service["status"]
    assert decision.notes == ()


def test_restarted_operator_keeps_no_news_of_another_serve_config() -> None:
    """Edited while it was away: what was told of the former config is not told of the new one."""
    snapshot = serving()
    settled = after(snapshot, decide(snapshot, NOW))
    service = copy.deepcopy(settled.service)
    service["spec"]["serveConfigV2"] = OTHER_SERVE_CONFIG
    service["metadata"]["generation"] = 2
    decision = decide(dataclasses.replace(settled, service=service, observations={}), NOW)
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(decision, "Reconciling") is not None
    assert condition(decision, "ServeConfigApplied") == ("False", "Pending")


def test_restarted_operator_does_not_say_that_an_edit_is_done_before_its_first_look() -> None:
    """Even one whose serve config is the one that was pushed last, as far as is known: another may have been pushed in
    between, by a process that ended before it could say so (SIM_SEED=3057)."""
    snapshot = settled(serving())
    service = copy.deepcopy(snapshot.service)
    service["metadata"]["generation"] = 3
    blind = dataclasses.replace(snapshot, service=service, observations={})
    decision = decide(blind, NOW)
    assert condition(decision, "Reconciling") == ("True", "StartingServe")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    again = after(blind, decision)
    assert condition(decide(again, NOW + 1), "Reconciling") == ("True", "StartingServe")
    seen = dataclasses.replace(again, observations=snapshot.observations)
    assert condition(decide(seen, NOW + 2), "Reconciling") is None


def test_restarted_operator_keeps_the_news_of_a_head_that_came_by_an_upgrade() -> None:
    """Ready has been True since before the upgrade, so its transition is older than the head."""
    snapshot = settled(_headed(serving(), "demo-one-head"))
    (head, *others) = snapshot.pods["demo-one"]
    head["metadata"]["creationTimestamp"] = to_rfc3339(NOW + 3600)
    blind = dataclasses.replace(snapshot, observations={}, pods={"demo-one": (head, *others)})
    decision = decide(blind, NOW + 7200)
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")


def test_news_of_a_former_head_is_not_kept() -> None:
    snapshot = settled(_headed(serving(), "demo-one-former"))
    decision = decide(dataclasses.replace(snapshot, observations={}), NOW)
    assert condition(decision, "Ready") == ("Unknown", "ObservationStale")


def _headed(snapshot: ServiceSnapshot, pod_name: str) -> ServiceSnapshot:
    """The snapshot with that head pod in the RayCluster's status."""
    (cluster,) = copy.deepcopy(snapshot.clusters)
    cluster["status"]["head"] = {"podName": pod_name}
    return dataclasses.replace(snapshot, clusters=(cluster,))


# --- bad input


def bad_edit(spec: Manifest) -> ServiceSnapshot:
    snapshot = settled(serving())
    service = copy.deepcopy(snapshot.service)
    service["spec"] = spec
    service["metadata"]["generation"] = 2
    return dataclasses.replace(snapshot, service=service)


def test_never_valid_spec_says_why_and_builds_nothing() -> None:
    spec = {"serveConfigV2": "applications: [", "rayClusterConfig": cluster_spec()}
    snapshot = ServiceSnapshot(rayservice(spec), CONFIG)
    decision = decide(snapshot, NOW)
    assert decision.actions == ()
    assert condition(decision, "Ready") == ("False", "ValidationFailed")
    assert condition(decision, "Stalled") == ("True", "ValidationFailed")
    assert decision.status is not None
    assert "spec.serveConfigV2" in find(decision.status["conditions"], "Stalled")["message"]  # type: ignore[index]
    assert [n.reason for n in decision.notes] == ["InvalidRayServiceSpec"]
    assert decide(after(snapshot, decision), NOW + 60).notes == (), "one event, not one a pass"


@pytest.mark.parametrize(
    "spec",
    [
        {"serveConfigV2": "applications: [", "rayClusterConfig": cluster_spec()},
        {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": {"workerGroupSpecs": []}},
        {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec(groups=("a", "a"))},
        {"serveConfigV2": SERVE_CONFIG},
    ],
    ids=["yaml", "no head", "duplicate groups", "no cluster"],
)
def test_bad_edit_of_a_serving_service_changes_nothing_but_says_so(spec: Manifest) -> None:
    decision = decide(bad_edit(spec), NOW)
    assert decision.actions == ()
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(decision, "Stalled") == ("True", "ValidationFailed")
    assert decision.status is not None
    assert decision.status["observedGeneration"] == 2
    assert decision.status["serviceStatus"] == "Running"
    assert len(decision.observe) == 1, "it keeps being looked after"


def test_serving_service_with_a_bad_edit_still_heals() -> None:
    snapshot = bad_edit({"serveConfigV2": "][", "rayClusterConfig": cluster_spec()})
    cluster = raycluster("demo-one")
    decision = decide(dataclasses.replace(snapshot, observations={"demo-one": observation(cluster)}), NOW)
    assert decision.observe[0].push is not None
    assert decision.observe[0].push.config_hash == config_hash()


# --- upgrade


def upgrading(stage: str) -> ServiceSnapshot:
    """Service on ``demo-one`` whose spec wants another image; ``stage``: planned, built, proven."""
    spec = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:2")}
    snapshot = serving(spec=spec)
    if stage == "planned":
        return snapshot
    new = raycluster("demo-two", cluster_spec("ray:2"))
    service = copy.deepcopy(snapshot.service)
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two", "appliedConfigHash": config_hash()}
    head = pod(new, "head", "10.0.1.1", serve=stage == "proven")
    seen = dict(snapshot.observations)
    if stage == "proven":
        seen["demo-two"] = observation(new, application(), pushed=config_hash(), proxies={"10.0.1.1": True})
    return dataclasses.replace(
        snapshot,
        service=service,
        clusters=(*snapshot.clusters, new),
        pods={**snapshot.pods, "demo-two": (head,)},
        observations=seen,
    )


def test_upgrade_is_announced_then_built_beside_the_old() -> None:
    snapshot = upgrading("planned")
    first = decide(snapshot, NOW)
    assert first.actions == ()
    assert condition(first, "UpgradeInProgress") == ("True", "BothActivePendingClustersExist")
    assert condition(first, "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(first, "Reconciling") is not None
    (announced,) = [note for note in first.notes if note.reason == "UpgradeStarted"]
    assert "3 pods with 3 CPUs and 3Gi of memory" in announced.message
    assert first.status is not None
    assert first.status["upgrade"]["needs"] in announced.message
    second = decide(after(snapshot, first), NOW)
    assert "UpgradeStarted" not in {note.reason for note in second.notes}
    (cluster,) = created(second, "RayCluster")
    assert cluster["metadata"]["annotations"][names.SPEC_HASH] == hashing.cluster_hash(cluster_spec("ray:2"))
    serve = next(s for s in created(second, "Service") if name_of(s) == "demo-serve-svc")
    assert serve["spec"]["selector"][names.CLUSTER] == "demo-one"


def test_a_deleted_pending_cluster_is_followed_by_one_of_another_name() -> None:
    """Its pods may still run: with its name they would be behind the new one's head service."""
    snapshot = upgrading("planned")
    snapshot = after(snapshot, decide(snapshot, NOW))
    names_so_far = set()
    for _ in range(3):
        pending = snapshot.service["status"]["pendingServiceStatus"]["rayClusterName"]
        assert pending not in names_so_far
        names_so_far.add(pending)
        (cluster,) = created(decide(snapshot, NOW), "RayCluster")
        assert name_of(cluster) == pending
        # Built, seen, and gone behind our back.
        built = copy.deepcopy(snapshot.service)
        built["status"]["pendingServiceStatus"]["rayClusterStatus"] = {"state": "ready"}
        snapshot = dataclasses.replace(snapshot, service=built)
        snapshot = after(snapshot, decide(snapshot, NOW))


def test_names_do_not_come_back_when_the_first_clusters_are_deleted_one_after_the_other() -> None:
    snapshot = ServiceSnapshot(rayservice(), CONFIG)
    seen: set[str] = set()
    for _ in range(4):
        decision = decide(snapshot, NOW)
        assert decision.status is not None
        pending = decision.status["pendingServiceStatus"]["rayClusterName"]
        assert pending not in seen
        seen.add(pending)
        going = raycluster(pending, deletionTimestamp=to_rfc3339(NOW), finalizers=["foregroundDeletion"])
        snapshot = dataclasses.replace(after(snapshot, decision), clusters=(going,))


def test_unproven_cluster_gets_no_requests() -> None:
    decision = decide(upgrading("built"), NOW)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
    assert "applicationStatuses" in decision.status["activeServiceStatus"], "not wiped during an upgrade (kuberay P5)"
    assert {o.cluster.name for o in decision.observe} == {"demo-one", "demo-two"}


def test_cluster_proven_with_the_config_before_is_not_promoted() -> None:
    snapshot = upgrading("proven")
    push = PushResult(config_hash(), "", "accepted", NOW)
    unseen = dataclasses.replace(snapshot.observations["demo-two"], push=push)
    decision = decide(dataclasses.replace(snapshot, observations={**snapshot.observations, "demo-two": unseen}), NOW)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"


def test_proven_cluster_is_promoted_then_services_follow_then_the_old_goes() -> None:
    snapshot = upgrading("proven")
    promoted = decide(snapshot, NOW)
    assert promoted.actions == ()
    assert promoted.status is not None
    assert promoted.status["activeServiceStatus"]["rayClusterName"] == "demo-two"
    assert "pendingServiceStatus" not in promoted.status
    assert condition(promoted, "UpgradeInProgress") == ("False", "NoPendingCluster")

    switched = decide(after(snapshot, promoted), NOW)
    serve = next(s for s in created(switched, "Service") if name_of(s) == "demo-serve-svc")
    assert serve["spec"]["selector"][names.CLUSTER] == "demo-two"
    (deadline,) = [a for a in switched.actions if isinstance(a, MergePatch)]
    assert deadline.ref.name == "demo-one"
    assert switched.wake_at is not None
    assert NOW + 60 <= switched.wake_at <= NOW + 62
    assert not [a for a in switched.actions if isinstance(a, Delete)]


def proven_beside_one_that_is_ready() -> ServiceSnapshot:
    """``upgrading("proven")``, with the status that the old cluster has earned stored."""
    snapshot = upgrading("proven")
    built = upgrading("built")
    return dataclasses.replace(snapshot, service=after(built, decide(built, NOW)).service)


def test_pods_of_an_old_cluster_that_did_not_serve_do_not_make_the_new_one_ready() -> None:
    """They are behind the serve service until it is switched, and whether they answer is what nobody has said."""
    snapshot = upgrading("proven")
    (new_head,) = snapshot.pods["demo-two"]
    promoted = decide(snapshot, NOW)
    assert condition(promoted, "UpgradeInProgress") == ("False", "NoPendingCluster")
    assert condition(promoted, "Ready") == ("False", "ZeroServeEndpoints")
    assert condition(promoted, "Reconciling") == ("True", "SwitchingTraffic")
    switched = dataclasses.replace(after(snapshot, promoted), endpoint_slices=(endpoint_slice(new_head),))
    assert condition(decide(switched, NOW), "Ready") == ("True", "NonZeroServeEndpoints")


def test_a_promoted_cluster_is_not_settled_while_the_old_one_gets_requests() -> None:
    """The switch of the services takes a moment to reach the slices; till then clients may get the old version."""
    snapshot = proven_beside_one_that_is_ready()
    (new_head,) = snapshot.pods["demo-two"]
    old_pods = snapshot.pods["demo-one"]
    promoted = decide(snapshot, NOW)
    snapshot = after(snapshot, promoted)
    both = dataclasses.replace(snapshot, endpoint_slices=(endpoint_slice(*old_pods, new_head),))
    for decision in (promoted, decide(snapshot, NOW), decide(both, NOW)):
        assert condition(decision, "UpgradeInProgress") == ("False", "NoPendingCluster")
        assert condition(decision, "Reconciling") == ("True", "SwitchingTraffic")
        assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
        assert "2 of them not of demo-two" in message(decision, "Ready")
    nobody = decide(dataclasses.replace(snapshot, endpoint_slices=(endpoint_slice(),)), NOW)
    assert condition(nobody, "Reconciling") == ("True", "SwitchingTraffic")
    assert condition(nobody, "Ready") == ("False", "ZeroServeEndpoints")

    done = decide(dataclasses.replace(snapshot, endpoint_slices=(endpoint_slice(new_head),)), NOW)
    assert condition(done, "Reconciling") is None
    assert message(done, "Ready") == "Serving with 1 endpoint(s)."


@pytest.mark.parametrize(
    "selector", [{names.CLUSTER: "demo-one", names.SERVE: "true"}, {names.RAYSERVICE: "demo", names.SERVE: "true"}]
)
def test_it_is_not_settled_while_the_service_points_elsewhere(selector: dict[str, str]) -> None:
    """History 2667: taken back, and the slices are still those of before it was left."""
    snapshot = proven_beside_one_that_is_ready()
    (new_head,) = snapshot.pods["demo-two"]
    snapshot = after(snapshot, decide(snapshot, NOW))
    stale = dataclasses.replace(
        snapshot,
        endpoint_slices=(endpoint_slice(new_head),),
        children=({"kind": "Service", "metadata": {"name": "demo-serve-svc"}, "spec": {"selector": selector}},),
    )
    assert condition(decide(stale, NOW), "Reconciling") == ("True", "SwitchingTraffic")
    assert "does not point to demo-two alone" in message(decide(stale, NOW), "Reconciling")


def test_a_restarted_operator_does_not_keep_that_the_traffic_is_being_switched() -> None:
    """That is told by the slices, which it has, and not by Ray, which it has not asked yet."""
    snapshot = upgrading("proven")
    (new_head,) = snapshot.pods["demo-two"]
    blind = dataclasses.replace(after(snapshot, decide(snapshot, NOW)), observations={})
    assert condition(decide(blind, NOW), "Reconciling") == ("True", "SwitchingTraffic")
    done = decide(dataclasses.replace(blind, endpoint_slices=(endpoint_slice(new_head),)), NOW)
    assert condition(done, "Reconciling") is None


@pytest.mark.parametrize(("late", "deleted"), [(-1, False), (0, True)])
def test_old_cluster_goes_at_its_deadline_not_before(late: int, deleted: bool) -> None:
    old = raycluster("demo-old", cluster_spec("ray:0"), annotations={names.DELETE_AFTER: to_rfc3339(NOW)})
    snapshot = serving()
    decision = decide(dataclasses.replace(snapshot, clusters=(*snapshot.clusters, old)), NOW + late)
    assert [a.ref.name for a in decision.actions if isinstance(a, Delete)] == (["demo-old"] if deleted else [])


def test_third_spec_supersedes_the_pending_cluster_at_once() -> None:
    snapshot = upgrading("built")
    service = copy.deepcopy(snapshot.service)
    service["spec"]["rayClusterConfig"] = cluster_spec("ray:3")
    decision = decide(dataclasses.replace(snapshot, service=service), NOW)
    assert [a.ref.name for a in decision.actions if isinstance(a, Delete)] == ["demo-two"]
    assert decision.status is not None
    assert decision.status["pendingServiceStatus"]["rayClusterName"] not in ("demo-one", "demo-two")


def test_spec_of_the_active_cluster_again_cancels_the_upgrade() -> None:
    snapshot = upgrading("built")
    service = copy.deepcopy(snapshot.service)
    service["spec"]["rayClusterConfig"] = cluster_spec()
    decision = decide(dataclasses.replace(snapshot, service=service), NOW)
    assert [a.ref.name for a in decision.actions if isinstance(a, Delete)] == ["demo-two"]
    assert decision.status is not None
    assert "pendingServiceStatus" not in decision.status


def test_former_cluster_is_taken_back_instead_of_a_third_one() -> None:
    """A, B, A with A still waiting for its deletion (kuberay P5 ends with three clusters)."""
    snapshot = serving(spec={"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:0")})
    old = raycluster("demo-old", cluster_spec("ray:0"), annotations={names.DELETE_AFTER: to_rfc3339(NOW + 30)})
    snapshot = dataclasses.replace(snapshot, clusters=(*snapshot.clusters, old))
    first = decide(snapshot, NOW)
    assert first.status is not None
    assert first.status["pendingServiceStatus"]["rayClusterName"] == "demo-old"
    second = decide(after(snapshot, first), NOW)
    assert not created(second, "RayCluster")
    assert not [a for a in second.actions if isinstance(a, Delete | MergePatch) and a.ref.name == "demo-old"]

    # Until it is active it keeps its deadline, so that a third spec does not cut off clients that it still has.
    third = copy.deepcopy(after(snapshot, first))
    third.service["spec"]["rayClusterConfig"] = cluster_spec("ray:2")
    superseding = decide(third, NOW)
    assert not [a for a in superseding.actions if isinstance(a, Delete)]
    assert superseding.status is not None
    assert superseding.status["upgrade"]["phase"] == "Waiting"


def test_deadline_of_an_active_cluster_is_taken_off() -> None:
    snapshot = serving()
    annotations = {**snapshot.clusters[0]["metadata"]["annotations"], names.DELETE_AFTER: to_rfc3339(NOW + 30)}
    active = raycluster("demo-one", annotations=annotations)
    decision = decide(dataclasses.replace(snapshot, clusters=(active,)), NOW)
    assert any(
        isinstance(a, MergePatch) and a.patch == {"metadata": {"annotations": {names.DELETE_AFTER: None}}}
        for a in decision.actions
    )


def test_never_more_than_two_live_clusters() -> None:
    snapshot = serving(spec={"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec("ray:2")})
    old = raycluster("demo-old", cluster_spec("ray:0"), annotations={names.DELETE_AFTER: to_rfc3339(NOW + 30)})
    decision = decide(dataclasses.replace(snapshot, clusters=(*snapshot.clusters, old)), NOW)
    assert not created(decision, "RayCluster")
    assert decision.status is not None
    assert "pendingServiceStatus" not in decision.status
    assert decision.status["upgrade"]["phase"] == "Waiting"
    assert "demo-old" in decision.status["upgrade"]["message"]


def test_strategy_none_holds_the_change_back_and_says_so() -> None:
    spec = {
        "serveConfigV2": OTHER_SERVE_CONFIG,
        "rayClusterConfig": cluster_spec("ray:2"),
        "upgradeStrategy": {"type": "None"},
    }
    snapshot = serving(spec=spec)
    decision = decide(snapshot, NOW)
    assert not created(decision, "RayCluster")
    assert not [a for a in decision.actions if isinstance(a, JsonPatch | MergePatch)], "no write to the RayCluster"
    assert condition(decision, "UpgradeInProgress") == ("False", "ChangeHeldBack")
    push = decision.observe[0].push
    assert push is not None
    assert push.config_hash == config_hash(OTHER_SERVE_CONFIG)


# --- suspend, ownership


def test_suspend_is_committed_before_anything_is_deleted_and_ends_even_if_taken_back() -> None:
    spec = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec(), "suspend": True}
    snapshot = serving(spec=spec)
    first = decide(snapshot, NOW)
    assert first.actions == ()
    assert condition(first, "Suspending") == ("True", "SuspendInProgress")

    taken_back = after(snapshot, first)
    taken_back.service["spec"]["suspend"] = False
    second = decide(taken_back, NOW)
    assert [a.ref.name for a in second.actions if isinstance(a, Delete)] == ["demo-one"]
    assert second.observe == ()

    gone = dataclasses.replace(after(taken_back, second), clusters=(), pods={}, endpoint_slices=())
    third = decide(gone, NOW)
    assert condition(third, "Suspended") == ("True", "SuspendComplete")
    assert third.status is not None
    assert "activeServiceStatus" not in third.status
    fourth = decide(after(gone, third), NOW)
    assert condition(fourth, "Suspended") == ("False", "RayServiceResumed")
    fifth = decide(after(gone, fourth), NOW)
    assert fifth.status is not None
    assert fifth.status["pendingServiceStatus"]["rayClusterName"]


@pytest.mark.parametrize("manager", ["kueue.x-k8s.io/multikueue"])
def test_service_of_another_manager_is_left_alone(manager: str) -> None:
    spec = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec(), "managedBy": manager}
    assert decide(ServiceSnapshot(rayservice(spec), CONFIG), NOW) == Decision()


def test_leaving_service_is_left_to_the_garbage_collector() -> None:
    snapshot = serving()
    snapshot.service["metadata"]["deletionTimestamp"] = to_rfc3339(NOW)
    assert decide(snapshot, NOW) == Decision()


def test_initializing_timeout_stalls_and_a_new_spec_revives() -> None:
    snapshot = starting()
    snapshot.service["metadata"]["annotations"] = {names.INITIALIZING_TIMEOUT: "5m"}
    first = decide(snapshot, NOW)
    assert condition(first, "Ready") == ("False", "Initializing")
    late = decide(after(snapshot, first), NOW + 301)
    assert condition(late, "Ready") == ("False", "InitializingTimeout")
    assert condition(late, "Stalled") == ("True", "InitializingTimeout")
    revived = after(snapshot, late)
    revived.service["spec"]["rayClusterConfig"] = cluster_spec("ray:2")
    assert condition(decide(revived, NOW + 302), "Ready") == ("False", "Initializing")


def test_what_could_not_be_done_is_in_the_status() -> None:
    failure = Failure("apply Service default/demo-serve-svc", "Service", "exceeded quota", NOW)
    decision = decide(serving(failure=failure), NOW)
    assert condition(decision, "Reconciling") == ("True", "ReconcileFailed")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints"), "it serves all the same"


def test_deletion_delay_holds_while_the_present_spec_is_refused() -> None:
    snapshot = serving()
    valid = revisions.build(snapshot.service, 1)
    service = copy.deepcopy(snapshot.service)
    service["spec"] |= {"serveConfigV2": "applications: 5", "rayClusterDeletionDelaySeconds": 20}
    old = raycluster("demo-old", cluster_spec("ray:0"))
    refused = dataclasses.replace(snapshot, service=service, revisions=(valid,), clusters=(*snapshot.clusters, old))
    decision = decide(refused, NOW)
    assert decision.wake_at is not None
    assert NOW + 20 <= decision.wake_at <= NOW + 22


@pytest.mark.parametrize(
    ("finalizers", "propagation"), [((), "Foreground"), ((names.REDIS_CLEANUP_FINALIZER,), "Background")]
)
def test_a_cluster_that_cleans_up_redis_is_not_deleted_in_the_foreground(
    finalizers: tuple[str, ...], propagation: str
) -> None:
    """Else the garbage collector takes the Job that cleans up away, as one of its dependents."""
    cluster = raycluster("demo-one", finalizers=list(finalizers))
    assert ClusterView(cluster, (), None, {}).deletion().propagation == propagation


@pytest.mark.parametrize("excluded", [True, False])
def test_a_head_that_is_kept_out_of_the_service_does_not_keep_its_cluster_from_being_proven(excluded: bool) -> None:
    """It has a healthy proxy as well, and never gets the label."""
    cluster = raycluster("demo-one")
    head, worker = pod(cluster, "head", "10.0.0.1", serve=False), pod(cluster, "1", "10.0.0.2")
    spec = {"rayClusterConfig": cluster_spec(), "excludeHeadPodFromServeSvc": excluded}
    view = ClusterView(cluster, (head, worker), observation(cluster, application()), {})
    assert endpoints.all_healthy_proxies_routed(view, Target(spec, None, None)) == excluded


def test_a_cluster_of_which_only_a_head_that_is_kept_out_answers_is_not_proven() -> None:
    """Nothing would be behind the serve service after the switch."""
    snapshot = edited(upgrading("proven"), excludeHeadPodFromServeSvc=True)
    (head,) = snapshot.pods["demo-two"]
    labels = {**head["metadata"]["labels"], names.SERVE: "false"}
    pods = {**snapshot.pods, "demo-two": ({**head, "metadata": {**head["metadata"], "labels": labels}},)}
    decision = decide(dataclasses.replace(snapshot, pods=pods), NOW)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
