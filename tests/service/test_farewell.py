"""Clients that keep their connections leave a cluster with its role, and not sooner."""

from __future__ import annotations

import dataclasses

from rayservice_operator.api import names
from rayservice_operator.core.decision import Apply, Decision, MergePatch
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import farewell
from rayservice_operator.service.context import build
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from rayservice_operator.service.strategies.base import Plan
from tests.service.builders import NOW, cluster_spec, pod, raycluster, serving


def patched(decision: Decision) -> dict[str, str | None]:
    """Name of pod -> its new mark."""
    marks = {
        action.ref.name: action.patch["metadata"]["annotations"]
        for action in decision.actions
        if isinstance(action, MergePatch) and "annotations" in action.patch.get("metadata", {})
    }
    return {name: found[names.DRAINING] for name, found in marks.items() if names.DRAINING in found}


def with_module(obj: Manifest, **more: str) -> Manifest:
    """A pod whose proxies can be told."""
    obj["metadata"]["annotations"] = {names.PROXY_MODULE: "…", **more}
    return obj


def promoted(*old_pods: Manifest, old: Manifest) -> ServiceSnapshot:
    """``demo-one`` is active, and the cluster before it is still there."""
    snapshot = serving()
    return dataclasses.replace(
        snapshot, clusters=(*snapshot.clusters, old), pods={**snapshot.pods, "demo-old": old_pods}
    )


def test_pods_of_the_cluster_before_are_marked_after_the_services_have_moved() -> None:
    old = raycluster("demo-old", cluster_spec("ray:0"))
    pods = [with_module(pod(old, "head", "10.0.1.1")), with_module(pod(old, "1", "10.0.1.2"))]
    decision = decide(promoted(*pods, old=old), NOW)
    assert patched(decision) == {"demo-old-head": to_rfc3339(NOW), "demo-old-1": to_rfc3339(NOW)}
    kinds = [type(action) for action in decision.actions]
    assert Apply in kinds
    assert Apply not in kinds[kinds.index(MergePatch) :]


def test_a_mark_is_set_once_and_only_where_somebody_reads_it() -> None:
    old = raycluster("demo-old", cluster_spec("ray:0"))
    marked = with_module(pod(old, "head", "10.0.1.1"), **{names.DRAINING: to_rfc3339(NOW - 5)})
    foreign = pod(old, "1", "10.0.1.2")
    going = with_module(pod(old, "2", "10.0.1.3"))
    going["metadata"]["deletionTimestamp"] = to_rfc3339(NOW)
    assert patched(decide(promoted(marked, foreign, going, old=old), NOW)) == {}


def test_a_cluster_that_is_taken_back_keeps_its_clients() -> None:
    snapshot = serving()
    pods = snapshot.pods["demo-one"]
    for item in pods:
        with_module(item, **{names.DRAINING: "2026-01-01T00:00:00Z"})
    assert patched(decide(snapshot, NOW)) == {"demo-one-head": None, "demo-one-1": None}


def test_the_choice_of_budgets_counts_for_the_cluster_that_is_there() -> None:
    """Somebody whose node drain is held up cannot wait for the next cluster."""
    snapshot = serving()
    assert not _choices(decide(snapshot, NOW))
    snapshot.service["metadata"]["annotations"] = {names.DISRUPTION_BUDGET: "workers"}
    assert _choices(decide(snapshot, NOW)) == {"demo-one": "workers"}
    snapshot.clusters[0]["metadata"]["annotations"][names.DISRUPTION_BUDGET] = "workers"
    assert not _choices(decide(snapshot, NOW))
    snapshot.service["metadata"]["annotations"] = {}
    assert _choices(decide(snapshot, NOW)) == {"demo-one": None}


def _choices(decision: Decision) -> dict[str, str | None]:
    """Name of RayCluster -> the choice that is passed on to it."""
    found = {}
    for action in decision.actions:
        if isinstance(action, MergePatch) and action.ref.kind == "RayCluster":
            annotations = action.patch["metadata"]["annotations"]
            if names.DISRUPTION_BUDGET in annotations:
                found[action.ref.name] = annotations[names.DISRUPTION_BUDGET]
    return found


def marks(snapshot: ServiceSnapshot, plan: Plan, split: dict[str, set[str]] | None) -> list[MergePatch]:
    """The patches alone."""
    return farewell.plan_marks(build(snapshot, NOW), plan, split)[0]


def test_a_mark_is_written_twice_for_a_kubelet_that_missed_it_and_not_more_often() -> None:
    old = raycluster("demo-old", cluster_spec("ray:0"), annotations={names.DELETE_AFTER: to_rfc3339(NOW + 60)})
    item = with_module(pod(old, "head", "10.0.1.1"))
    snapshot = promoted(item, old=old)
    first = decide(snapshot, NOW)
    assert patched(first) == {"demo-old-head": to_rfc3339(NOW)}
    item["metadata"]["annotations"][names.DRAINING] = to_rfc3339(NOW)
    waiting = decide(snapshot, NOW + 1)
    assert patched(waiting) == {}
    assert waiting.wake_at is not None
    assert waiting.wake_at <= NOW + farewell.REPEAT_S
    again = patched(decide(snapshot, NOW + farewell.REPEAT_S))["demo-old-head"]
    assert again is not None
    assert again.startswith(to_rfc3339(NOW))
    item["metadata"]["annotations"][names.DRAINING] = again
    assert patched(decide(snapshot, NOW + 2 * farewell.REPEAT_S)) == {}


def test_a_pod_that_a_split_leaves_out_loses_its_clients_and_gets_them_back() -> None:
    snapshot = serving()
    chosen, left_out = (with_module(item) for item in snapshot.pods["demo-one"])
    plan = Plan("demo-one", "")
    split = {"demo-one": {chosen["metadata"]["uid"]}}
    assert marks(snapshot, plan, split) == []  # it is still an endpoint

    left_out["metadata"]["labels"][names.SERVE] = "false"
    (patch,) = marks(snapshot, plan, split)
    assert patch.ref.name == left_out["metadata"]["name"]
    left_out["metadata"]["annotations"][names.DRAINING] = to_rfc3339(NOW)
    assert marks(snapshot, plan, split) == []
    (patch,) = marks(snapshot, plan, None)
    assert patch.patch == {"metadata": {"annotations": {names.DRAINING: None}}}
