"""The steps of a RayCluster's decision, each from a failing or waiting state to the next."""

from __future__ import annotations

from rayservice_operator.core.decision import Apply, Create, DryRun
from rayservice_operator.core.objects import name_of
from tests.cluster.world import World, group, provisioned, raycluster


def kinds(actions: object) -> list[str]:
    return [
        f"{type(a).__name__}:{a.obj['kind']}" if isinstance(a, Apply | Create | DryRun) else type(a).__name__
        for a in actions  # type: ignore[attr-defined]
    ]


def test_from_nothing_to_ready_in_three_decisions() -> None:
    world = World(raycluster(group(replicas=2)))
    assert kinds(world.step().actions) == ["Apply:Service", "DryRun:Pod", "DryRun:Pod"]
    assert kinds(world.step().actions) == ["Create:Pod"]
    assert kinds(world.step().actions) == ["Create:Pod", "Create:Pod"]
    world.run_pods()
    decision = world.step()
    assert not decision.actions
    assert decision.wake_at is None
    status = world.cluster["status"]
    assert status["state"] == "ready"
    assert status["readyWorkerReplicas"] == status["availableWorkerReplicas"] == 2
    assert status["head"]["podName"] == name_of(world.head)
    assert world.reasons() == ["CreatedHeadPod", "CreatedWorkerPod"]


def test_idle_means_no_writes() -> None:
    world = provisioned(raycluster(group(replicas=2)))
    world.now += 86_400
    before = world.writes
    decision = world.step()
    assert world.writes == before
    assert not decision.notes
    assert decision.wake_at is None


def test_managed_elsewhere_is_left_alone() -> None:
    world = World(raycluster(group(), managedBy="kueue.x-k8s.io/multikueue"))
    decision = world.step()
    assert not decision.actions
    assert decision.status is None
