"""The endpoints of a split: one kind of pod is left out only when the other kind answers for it."""

from __future__ import annotations

import dataclasses

from rayservice_operator.api import names
from rayservice_operator.core.decision import Decision, MergePatch
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, edited, endpoint_slice
from tests.service.test_routes import STRATEGY, in_steps

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
