"""A gateway's objects: what they lead to, what they do not, and what is told while they do not work."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from rayservice_operator.core.decision import Apply, Decision, Delete, MergePatch
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, cluster_spec, config_hash, edited, endpoint_slice, pod, raycluster, serving
from tests.service.test_decide import upgrading

OPTIONS = {"maxSurgePercent": 100, "stepSizePercent": 25, "intervalSeconds": 10, "gatewayClassName": "shop"}
STRATEGY: dict[str, Any] = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": OPTIONS}


def in_steps(traffic: int, *, serves: bool = True, reached: bool = True) -> ServiceSnapshot:
    """An upgrade from demo-one to demo-two, which has been given this share of the requests.

    serves: it answers; reached: the network knows so.
    """
    snapshot = upgrading("proven")
    service = copy.deepcopy(snapshot.service)
    service["spec"]["upgradeStrategy"] = STRATEGY
    moved = {"lastTrafficMigratedTime": to_rfc3339(NOW - 5)}
    status = service["status"]
    status["activeServiceStatus"] |= {"targetCapacity": 100, "trafficRoutedPercent": 100 - traffic, **moved}
    status["pendingServiceStatus"] |= {"targetCapacity": 100, "trafficRoutedPercent": traffic, **moved}
    old, new = raycluster("demo-one"), raycluster("demo-two", cluster_spec("ray:2"))
    head = pod(new, "head", "10.0.1.1", serve=serves, ready=serves)
    seen = {name: dataclasses.replace(o, target_capacity=100) for name, o in snapshot.observations.items()}
    pods = {**snapshot.pods, "demo-two": (head,)}
    slices = (
        *snapshot.endpoint_slices,
        endpoint_slice(*pods["demo-one"], service="demo-one-serve-svc"),
        endpoint_slice(*((head,) if serves and reached else ()), service="demo-two-serve-svc"),
    )
    return dataclasses.replace(
        snapshot,
        service=service,
        clusters=(old, new),
        pods=pods,
        observations=seen,
        endpoint_slices=slices,
    )


def applied(decision: Decision) -> dict[str, Manifest]:
    return {f"{a.obj['kind']} {a.obj['metadata']['name']}": a.obj for a in decision.actions if isinstance(a, Apply)}


def weights(decision: Decision) -> dict[str, int]:
    (rule,) = applied(decision)["HTTPRoute demo-httproute"]["spec"]["rules"]
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


def with_gateway(snapshot: ServiceSnapshot, decision: Decision, **broken: str) -> ServiceSnapshot:
    """The snapshot with what was applied, accepted by the gateway's controller but for the conditions ``broken``."""
    children = []
    for obj in applied(decision).values():
        child = {**obj, "metadata": {**obj["metadata"], "generation": 1, "uid": obj["metadata"]["name"]}}
        types = ("Accepted", "Programmed") if obj["kind"] == "Gateway" else ("Accepted", "ResolvedRefs")
        conditions = [
            {
                "type": type_,
                "status": "False" if type_ in broken else "True",
                "message": broken.get(type_, ""),
                "observedGeneration": 1,
            }
            for type_ in types
        ]
        if obj["kind"] == "Gateway":
            child["status"] = {"conditions": conditions}
        if obj["kind"] == "HTTPRoute":
            child["status"] = {"parents": [{"conditions": conditions}]}
        children.append(child)
    return dataclasses.replace(snapshot, children=tuple(children))


def test_all_requests_go_to_the_only_cluster() -> None:
    decision = decide(edited(serving(), upgradeStrategy=STRATEGY), NOW)
    assert weights(decision) == {"demo-one-serve-svc": 100}
    made = applied(decision)
    gateway = made["Gateway demo-gateway"]["spec"]
    assert gateway["gatewayClassName"] == "shop"
    assert [(one["port"], one["protocol"]) for one in gateway["listeners"]] == [(80, "HTTP")]
    parent = made["HTTPRoute demo-httproute"]["spec"]["parentRefs"]
    assert parent == [{"name": "demo-gateway", "namespace": "default"}]
    backend = made["Service demo-one-serve-svc"]["spec"]
    assert backend["selector"]["ray.io/cluster"] == "demo-one"
    assert [(port["port"], port["appProtocol"]) for port in backend["ports"]] == [(8000, "http")], "as gateways want it"


def test_what_may_fail_without_the_gateway_api_comes_last() -> None:
    """An action that fails stops those behind it; a former cluster has to go all the same."""
    snapshot = edited(serving(), upgradeStrategy=STRATEGY)
    former = raycluster("demo-old", cluster_spec("ray:0"))
    actions = decide(dataclasses.replace(snapshot, clusters=(*snapshot.clusters, former)), NOW).actions
    routed = [n for n, a in enumerate(actions) if isinstance(a, Apply) and a.obj["kind"] in {"Gateway", "HTTPRoute"}]
    marked = [n for n, a in enumerate(actions) if isinstance(a, MergePatch) and a.ref.name == "demo-old"]
    assert marked
    assert min(routed) > max(marked)


def test_the_gateway_is_there_whatever_the_strategy() -> None:
    """Clients of the gateway are led on after another kind of upgrade too."""
    decision = decide(edited(serving(), upgradeStrategy={**STRATEGY, "type": "NewCluster"}), NOW)
    assert weights(decision) == {"demo-one-serve-svc": 100}


def test_weights_are_the_shares_with_the_old_cluster_first() -> None:
    decision = decide(in_steps(25), NOW)
    assert list(weights(decision).items()) == [("demo-one-serve-svc", 75), ("demo-two-serve-svc", 25)]
    serve = applied(decision)["Service demo-serve-svc"]
    assert serve["spec"]["selector"] == {"ray.io/cluster": "demo-one", "ray.io/serve": "true"}


def test_a_cluster_that_does_not_answer_has_no_weight() -> None:
    assert weights(decide(in_steps(25, serves=False), NOW)) == {"demo-one-serve-svc": 100, "demo-two-serve-svc": 0}


def test_what_the_network_does_not_know_yet_has_no_weight_and_gets_none() -> None:
    """Pods are labelled before the EndpointSlices have them; a gateway would answer 503 meanwhile."""
    assert weights(decide(in_steps(25, reached=False), NOW)) == {"demo-one-serve-svc": 100, "demo-two-serve-svc": 0}
    snapshot = in_steps(0, reached=False)
    waiting = decide(with_gateway(snapshot, decide(snapshot, NOW)), NOW + 10)
    assert waiting.status is not None
    assert waiting.status["pendingServiceStatus"]["trafficRoutedPercent"] == 0
    snapshot = in_steps(0)
    moving = decide(with_gateway(snapshot, decide(snapshot, NOW)), NOW + 10)
    assert moving.status is not None
    assert moving.status["pendingServiceStatus"]["trafficRoutedPercent"] == 25


@pytest.mark.parametrize("reached", [False, True])
def test_after_a_switch_the_route_follows_once_the_network_knows_the_new_cluster(reached: bool) -> None:
    snapshot = in_steps(0, reached=reached)
    stored = with_gateway(snapshot, decide(in_steps(0), NOW))
    status: dict[str, Any] = {
        "activeServiceStatus": {"rayClusterName": "demo-two", "appliedConfigHash": config_hash()},
        "pendingServiceStatus": None,
    }
    service = {**stored.service, "status": {**stored.service["status"], **status}}
    decision = decide(dataclasses.replace(stored, service=service), NOW)
    route = applied(decision).get("HTTPRoute demo-httproute")
    assert (route is not None) == reached
    assert not any(isinstance(action, Delete) for action in decision.actions)
    if route:
        assert weights(decision) == {"demo-two-serve-svc": 100}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"Programmed": "no address"}, "Gateway demo-gateway is not Programmed: no address"),
        ({"ResolvedRefs": "no such port"}, "HTTPRoute demo-httproute is not ResolvedRefs: no such port"),
    ],
)
def test_nothing_moves_while_the_gateway_does_not_work_and_it_is_told(broken: dict[str, Any], told: str) -> None:
    snapshot = in_steps(25)
    decision = decide(with_gateway(snapshot, decide(snapshot, NOW), **broken), NOW + 10)
    status = decision.status
    assert status is not None
    assert status["pendingServiceStatus"]["trafficRoutedPercent"] == 25
    assert told in status["upgrade"]["message"]


def test_the_next_step_follows_when_the_weights_are_in_effect_and_the_interval_is_over() -> None:
    snapshot = in_steps(25)
    ready = with_gateway(snapshot, decide(snapshot, NOW))
    early, due = decide(ready, NOW), decide(ready, NOW + 6)
    assert early.status is not None
    assert early.status["pendingServiceStatus"]["trafficRoutedPercent"] == 25
    assert early.wake_at == NOW + 5
    assert due.status is not None
    assert due.status["pendingServiceStatus"]["trafficRoutedPercent"] == 50
    assert due.actions == (), "commanded first"


def test_without_a_gateway_class_what_was_made_goes() -> None:
    snapshot = edited(serving(), upgradeStrategy=STRATEGY)
    ready = with_gateway(snapshot, decide(snapshot, NOW))
    decision = decide(edited(ready, upgradeStrategy={"type": "NewCluster"}), NOW)
    deleted = {f"{a.ref.kind} {a.ref.name}" for a in decision.actions if isinstance(a, Delete)}
    assert deleted == {"Gateway demo-gateway", "HTTPRoute demo-httproute", "Service demo-one-serve-svc"}
