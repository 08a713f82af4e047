"""Whatever happens to pods and operator, in whatever order: never two live heads, and in the end all is as wanted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayservice_operator.api import names
from rayservice_operator.core.objects import labels_of, metadata, name_of
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from tests.cluster.world import World, group, provisioned, raycluster

POD_EVENTS = ("fail", "delete", "terminate", "run", "unready", "vanish", "restart")
EVENTS = st.tuples(
    st.sampled_from(["operate", "operate", "operate", "wait", "scale", "suspend", "resume", "forget", *POD_EVENTS]),
    st.integers(0, 4),
)
"""What happens, and a number: which pod (0 is the head, if there is one), how many actions, how long."""


def may_run(world: World, pod: dict[str, Any]) -> bool:
    """Whether its Ray may be running: also on its way out, until the kubelet says otherwise or is given up."""
    gone_by = from_rfc3339(metadata(pod).get("deletionTimestamp"))
    given_up = gone_by is not None and world.now >= gone_by + 30
    return pod["status"]["phase"] not in {"Failed", "Succeeded"} and not given_up


def check(world: World) -> None:
    """What must hold at every moment."""
    heads = [pod for pod in world.pods.values() if labels_of(pod)[names.NODE_TYPE] == names.HEAD]
    assert sum(may_run(world, pod) for pod in heads) <= 1
    uids = [metadata(pod)["uid"] for pod in world.pods.values()]
    assert len(uids) == len(set(uids))


def happen(world: World, event: str, number: int) -> None:
    """One event."""
    pods = sorted(world.pods)
    pod = world.pods[pods[number % len(pods)]] if pods else None
    match event:
        case "operate":
            world.step(stop_after=number or None)
        case "scale":
            world.edit(workerGroupSpecs=[group(replicas=number), group("other", replicas=1)])
        case "wait":
            world.now += 7**number
        case "suspend" | "resume":
            world.edit(suspend=event == "suspend")
        case "forget":
            world.dry_runs.clear()
        case "run":
            world.run_pods()
        case _ if pod is None:
            pass
        case "fail":
            world.fail(name_of(pod))
        case "delete":
            del world.pods[name_of(pod)]
        case "terminate":
            pod["metadata"].setdefault("deletionTimestamp", to_rfc3339(world.now + 30))
        case "vanish":
            if metadata(pod).get("deletionTimestamp"):
                del world.pods[name_of(pod)]
        case "unready" if pod["status"]["phase"] == "Running":
            pod["status"]["conditions"][0]["status"] = "False"
        case "restart" if pod["status"]["phase"] == "Running":
            (found,) = pod["status"]["containerStatuses"]
            found["restartCount"] += 1
            found["state"] = {"running": {"startedAt": to_rfc3339(world.now)}}


@pytest.mark.parametrize("options", [{}, {"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}])
@given(running=st.booleans(), events=st.lists(EVENTS, max_size=16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_converges(options: dict[str, Any], running: bool, events: list[tuple[str, int]]) -> None:
    cluster = raycluster(group(replicas=2), group("other", replicas=1), **options)
    world = World(cluster)
    world.careful = False  # purity is looked after everywhere else; this has many decisions to make
    if running:
        for _ in range(3):
            world.settle()
            world.run_pods()
    for event, number in events:
        happen(world, event, number)
        check(world)

    world.edit(suspend=False)
    for _ in range(5):
        world.settle()
        world.run_pods()
        for pod in list(world.pods.values()):
            if pod["status"]["phase"] == "Running" and pod["status"]["conditions"][0]["status"] == "False":
                world.set_running(name_of(pod))
        world.now += 400
    world.settle()
    check(world)
    wanted = {spec["groupName"]: spec["replicas"] for spec in world.cluster["spec"]["workerGroupSpecs"]}
    assert {name: len(world.of(name)) for name in wanted} == wanted
    assert world.head
    assert world.cluster["status"]["state"] == "ready"
    assert world.condition("Reconciling") is None
    before = world.writes
    decision = world.step()
    assert world.writes == before
    assert decision.wake_at is None


@given(order=st.permutations(range(6)))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_order_in_which_pods_are_listed_does_not_matter(order: list[int]) -> None:
    world = provisioned(raycluster(group(replicas=5)))
    world.edit(workerGroupSpecs=[group(replicas=2)])
    expected = world.decide()
    pods = list(world.pods.items())
    world.pods = dict(pods[i] for i in order)
    assert world.decide() == expected
