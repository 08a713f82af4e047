"""The status: KubeRay's fields, reasons that name the cause, times that move only when something did."""

from __future__ import annotations

from typing import Any

import pytest

from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.status import trouble
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.timestamps import to_rfc3339
from tests.cluster.world import World, group, provisioned, raycluster, template


def status(world: World) -> dict[str, Any]:
    world.settle()
    found: dict[str, Any] = world.cluster["status"]
    return found


def test_sums_of_wanted_pods() -> None:
    gpu = template(resources={"limits": {"cpu": "1500m", "memory": "1536Mi", "nvidia.com/gpu": 2}})
    gpu["spec"]["containers"].append({"name": "sidecar", "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}})
    tpu = template(resources={"requests": {"cpu": "1"}, "limits": {"google.com/tpu": "4"}})
    world = World(
        raycluster(group("gpu", 2, template=gpu, maxReplicas=3), group("tpu", 1, template=tpu, minReplicas=1))
    )
    found = status(world)
    assert found["desiredCPU"] == "5200m"
    assert found["desiredMemory"] == "6Gi"
    assert found["desiredGPU"] == "4"
    assert found["desiredTPU"] == "4"
    assert found["desiredWorkerReplicas"] == 3
    assert found["minWorkerReplicas"] == 1
    assert found["maxWorkerReplicas"] == 103


def test_sum_of_unbounded_groups_is_an_int32() -> None:
    world = World(raycluster(group("a", maxReplicas=2**31 - 1), group("b", maxReplicas=2**31 - 1)))
    assert status(world)["maxWorkerReplicas"] == 2**31 - 1


def test_head_and_endpoints() -> None:
    world = provisioned(raycluster())
    found = status(world)
    ip = world.head["status"]["podIP"]
    assert found["head"] == {
        "podIP": ip,
        "podName": name_of(world.head),
        "serviceIP": ip,
        "serviceName": "demo-head-svc",
    }
    assert found["endpoints"]["dashboard"] == "8265"
    world.children[("Service", "demo-head-svc")]["spec"]["clusterIP"] = "10.96.0.7"
    world.children[("Service", "demo-head-svc")]["spec"]["ports"][0]["nodePort"] = 30000
    found = world.decide().status
    assert found is not None
    assert found["head"]["serviceIP"] == "10.96.0.7"
    assert "30000" in found["endpoints"].values()


def test_times_move_only_with_something_else() -> None:
    world = provisioned(raycluster(group()))
    before = status(world)
    world.now += 500
    assert world.decide().status == before
    world.set_running(name_of(world.of("small")[0]), ready=False)
    after = status(world)
    assert after["lastUpdateTime"] == to_rfc3339(world.now) != before["lastUpdateTime"]
    assert after["stateTransitionTimes"] == before["stateTransitionTimes"]


def test_condition_times_stay_while_the_condition_does() -> None:
    world = provisioned(raycluster(group()))
    since = world.condition("HeadPodReady")["lastTransitionTime"]  # type: ignore[index]
    world.now += 500
    world.edit(workerGroupSpecs=[group(replicas=2)])
    world.settle()
    head = world.condition("HeadPodReady")
    assert head is not None
    assert head["lastTransitionTime"] == since
    assert head["observedGeneration"] == 2


def test_provisioned_and_ready_stay_and_the_rest_tells_the_truth() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    world.fail(name_of(world.head))
    found = status(world)
    assert world.condition("RayClusterProvisioned")["status"] == "True"  # type: ignore[index]
    assert found["state"] == "ready"
    assert world.condition("HeadPodReady")["status"] == "False"  # type: ignore[index]
    assert world.condition("Reconciling")["status"] == "True"  # type: ignore[index]
    assert found["readyWorkerReplicas"] == 0, "workers of a lost session are gone"


def test_counts() -> None:
    world = provisioned(raycluster(group(replicas=3)))
    first, second, _ = (name_of(pod) for pod in world.of("small"))
    world.set_running(first, ready=False)
    world.pods[second]["status"]["phase"] = "Pending"
    found = status(world)
    assert found["readyWorkerReplicas"] == 1
    assert found["availableWorkerReplicas"] == 2
    assert found["desiredWorkerReplicas"] == 3


WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
PREPARING = {"waiting": {"reason": "PodInitializing"}}


@pytest.mark.parametrize(
    ("pod_status", "reason", "words"),
    [
        ({"containerStatuses": [{"name": "ray", "state": WAITING}]}, "ImagePullBackOff", "ray: Back-off pulling"),
        (
            {
                "initContainerStatuses": [{"name": "weights", "state": WAITING}],
                "containerStatuses": [{"name": "ray", "state": PREPARING}],
            },
            "ImagePullBackOff",
            "weights",
        ),
        ({"containerStatuses": [{"name": "ray", "state": PREPARING}]}, "PodInitializing", "ray"),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "Unschedulable",
            "Insufficient nvidia.com/gpu",
        ),
        (
            {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "not ready: [ray]"}
                ],
            },
            "ContainersNotReady",
            "[ray]",
        ),
        ({}, "Unknown", ""),
    ],
)
def test_why_a_pod_is_not_ready(pod_status: Manifest, reason: str, words: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "ray"}]}, "status": pod_status}
    found = trouble(PodView(pod))
    assert found[0] == reason
    assert words in found[1]


def test_the_cause_reaches_the_conditions() -> None:
    world = World(raycluster(group(replicas=2)))
    world.settle()
    world.set_running(name_of(world.head))
    cause = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has a GPU"}
    for pod in world.of("small"):
        pod["status"]["conditions"] = [cause]
    world.settle()
    for type_ in ("RayClusterProvisioned", "Reconciling"):
        found = world.condition(type_)
        assert found is not None
        assert "0 of 2 workers of group small are ready" in found["message"]
        assert "no node has a GPU" in found["message"]


def test_reconciling_while_a_surplus_worker_runs() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    assert world.condition("Reconciling") is None
    world.edit(workerGroupSpecs=[group(replicas=1)])
    decided = world.decide().status
    assert decided is not None
    (found,) = (condition for condition in decided["conditions"] if condition["type"] == "Reconciling")
    assert (decided["observedGeneration"], decided["readyWorkerReplicas"]) == (2, 2)
    assert found["message"] == "1 of 2 running workers of group small is to go"
    world.settle()
    assert world.condition("Reconciling") is None
    assert status(world)["readyWorkerReplicas"] == 1


def test_a_surplus_that_the_autoscaler_keeps_is_no_work() -> None:
    world = provisioned(raycluster(group(replicas=2), enableInTreeAutoscaling=True))
    world.edit(workerGroupSpecs=[group(replicas=1)])
    world.settle()
    assert status(world)["readyWorkerReplicas"] == 2
    assert world.condition("Reconciling") is None


def test_only_one_of_reconciling_and_stalled() -> None:
    world = World(raycluster(group()))
    world.refusals["small"] = "no"
    world.settle()
    assert world.condition("Stalled") is not None
    assert world.condition("Reconciling") is None
