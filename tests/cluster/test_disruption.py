"""PodDisruptionBudgets of a RayService's clusters, and that nothing depends on them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster import disruption
from rayservice_operator.cluster.decide import decide
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Apply, Create, Delete
from rayservice_operator.core.objects import Manifest, name_of
from tests.cluster.test_pod import head, worker
from tests.cluster.world import World, group, of_service, raycluster

REDIS = {"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}


def available(cluster: Manifest) -> dict[str, int]:
    """Name of budget -> pods that have to stay."""
    budgets = disruption.budgets(view_of(cluster, OperatorConfig()))
    return {name_of(budget): budget["spec"]["minAvailable"] for budget in budgets}


def annotated(cluster: Manifest, **annotations: str) -> Manifest:
    """The cluster with annotations, ``disruption_budget`` for ``ray.io/disruption-budget``."""
    result = copy.deepcopy(cluster)
    result["metadata"]["annotations"] = {f"ray.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return result


SERVED = of_service(raycluster(group("a", 2), group("b", 3)))


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (SERVED, {"demo-worker": 4, "demo-head": 1}),
        (of_service(raycluster(group("a", 1))), {"demo-worker": 0, "demo-head": 1}),
        (of_service(raycluster(group("a", 0))), {"demo-worker": 0, "demo-head": 1}),
        (of_service(raycluster()), {"demo-head": 1}),
        (of_service(raycluster(group("a", 2), **REDIS)), {"demo-worker": 1}),
        (raycluster(group("a", 2)), {}),
        (annotated(SERVED, disruption_budget="all"), {"demo-worker": 4, "demo-head": 1}),
        (annotated(SERVED, disruption_budget="Workers"), {"demo-worker": 4}),
        (annotated(SERVED, disruption_budget="none"), {}),
        (annotated(SERVED, disruption_budget="nobody"), {"demo-worker": 4, "demo-head": 1}),
    ],
)
def test_how_many_have_to_stay(cluster: Manifest, expected: dict[str, int]) -> None:
    assert available(cluster) == expected


def test_a_cluster_that_is_about_to_go_holds_up_nobody() -> None:
    cluster = copy.deepcopy(SERVED)
    cluster["metadata"]["annotations"] = {names.DELETE_AFTER: "2026-01-01T00:00:00Z"}
    assert available(cluster) == {}


def test_selectors_find_the_pods_of_their_kind_and_no_others() -> None:
    workers, heads = (b["spec"]["selector"]["matchLabels"].items() for b in disruption.budgets(_view(SERVED)))
    assert workers <= worker(SERVED)["metadata"]["labels"].items()
    assert heads <= head(SERVED)["metadata"]["labels"].items()
    assert not workers <= head(SERVED)["metadata"]["labels"].items()
    assert not heads <= worker(SERVED)["metadata"]["labels"].items()


def _view(cluster: Manifest) -> Any:
    return view_of(cluster, OperatorConfig())


def test_budgets_come_last_so_that_one_that_fails_costs_nothing_else() -> None:
    world = World(SERVED)
    seen: list[list[str]] = []
    for _ in range(10):
        decision = decide(world.snapshot(), world.now)
        seen.append([a.obj["kind"] if isinstance(a, Apply | Create) else type(a).__name__ for a in decision.actions])
        if not decision.actions:
            break
        world.step()
    assert any(disruption.KIND in kinds for kinds in seen)
    for kinds in seen:
        assert disruption.KIND not in kinds[: len(kinds) - kinds.count(disruption.KIND)]


def test_what_the_annotation_takes_away_is_deleted_and_what_the_user_made_is_not() -> None:
    budgets = disruption.budgets(_view(SERVED))
    own = copy.deepcopy(budgets[0])
    own["metadata"]["name"] = "mine"
    fewer = disruption.budgets(_view(annotated(SERVED, disruption_budget="workers")))
    deletions = disruption.unwanted(_view(SERVED), (*budgets, own), fewer)
    assert [(type(d), d.ref.name) for d in deletions] == [(Delete, "demo-head")]
    assert disruption.unwanted(_view(SERVED), (*budgets, own), budgets) == []


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        ({"matchLabels": {names.CLUSTER: "demo", names.NODE_TYPE: "worker"}}, ["demo-head"]),
        ({"matchLabels": {names.NODE_GROUP: "b"}}, ["demo-head"]),
        ({"matchLabels": {names.CLUSTER: "another"}}, ["demo-worker", "demo-head"]),
        ({}, []),
        (None, ["demo-worker", "demo-head"]),
        ({"matchExpressions": [{"key": names.NODE_TYPE, "operator": "In", "values": ["head", "x"]}]}, ["demo-worker"]),
        ({"matchExpressions": [{"key": names.NODE_TYPE, "operator": "NotIn", "values": ["head"]}]}, ["demo-head"]),
        ({"matchExpressions": [{"key": names.IS_RAY_NODE, "operator": "Exists"}]}, []),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, []),
    ],
)
def test_pods_that_somebody_elses_budget_selects_get_none_of_ours(selector: Any, kept: list[str]) -> None:
    """The API server cannot evict a pod that two budgets select."""
    theirs = {"kind": disruption.KIND, "metadata": {"name": "theirs"}, "spec": {"selector": selector}}
    assert [name_of(budget) for budget in disruption.budgets(_view(SERVED), [theirs])] == kept
