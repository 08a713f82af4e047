"""The steps of a RayCluster's decision, each from a failing or waiting state to the next."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from rayservice_operator.cluster.decide import MAX_CREATIONS
from rayservice_operator.core.decision import Apply, Create, Decision, Delete, DryRun, EnsureSecret
from rayservice_operator.core.objects import Manifest, labels_of, name_of, uid_of
from rayservice_operator.core.timestamps import to_rfc3339
from tests.cluster.world import World, group, of_service, provisioned, raycluster, template

REDIS = {"redisAddress": "redis:6379"}


def kinds(decision: Decision) -> list[str]:
    return [
        f"{type(a).__name__}:{a.obj['kind']}" if isinstance(a, Apply | Create | DryRun) else type(a).__name__
        for a in decision.actions
    ]


def deleted(decision: Decision) -> list[str]:
    return [action.ref.name for action in decision.actions if isinstance(action, Delete)]


def created(decision: Decision) -> list[Manifest]:
    return [action.obj for action in decision.actions if isinstance(action, Create)]


def restart_head_container(world: World) -> None:
    (status,) = world.head["status"]["containerStatuses"]
    status["restartCount"] = 1
    status["state"] = {"running": {"startedAt": to_rfc3339(world.now)}}


# --- the way up


def test_from_nothing_to_ready_in_three_decisions() -> None:
    world = World(raycluster(group(replicas=2)))
    assert kinds(world.step()) == ["Apply:Service", "DryRun:Pod", "DryRun:Pod"]
    assert kinds(world.step()) == ["Create:Pod"]
    assert kinds(world.step()) == ["Create:Pod", "Create:Pod"]
    world.run_pods()
    decision = world.step()
    assert not decision.actions
    assert decision.wake_at is None
    status = world.cluster["status"]
    assert status["state"] == "ready"
    assert status["readyWorkerReplicas"] == status["availableWorkerReplicas"] == 2
    assert status["head"]["podName"] == name_of(world.head)
    assert world.reasons() == ["CreatedHeadPod", "CreatedWorkerPod"]


def test_with_fault_tolerance_workers_start_beside_the_head() -> None:
    world = World(raycluster(group(replicas=2), gcsFaultToleranceOptions=REDIS))
    assert kinds(world.step()) == ["JsonPatch", "Apply:Service", "DryRun:Pod", "DryRun:Pod"]
    assert world.cluster["metadata"]["finalizers"] == ["ray.io/gcs-ft-redis-cleanup-finalizer"]
    assert kinds(world.step()) == ["Create:Pod", "Create:Pod", "Create:Pod"]


def test_idle_means_no_writes() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    world.now += 86_400
    before = world.writes
    decision = world.step()
    assert world.writes == before
    assert not decision.notes
    assert decision.wake_at is None


def test_autoscaler_and_token_come_before_the_pods() -> None:
    world = World(raycluster(group(), enableInTreeAutoscaling=True, authOptions={"mode": "token"}))
    first = kinds(world.step())
    assert first[:4] == ["Apply:ServiceAccount", "Apply:Role", "Apply:RoleBinding", "Apply:Service"]
    assert kinds(world.step()) == ["EnsureSecret", "Create:Pod"]
    assert world.secrets == {"demo"}


def test_a_burst_is_bounded_and_follows_priority() -> None:
    late = group("late", MAX_CREATIONS, priority=0)
    soon = group("soon", 10, priority=5)
    world = World(raycluster(late, soon, enableInTreeAutoscaling=True))
    for _ in range(2):
        world.step()
    pods = created(world.step())
    assert len(pods) == MAX_CREATIONS
    assert [labels_of(pod)["ray.io/group"] for pod in pods[:11]] == ["soon"] * 10 + ["late"]
    world.settle()
    assert len(world.of("late")) == MAX_CREATIONS


def test_dying_between_any_two_actions_changes_nothing_in_the_end() -> None:
    calm = provisioned(raycluster(group(replicas=3), enableInTreeAutoscaling=True))
    for stop in range(1, 6):
        world = World(raycluster(group(replicas=3), enableInTreeAutoscaling=True))
        for count in range(60):
            world.step(stop_after=(stop + count) % 4)
        for _ in range(5):
            world.settle()
            world.run_pods()
        world.settle()
        assert len(world.pods) == len(calm.pods)
        assert world.cluster["status"]["state"] == "ready"


# --- gates


def test_managed_elsewhere_is_left_alone() -> None:
    decision = World(raycluster(group(), managedBy="kueue.x-k8s.io/multikueue")).step()
    assert decision == Decision()
    assert World(raycluster(group(), managedBy="ray.io/kuberay-operator")).step().actions


@pytest.mark.parametrize(
    "edit",
    [
        {"workerGroupSpecs": [group("a"), group("a")]},
        {"workerGroupSpecs": [{"groupName": "a", "template": template(), "replicas": "many"}]},
        {"headGroupSpec": {"template": {"spec": {"containers": []}}}},
        {"headGroupSpec": None},
    ],
)
def test_a_bad_edit_deletes_nothing_and_is_told_once(edit: Manifest) -> None:
    world = provisioned(raycluster(group("a", 2)))
    before = copy.deepcopy(world.pods)
    old = {key: world.cluster["spec"][key] for key in edit}
    told = len(world.notes)
    world.edit(**edit)
    world.settle()
    assert world.pods == before
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled["reason"] == "ValidationFailed"
    assert stalled["observedGeneration"] == 2
    assert "spec." in stalled["message"]
    assert world.condition("HeadPodReady")["status"] == "True"  # type: ignore[index]
    assert world.reasons()[told:] == ["InvalidRayClusterSpec"]
    world.edit(**old)
    world.settle()
    assert world.condition("Stalled") is None
    assert world.pods == before


def test_suspension_is_written_down_before_anything_is_deleted() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    world.edit(suspend=True)
    first = world.step()
    assert not first.actions
    assert world.condition("RayClusterSuspending")["status"] == "True"  # type: ignore[index]
    assert len(deleted(world.step())) == 3
    world.edit(suspend=False)
    assert not world.step().actions, "what began is carried through"
    world.run_pods()
    world.step()
    assert world.condition("RayClusterSuspended")["status"] == "True"  # type: ignore[index]
    assert world.cluster["status"]["state"] == "suspended"
    world.step()
    assert world.condition("RayClusterSuspended")["status"] == "False"  # type: ignore[index]
    for _ in range(4):
        world.settle()
        world.run_pods()
    world.settle()
    assert world.cluster["status"]["state"] == "ready"
    assert len(world.pods) == 3


def test_suspended_is_idle() -> None:
    world = World(raycluster(group(), suspend=True))
    world.settle()
    assert not world.pods
    assert not world.children
    assert world.condition("RayClusterProvisioned")["status"] == "False"  # type: ignore[index]
    assert world.cluster["status"]["desiredWorkerReplicas"] == 0
    assert world.condition("Reconciling") is None


# --- dry runs


def test_a_refused_template_builds_nothing_and_says_why() -> None:
    world = World(raycluster(group("good", 1), group("gpu", 1)))
    world.refusals["gpu"] = 'pods "x" is forbidden: exceeded quota'
    world.settle()
    assert not world.pods
    failure = world.condition("ReplicaFailure")
    assert failure is not None
    assert failure["reason"] == "FailedCreateWorkerPod"
    assert "gpu" in failure["message"]
    assert "exceeded quota" in failure["message"]
    assert world.cluster["status"]["state"] == "failed"
    assert world.reasons() == ["FailedToCreateWorkerPod"]
    decision = world.step()
    assert decision.wake_at == world.now + 30

    world.now += 30
    assert kinds(world.step()) == ["DryRun:Pod"]
    world.settle()
    assert world.reasons() == ["FailedToCreateWorkerPod"], "the same refusal is told once"

    world.refusals.clear()
    world.now += 30
    world.settle()
    assert len(world.pods) == 3
    assert world.condition("ReplicaFailure") is None


def test_a_refused_head_is_told_as_such() -> None:
    world = World(raycluster(group()))
    world.refusals["headgroup"] = "strict decoding error: unknown field"
    world.settle()
    assert world.condition("ReplicaFailure")["reason"] == "FailedCreateHeadPod"  # type: ignore[index]


def test_a_new_group_that_is_refused_does_not_hold_up_the_others() -> None:
    world = provisioned(raycluster(group("a", 1)))
    world.refusals["b"] = "no"
    world.edit(workerGroupSpecs=[group("a", 2), group("b", 1)])
    world.settle()
    assert len(world.of("a")) == 2
    assert not world.of("b")
    assert world.condition("ReplicaFailure") is not None


def test_templates_that_run_are_not_asked_about_again() -> None:
    world = provisioned(raycluster(group("a", 1)))
    world.dry_runs.clear()  # the operator was restarted
    world.edit(workerGroupSpecs=[group("a", 2)])
    assert kinds(world.step()) == ["Create:Pod"]


# --- the head


def test_a_deleted_head_comes_back_with_new_workers() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    old_head, old_workers = world.head, {name_of(pod) for pod in world.of("small")}
    del world.pods[name_of(old_head)]
    world.now += 1
    world.settle()
    head = world.head
    assert uid_of(head) != uid_of(old_head)
    assert not old_workers & {name_of(pod) for pod in world.of("small")}
    assert {pod["metadata"]["annotations"]["rayservice.ray.io/head-uid"] for pod in world.of("small")} == {uid_of(head)}
    assert world.condition("HeadPodReady")["status"] == "False"  # type: ignore[index]
    world.run_pods()
    world.settle()
    assert world.condition("HeadPodReady")["status"] == "True"  # type: ignore[index]
    assert len(world.of("small")) == 2


def test_with_fault_tolerance_workers_outlive_the_head() -> None:
    world = provisioned(raycluster(group(replicas=2), gcsFaultToleranceOptions=REDIS))
    workers = world.of("small")
    del world.pods[name_of(world.head)]
    world.now += 1
    world.settle()
    assert world.head
    assert world.of("small") == workers


def test_never_two_live_heads() -> None:
    world = provisioned(raycluster(group(replicas=1)))
    head = world.head
    head["metadata"]["deletionTimestamp"] = to_rfc3339(world.now + 30)
    decision = world.step()
    assert not created(decision)
    assert decision.wake_at == world.now + 60
    world.now += 59
    assert not created(world.step())
    world.now += 1  # its kubelet does not answer
    (replacement,) = created(world.step())
    assert name_of(replacement) != name_of(head)


def test_a_head_that_has_ended_is_replaced_while_its_pod_goes() -> None:
    world = provisioned(raycluster(group(replicas=1)))
    head = world.head
    head["metadata"]["deletionTimestamp"] = to_rfc3339(world.now + 30)
    head["status"]["phase"] = "Succeeded"
    assert len(created(world.step())) == 1


def test_a_head_on_a_lost_node_is_deleted_then_replaced() -> None:
    world = provisioned(raycluster())
    head = name_of(world.head)
    world.pods[head]["status"]["phase"] = "Unknown"
    decision = world.step()
    assert deleted(decision) == [head]
    assert not created(decision)
    world.now += 60
    assert len(created(world.step())) == 1


def test_a_second_head_goes() -> None:
    world = provisioned(raycluster())
    second = copy.deepcopy(world.head)
    second["metadata"].update(name="demo-head-zz", uid="uid-999", creationTimestamp=to_rfc3339(world.now + 5))
    world.pods["demo-head-zz"] = second
    assert deleted(world.step()) == ["demo-head-zz"]


def test_repeated_creation_of_a_head_is_the_same_head() -> None:
    world = World(raycluster())
    world.step()
    first, second = created(world.decide()), created(world.decide())
    assert first == second


def test_a_head_that_keeps_dying_is_made_ever_more_slowly() -> None:
    world = World(raycluster())
    births: list[float] = []
    seen: set[str] = set()
    for _ in range(1200):
        world.settle()
        for name, pod in list(world.pods.items()):
            if uid_of(pod) not in seen:
                seen.add(uid_of(pod))
                births.append(world.now)
                world.set_running(name)
                world.fail(name)
        world.now += 1
    pauses = [later - earlier for earlier, later in itertools.pairwise(births)]
    assert pauses[1:5] == [10, 20, 40, 80]  # the first death is forgiven
    assert max(pauses) <= 301
    assert len(world.pods) <= 2


def test_attempts_survive_the_death_of_the_operator() -> None:
    world = World(raycluster(group(replicas=1)))
    world.settle()
    world.run_pods()
    (worker,) = world.of("small")
    world.fail(name_of(worker))
    world.step(stop_after=1)  # the replacement is made, the dead one is still there
    assert len(world.of("small")) == 2
    world.settle()
    (left,) = world.of("small")
    assert left["metadata"]["annotations"]["rayservice.ray.io/attempt"] == "1"


# --- a head container restarted in its pod


def test_workers_of_the_session_before_a_head_restart_are_replaced() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    old = {name_of(pod) for pod in world.of("small")}
    world.now += 100
    restart_head_container(world)
    decision = world.step()
    assert set(deleted(decision)) == old
    assert len(created(decision)) == 2
    world.run_pods()
    world.settle()
    assert not old & set(world.pods)
    before = world.writes
    world.now += 3600
    world.step()
    assert world.writes == before, "the new workers belong to the new session"


@pytest.mark.parametrize("case", ["joined after", "not ready", "fault tolerant"])
def test_workers_that_may_belong_to_the_new_session_stay(case: str) -> None:
    options: dict[str, Any] = {"gcsFaultToleranceOptions": REDIS} if case == "fault tolerant" else {}
    world = provisioned(raycluster(group(replicas=1), **options))
    (worker,) = world.of("small")
    world.now += 100
    restart_head_container(world)
    if case == "joined after":
        world.now += 10
        world.set_running(name_of(worker))
    if case == "not ready":
        worker["status"]["conditions"][0]["status"] = "False"
    assert not world.step().actions


# --- size and shape


def test_scale_up_and_down() -> None:
    world = provisioned(raycluster(group(replicas=1)))
    world.edit(workerGroupSpecs=[group(replicas=4)])
    world.settle()
    world.run_pods()
    world.settle()
    assert len(world.of("small")) == 4
    busy = name_of(world.of("small")[0])
    world.load = {world.pods[busy]["status"]["podIP"]: 1}
    world.edit(workerGroupSpecs=[group(replicas=1)])
    world.settle()
    assert [name_of(pod) for pod in world.of("small")] == [busy]
    assert "DeletedWorkerPod" in world.reasons()


@pytest.mark.parametrize(("replicas", "expected"), [(0, 1), (5, 3), (2, 2)])
def test_size_is_held_between_minimum_and_maximum(replicas: int, expected: int) -> None:
    world = World(raycluster(group(replicas=replicas, minReplicas=1, maxReplicas=3), enableInTreeAutoscaling=True))
    world.settle()
    assert len(world.of("small")) == expected


def test_the_autoscaler_names_its_victims() -> None:
    autoscaled = {"enableInTreeAutoscaling": True}
    world = provisioned(raycluster(group(replicas=3), **autoscaled))
    world.edit(workerGroupSpecs=[group(replicas=1)])
    assert not world.step().actions, "fewer replicas alone delete nothing"
    victims = sorted(name_of(pod) for pod in world.of("small"))[:2]
    world.edit(workerGroupSpecs=[group(replicas=1, scaleStrategy={"workersToDelete": victims})])
    assert sorted(deleted(world.step())) == victims
    world.run_pods()
    world.edit(workerGroupSpecs=[group(replicas=1, scaleStrategy={"workersToDelete": []})])
    world.settle()
    assert len(world.of("small")) == 1


def test_pods_of_a_removed_group_go() -> None:
    world = provisioned(raycluster(group("a", 1), group("b", 2)))
    world.edit(workerGroupSpecs=[group("a", 1)])
    world.settle()
    assert not world.of("b")
    assert len(world.of("a")) == 1


def test_an_edited_template_is_held_back_and_told() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    before = set(world.pods)
    told = len(world.notes)
    world.edit(workerGroupSpecs=[group(replicas=2, template=template(image="rayproject/ray:2.61.0"))])
    world.settle()
    assert set(world.pods) == before
    held = world.condition("TemplateChangeHeldBack")
    assert held is not None
    assert "2 of group small" in held["message"]
    assert world.reasons()[told:] == ["TemplateChangeHeldBack"]
    del world.pods[name_of(world.of("small")[0])]
    world.settle()
    images = sorted(pod["spec"]["containers"][0]["image"] for pod in world.of("small"))
    assert images == ["rayproject/ray:2.60.0", "rayproject/ray:2.61.0"]


# --- children


def test_a_service_that_somebody_edits_or_deletes_is_put_right() -> None:
    world = provisioned(raycluster())
    key = ("Service", "demo-head-svc")
    good = copy.deepcopy(world.children[key])
    world.children[key]["spec"]["selector"] = {"app": "other"}
    world.settle()
    assert world.children[key] == good
    del world.children[key]
    world.settle()
    assert world.children[key] == good


def test_a_rayservices_cluster_has_no_serve_service_of_its_own() -> None:
    cluster = raycluster()
    cluster["metadata"]["annotations"] = {"ray.io/enable-serve-service": "true"}
    world = provisioned(cluster)
    assert ("Service", "demo-serve-svc") in world.children
    world = provisioned(of_service(cluster))
    assert ("Service", "demo-serve-svc") not in world.children


def test_secret_is_made_with_every_burst_of_pods() -> None:
    world = provisioned(raycluster(group(replicas=1), authOptions={"mode": "token"}))
    world.edit(workerGroupSpecs=[group(replicas=2)])
    decision = world.step()
    assert isinstance(decision.actions[0], EnsureSecret)


# --- deletion


def test_without_a_finalizer_of_ours_nothing_is_done() -> None:
    world = provisioned(raycluster(group()))
    world.delete()
    assert world.step() == Decision()


def finish_job(world: World, type_: str) -> None:
    world.children[("Job", "demo-redis-cleanup")]["status"] = {"conditions": [{"type": type_, "status": "True"}]}


@pytest.mark.parametrize(("ending", "warned"), [("Complete", False), ("Failed", True), (None, True)])
def test_redis_is_cleaned_before_the_cluster_goes(ending: str | None, warned: bool) -> None:
    world = provisioned(raycluster(group(), gcsFaultToleranceOptions=REDIS))
    world.cluster["metadata"]["finalizers"].insert(0, "somebody.else/first")
    world.delete()
    assert len(deleted(world.step())) == 2
    assert not world.step().actions, "pods that still run would write their keys again"
    world.run_pods()
    assert kinds(world.step()) == ["Create:Job"]
    decision = world.step()
    assert not decision.actions
    assert decision.wake_at == world.now + 300
    told = len(world.notes)
    if ending is None:
        world.now += 300
    else:
        finish_job(world, ending)
    world.step()
    assert world.cluster["metadata"]["finalizers"] == ["somebody.else/first"]
    assert world.reasons()[told:] == (["RedisCleanupFailed"] if warned else [])
    assert world.step() == Decision()


def test_deleted_in_the_foreground_it_keeps_its_job() -> None:
    """History 10574: the garbage collector takes all that such a cluster owns, as often as it is made."""
    world = provisioned(raycluster(group(), gcsFaultToleranceOptions=REDIS))
    world.delete()
    world.cluster["metadata"]["finalizers"] += ["foregroundDeletion", "somebody.else/last"]
    world.step()
    world.run_pods()
    assert not created(world.step())
    assert world.cluster["metadata"]["finalizers"] == ["ray.io/gcs-ft-redis-cleanup-finalizer", "somebody.else/last"]
    assert kinds(world.step()) == ["Create:Job"]


def test_cleanup_job_has_what_it_needs_and_no_more() -> None:
    options = {**REDIS, "redisPassword": {"value": "secret"}}
    world = provisioned(raycluster(group(), gcsFaultToleranceOptions=options, enableInTreeAutoscaling=True))
    world.cluster["metadata"]["annotations"] = {"ray.io/gcs-ft-deletion-timeout": "60"}
    world.delete()
    world.step()
    world.run_pods()
    (job,) = created(world.step())
    spec = job["spec"]["template"]["spec"]
    assert job["spec"]["activeDeadlineSeconds"] == 60
    assert job["spec"]["backoffLimit"] == 0
    (container,) = spec["containers"]
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert env["RAY_REDIS_ADDRESS"] == "redis:6379"
    assert env["REDIS_PASSWORD"] == "secret"
    assert env["RAY_external_storage_namespace"] == "cluster-uid"
    assert spec["restartPolicy"] == "Never"
    assert "livenessProbe" not in container
    assert job["spec"]["template"]["metadata"]["labels"]["ray.io/node-type"] == "redis-cleanup"


def test_a_spec_that_cannot_be_read_does_not_block_deletion() -> None:
    world = provisioned(raycluster(group(), gcsFaultToleranceOptions=REDIS))
    world.cluster["spec"] = {"nonsense": True}
    world.delete()
    world.step()
    assert world.cluster["metadata"]["finalizers"] == []
