"""What a cluster does has a name, and since when nothing has moved is remembered as the thresholds count it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import ApplicationView, DeploymentView, ReplicaView
from rayservice_operator.core.timestamps import from_rfc3339
from rayservice_operator.service import context as contexts
from rayservice_operator.service import progress
from rayservice_operator.service.activity import COUNTED, WORDS, Activity, Counted, Sighting, sight
from rayservice_operator.service.apps import Phase, Standing, standing
from rayservice_operator.service.context import ClusterView, load_config
from rayservice_operator.service.decide import decide
from rayservice_operator.service.messages import plain, steady
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    CONFIG,
    NOW,
    SERVE_CONFIG,
    after,
    config_hash,
    observation,
    pod,
    raycluster,
    serving,
)

CLUSTER = raycluster("demo-one")
CONFIG_IN_FORCE = load_config(SERVE_CONFIG)
TOO_FEW = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def test_every_activity_has_words_and_a_clock() -> None:
    assert set(COUNTED) == set(WORDS) == set(Activity)


# --- pods


def waiting(reason: str, **more: Any) -> dict[str, Any]:
    return {"name": "ray", "state": {"waiting": {"reason": reason, "message": "said so"}}, **more}


def unready(node: str = "head", **status: Any) -> Manifest:
    made = pod(CLUSTER, node, "", ready=False)
    made["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}], **status}
    return made


RUNNING = {"name": "ray", "state": {"running": {}}, "ready": False, "restartCount": 0}
LAST = {"lastState": {"terminated": {"exitCode": 5, "message": "disk\nfull"}}}
REFUSED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": TOO_FEW}]


@pytest.mark.parametrize(
    ("status", "activity", "said"),
    [
        ({"conditions": []}, Activity.SCHEDULING, ""),
        ({"conditions": REFUSED}, Activity.WAITING, TOO_FEW),
        ({"containerStatuses": [waiting("ContainerCreating")]}, Activity.PULLING, "pull images"),
        ({}, Activity.PULLING, ""),
        ({"containerStatuses": [waiting("ImagePullBackOff")]}, Activity.PODS_FAILING, "ImagePullBackOff said so"),
        ({"containerStatuses": [waiting("CrashLoopBackOff")]}, Activity.PODS_FAILING, "CrashLoopBackOff"),
        ({"containerStatuses": [{**RUNNING, "restartCount": 3}]}, Activity.PODS_FAILING, "again and again"),
        ({"initContainerStatuses": [waiting("CrashLoopBackOff", **LAST)]}, Activity.PODS_FAILING, "it said: disk full"),
        ({"containerStatuses": [RUNNING]}, Activity.STARTING_RAY, ""),
        (
            {"initContainerStatuses": [RUNNING], "containerStatuses": [waiting("PodInitializing")]},
            Activity.INITIALIZING,
            "1 pod(s) run init containers: ray",
        ),
    ],
)
def test_pods(status: dict[str, Any], activity: Activity, said: str) -> None:
    view = ClusterView(CLUSTER, (unready(**status),), None, {})
    seen = sight(view, CONFIG_IN_FORCE, standing(view, CONFIG_IN_FORCE, NOW, 15))
    assert seen.activity is activity
    assert said in seen.detail


def test_the_head_comes_first_and_pulling_hides_waiting() -> None:
    head = unready(containerStatuses=[RUNNING])
    workers = [unready("1", conditions=REFUSED), unready("2", containerStatuses=[waiting("ContainerCreating")])]
    starting = Standing(Phase.STARTING_SERVE, "")
    with_head = ClusterView(CLUSTER, (head, *workers), None, {})
    assert sight(with_head, CONFIG_IN_FORCE, starting).activity is Activity.STARTING_RAY
    ready = pod(CLUSTER, "head", "10.0.0.1")
    assert (
        sight(ClusterView(CLUSTER, (ready, *workers), None, {}), CONFIG_IN_FORCE, starting).activity is Activity.PULLING
    )


@pytest.mark.parametrize(
    ("message", "activity"),
    [("pods is forbidden: exceeded quota: gpus", Activity.WAITING), ("denied by policy", Activity.PODS_FAILING)],
)
def test_pods_that_nobody_takes(message: str, activity: Activity) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod", "message": message}
    view = ClusterView({**CLUSTER, "status": {"conditions": [failure]}}, (), None, {})
    assert sight(view, CONFIG_IN_FORCE, Standing(Phase.STARTING_HEAD, "")).activity is activity


# --- applications


def app(
    status: str, *replicas: str, deployment: str = "UPDATING", trigger: str = "", said: str = ""
) -> ApplicationView:
    """``replicas``: states; STARTING@ is one without a node."""
    views = tuple(
        ReplicaView(f"r{i}", state.rstrip("@"), "" if state.endswith("@") else "10.0.0.2")
        for i, state in enumerate(replicas)
    )
    greeter = DeploymentView("Greeter", deployment, said, trigger, 2, views)
    return ApplicationView("greeter", status, deployments={"Greeter": greeter})


SLOW = (
    "has 2 replicas that have taken more than 30s to be scheduled. Resources required for each replica: "
    '{"GPU": 8}, total resources available: {"CPU": 1}. Use `ray status` for more details.'
)


@pytest.mark.parametrize(
    ("seen", "activity"),
    [
        (app("DEPLOYING", "RUNNING", "STARTING"), Activity.LOADING),
        (app("DEPLOYING", "STARTING@"), Activity.LOADING),
        (app("DEPLOYING", "STARTING@", said=SLOW), Activity.WAITING),
        (app("DEPLOYING", "RUNNING"), Activity.SETTLING),
        (dataclasses.replace(app("DEPLOYING"), deployments={}), Activity.BUILDING),
        (app("DEPLOY_FAILED", deployment="DEPLOY_FAILED"), Activity.APPLICATIONS_FAILING),
        (app("UNHEALTHY", deployment="UNHEALTHY", trigger="HEALTH_CHECK_FAILED"), Activity.APPLICATIONS_FAILING),
        (app("UNHEALTHY", "STARTING", deployment="UNHEALTHY", trigger="HEALTH_CHECK_FAILED"), Activity.LOADING),
        (app("UNHEALTHY", "STARTING@", deployment="UNHEALTHY", trigger="HEALTH_CHECK_FAILED"), Activity.LOADING),
        (
            app("UNHEALTHY", "STARTING@", deployment="UNHEALTHY", trigger="REPLICA_STARTUP_FAILED"),
            Activity.APPLICATIONS_FAILING,
        ),
    ],
)
def test_applications(seen: ApplicationView, activity: Activity) -> None:
    view = ClusterView(
        CLUSTER,
        (pod(CLUSTER, "head", "10.0.0.1"), pod(CLUSTER, "1", "10.0.0.2")),
        observation(CLUSTER, seen, pushed=config_hash()),
        {},
    )
    found = sight(view, CONFIG_IN_FORCE, standing(view, CONFIG_IN_FORCE, NOW, 15))
    assert found.activity is activity
    if seen.deployments and activity is Activity.WAITING and seen.status == "DEPLOYING":
        assert '{"GPU": 8}, total resources available: {"CPU": 1}' in found.detail


def test_tries_that_are_counted_are_one_state() -> None:
    def state(number: int) -> str:
        said = f"It failed to start {number} times in a row. Replica(id='x{number}y') of app#Greeter#k{number}2"
        ill = app("UNHEALTHY", deployment="UNHEALTHY", trigger="REPLICA_STARTUP_FAILED", said=said)
        view = ClusterView(CLUSTER, (pod(CLUSTER, "head", "10.0.0.1"),), observation(CLUSTER, ill), {})
        return sight(view, CONFIG_IN_FORCE, Standing(Phase.UNHEALTHY, "")).state

    assert len({state(number) for number in (3, 4, 17)}) == 1


def test_what_is_told_of_tries_stays_as_it_was_told() -> None:
    def ill(number: int, error: str = "boom") -> ApplicationView:
        said = f"The deployment failed to start {number} times in a row. Error: {error}"
        return app("UNHEALTHY", deployment="UNHEALTHY", trigger="REPLICA_STARTUP_FAILED", said=said)

    told = {
        "greeter": {
            "status": "UNHEALTHY",
            "serveDeploymentStatuses": {
                "Greeter": {"status": "UNHEALTHY", "message": ill(3).deployments["Greeter"].message}
            },
        }
    }
    again = steady(observation(CLUSTER, ill(4)), told).applications["greeter"].deployments["Greeter"].message
    assert "3 times" in again
    other = steady(observation(CLUSTER, ill(4, "bang")), told).applications["greeter"].deployments["Greeter"].message
    assert "4 times" in other
    assert plain("7 of 9") == plain("8 of 10")


# --- the clock

IDENTITY = {"cluster": "demo-one", "configHash": "h"}


def clock(*steps: tuple[float, Activity, str, int]) -> dict[str, Any]:
    """The record after these sightings: seconds from the beginning, activity, state, ready."""
    _, first, state, ready = steps[0]
    record = progress._new("demo-one", CONFIG_IN_FORCE, Sighting(first, "", state, ready), NOW)
    for at, activity, seen, count in steps:
        record = progress._updated(record, Sighting(activity, "", seen, count), NOW + at)
    return record


F, L, P = Activity.APPLICATIONS_FAILING, Activity.LOADING, Activity.PULLING


@pytest.mark.parametrize(
    ("steps", "since"),
    [
        ([(0, F, "a", 1)], 0),
        ([(0, F, "a", 1), (100, F, "a", 1)], 0),
        ([(0, F, "a", 1), (100, F, "b", 1)], 100),
        ([(0, F, "a", 1), (100, F, "b", 1), (200, F, "a", 1)], 100),  # it goes round
        ([(0, F, "a", 1), (100, F, "a", 2)], 100),
        ([(0, F, "a", 2), (100, F, "a", 1), (200, F, "a", 2)], 0),  # what comes back is no progress
        ([(0, F, "a", 1), (100, L, "x", 1)], None),
        ([(0, F, "a", 1), (100, L, "x", 1), (700, F, "a", 1)], 600),  # the clock was stopped after 100 s
        ([(0, F, "a", 1), (100, L, "x", 1), (700, F, "b", 1)], 700),
        ([(0, P, "x", 0), (1000, F, "a", 0)], 1000),
    ],
)
def test_since_when_nothing_moves(steps: list[tuple[float, Activity, str, int]], since: float | None) -> None:
    read = progress._read(clock(*steps))
    assert read.since == (None if since is None else NOW + since)


def test_nothing_is_written_while_nothing_moves() -> None:
    before = clock((0, F, "a", 1))
    assert progress._updated(before, Sighting(F, "", "a", 1), NOW + 250) == before


def test_where_the_time_went() -> None:
    read = progress._read(clock((0, P, "x", 0), (340, Activity.STARTING_RAY, "y", 1), (400, L, "z", 2)))
    assert (
        read.spent(NOW + 1000) == "loading replicas 600 s, pulling images or mounting volumes 340 s, starting Ray 60 s"
    )


def test_a_circle_of_states_is_remembered_and_the_memory_is_bounded() -> None:
    steps = [(float(i), F, f"s{i % 10}", 1) for i in range(100)]
    assert from_rfc3339(clock(*steps)["unmovedSince"]) == NOW + 9
    many = [(float(i), F, f"s{i}", 1) for i in range(100)]
    assert len(clock(*many)["seen"]) == progress.MAX_SEEN


def ill_service() -> ServiceSnapshot:
    ill = app("UNHEALTHY", deployment="UNHEALTHY", trigger="REPLICA_STARTUP_FAILED")
    return serving(observations={"demo-one": observation(CLUSTER, ill, pushed=config_hash())})


def looked(snapshot: ServiceSnapshot, now: float) -> progress.Progress:
    context = contexts.build(snapshot, now)
    view = context.live("demo-one")
    stands = standing(view, CONFIG_IN_FORCE, now, CONFIG.stale_after_s)
    return progress.look(context, "demo-one", CONFIG_IN_FORCE, stands, endpoints=True)


def test_a_new_operator_goes_on_counting() -> None:
    snapshot = after(ill_service(), decide(ill_service(), NOW))
    snapshot.service["status"]["activeServiceStatus"]["rayClusterStatus"] = {"head": {"podName": "demo-one-head"}}
    begun = looked(snapshot, NOW)
    assert begun.since == NOW
    blind = dataclasses.replace(snapshot, observations={})
    assert looked(blind, NOW + 100).record == begun.record
    assert looked(blind, NOW + 100).counted is Counted.DEPLOYMENT


def test_well_again_is_forgotten_at_once() -> None:
    well = serving(pushed=config_hash())
    assert looked(well, NOW) == progress.NOTHING
    assert names.AUTO_RECOVERY in names.VERBS


def test_nothing_is_done_before_anything_has_been_seen_again() -> None:
    """A new operator finds the threshold passed long ago; how it is now it learns a moment later."""
    snapshot = after(ill_service(), decide(ill_service(), NOW))
    snapshot.service["status"]["activeServiceStatus"]["rayClusterStatus"] = {"head": {"podName": "demo-one-head"}}
    snapshot.service["metadata"]["annotations"] = {names.AUTO_RECOVERY: "true"}
    blind = decide(dataclasses.replace(snapshot, observations={}), NOW + 1000)
    assert blind.status is not None
    assert "recovery" not in blind.status
    assert blind.wake_at is not None
    assert blind.wake_at > NOW + 1000
