"""The endpoints of a split: one kind of pod is left out only when the other kind answers for it."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.decision import Decision, MergePatch
from rayservice_operator.service import revisions
from rayservice_operator.service.apps import Phase
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, application, cluster_spec, edited, endpoint_slice, rayservice
from tests.service.test_routes import STRATEGY, in_steps, with_gateway

OPTIONS = {key: value for key, value in STRATEGY["clusterUpgradeOptions"].items() if key != "gatewayClassName"}


def by_endpoints(traffic: int) -> ServiceSnapshot:
    """As ``in_steps`` without a gateway: the new cluster's one pod answers and is behind no service yet."""
    snapshot = edited(in_steps(traffic), upgradeStrategy={**STRATEGY, "clusterUpgradeOptions": OPTIONS})
    (head,) = snapshot.pods["demo-two"]
    labels = {**head["metadata"]["labels"], names.SERVE: "false"}
    pods = {**snapshot.pods, "demo-two": ({**head, "metadata": {**head["metadata"], "labels": labels}},)}
    return dataclasses.replace(snapshot, pods=pods)


def labelled(decision: Decision) -> dict[str, str]:
    return {
        action.ref.name: action.patch["metadata"]["labels"][names.SERVE]
        for action in decision.actions
        if isinstance(action, MergePatch) and names.SERVE in action.patch["metadata"].get("labels", {})
    }


def test_no_pod_is_left_out_before_the_chosen_ones_are_endpoints() -> None:
    """The last step: all requests to the new cluster. Labels may reach the network late and in any order."""
    snapshot = by_endpoints(100)
    first = labelled(decide(snapshot, NOW))
    assert first["demo-two-head"] == "true"
    assert set(first.values()) == {"true"}

    (head,) = snapshot.pods["demo-two"]
    old = snapshot.pods["demo-one"]
    followed = dataclasses.replace(snapshot, endpoint_slices=(endpoint_slice(*old, head),))
    second = labelled(decide(followed, NOW))
    assert {second[pod["metadata"]["name"]] for pod in old} == {"false"}


def test_a_split_selects_only_when_every_pod_in_use_has_the_label_for_it() -> None:
    """Pods of before this operator have none: selected by it they would be left out."""
    decision = decide(by_endpoints(25), NOW)
    services = [a.obj for a in decision.actions if hasattr(a, "obj") and a.obj["metadata"]["name"] == "demo-serve-svc"]
    assert services[0]["spec"]["selector"][names.CLUSTER] == "demo-one"
    named = [a for a in decision.actions if isinstance(a, MergePatch) and a.ref.kind == "Pod"]
    assert all(a.patch["metadata"]["labels"][names.RAYSERVICE] == "demo" for a in named)
    assert {a.ref.name for a in named} >= {pod["metadata"]["name"] for pod in by_endpoints(25).pods["demo-one"]}


def going_back(new: Phase) -> Decision:
    """Turned back with half of the requests moved, when both clusters have half of the capacity."""
    snapshot = edited(in_steps(50), rayClusterConfig=cluster_spec())
    history = (revisions.build(rayservice(), 1),)
    service = copy.deepcopy(snapshot.service)
    for which in ("activeServiceStatus", "pendingServiceStatus"):
        service["status"][which]["targetCapacity"] = 50
    seen = {name: dataclasses.replace(o, target_capacity=50) for name, o in snapshot.observations.items()}
    status = {Phase.DEPLOYING: "DEPLOYING", Phase.FAILED: "DEPLOY_FAILED"}[new]
    seen["demo-two"] = dataclasses.replace(seen["demo-two"], applications={"greeter": application(status)})
    snapshot = dataclasses.replace(snapshot, service=service, observations=seen, revisions=history)
    return decide(with_gateway(snapshot, decide(snapshot, NOW)), NOW + 6)


@pytest.mark.parametrize(("new", "traffic"), [(Phase.DEPLOYING, 50), (Phase.FAILED, 0)])
def test_a_cluster_whose_capacity_is_being_changed_keeps_its_requests_until_the_other_has_room(
    new: Phase, traffic: int
) -> None:
    """One that has failed loses them at once."""
    status = going_back(new).status
    assert status is not None
    assert status["pendingServiceStatus"]["trafficRoutedPercent"] == traffic
