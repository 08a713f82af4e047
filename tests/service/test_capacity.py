"""Whether there is room: nodes that fit, first fit, quotas, and what is said."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.room import PodsWanted, Room
from rayservice_operator.service.capacity import survey as surveys
from rayservice_operator.service.capacity.packing import Load, fits, pack
from rayservice_operator.service.capacity.placement import Obstacle, obstacle, one_per_node
from rayservice_operator.service.capacity.survey import Node, Quota, Survey, Usage
from rayservice_operator.service.capacity.verdict import evaluate
from tests.cluster.world import CALM

GPU = "nvidia.com/gpu"


def manifest(name: str = "a", gpus: int = 0, cpu: str = "8", **fields: Any) -> Manifest:
    """A Node as the API server has it."""
    allocatable = {"cpu": cpu, "memory": "32Gi", "pods": "110"} | ({GPU: str(gpus)} if gpus else {})
    meta = {"name": name, "labels": fields.pop("labels", {}), "annotations": fields.pop("annotations", {})}
    conditions = [{"type": "Ready", "status": fields.pop("ready", "True")}]
    return {"metadata": meta, "spec": fields, "status": {"allocatable": allocatable, "conditions": conditions}}


def node(name: str = "a", gpus: int = 0, cpu: str = "8", *pods: Manifest, **fields: Any) -> Node:
    """The same as surveyed, with these pods on it."""
    usage = Usage()
    usage.add({**pod, "spec": {**pod["spec"], "nodeName": name}} for pod in pods)
    return surveys.node(manifest(name, gpus, cpu, **fields), usage)


def pod(gpus: int = 0, cpu: str = "1", labels: dict[str, str] | None = None, **spec: Any) -> Manifest:
    limits = {"cpu": cpu, "memory": "1Gi"} | ({GPU: str(gpus)} if gpus else {})
    containers = [{"name": "ray", "resources": {"limits": limits}}]
    return {"metadata": {"labels": labels or {}}, "spec": {"containers": containers, **spec}}


def wanted(count: int = 2, group: str = "gpu", **of_pod: Any) -> PodsWanted:
    return PodsWanted(group, pod(**of_pod), count, count)


HEAD = wanted(1, "headgroup")


def look(*nodes: Node, want: tuple[PodsWanted, ...] = (HEAD, wanted(gpus=1)), **fields: Any) -> Room:
    return evaluate(want, Survey(0.0, nodes, **fields))


# --- the survey


def test_what_pods_leave_of_a_node() -> None:
    usage = Usage()
    placed = {**pod(gpus=1)["spec"], "nodeName": "a"}
    usage.add(
        [
            {"spec": placed, "status": {"phase": "Running"}},
            {"spec": placed, "status": {"phase": "Succeeded"}},  # holds nothing any more
            pod(gpus=1),  # has no node
            {"spec": {**placed, "nodeName": "b"}, "status": {}},
        ]
    )
    seen = surveys.node(manifest("a", gpus=4), usage)
    assert (seen.free[GPU], seen.free["cpu"], seen.free["pods"]) == (3, 7, 109)
    assert seen.allocatable[GPU] == 4


@pytest.mark.parametrize(
    ("fields", "closed"), [({}, False), ({"unschedulable": True}, True), ({"ready": "Unknown"}, True)]
)
def test_nodes_that_take_nothing(fields: dict[str, Any], closed: bool) -> None:
    assert node(**fields).closed is closed


@pytest.mark.parametrize(
    ("fields", "sign"),
    [
        ({}, ""),
        ({"labels": {"karpenter.sh/nodepool": "gpus"}}, "Karpenter"),
        ({"annotations": {"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"}}, "the cluster autoscaler"),
        ({"taints": [{"key": "DeletionCandidateOfClusterAutoscaler"}]}, "the cluster autoscaler"),
    ],
)
def test_signs_of_what_adds_nodes(fields: dict[str, Any], sign: str) -> None:
    assert surveys.autoscaler_of(manifest(**fields)) == sign


# --- nodes that fit


def _affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def _expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


LABELS = {"gpu": "h100", "memory": "80"}
TAINT = {"key": "gpus", "value": "only", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("spec", "fits_"),
    [
        ({}, True),
        ({"nodeSelector": {"gpu": "h100"}}, True),
        ({"nodeSelector": {"gpu": "a100"}}, False),
        (_affinity(_expression("gpu", "In", "a100", "h100")), True),
        (_affinity(_expression("gpu", "In", "a100")), False),
        (_affinity(_expression("gpu", "In", "a100"), _expression("gpu", "Exists")), True),  # one term is enough
        (_affinity(_expression("gpu", "NotIn", "h100")), False),
        (_affinity(_expression("zone", "NotIn", "x")), True),
        (_affinity(_expression("zone", "Exists")), False),
        (_affinity(_expression("zone", "DoesNotExist")), True),
        (_affinity(_expression("memory", "Gt", "79")), True),
        (_affinity(_expression("memory", "Gt", "80")), False),
        (_affinity(_expression("memory", "Lt", "81")), True),
        (_affinity(_expression("gpu", "Lt", "81")), False),
        (_affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}), True),
        (_affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}), False),
        (_affinity({}), False),
        (_affinity(_expression("gpu", "Unheard", "h100")), False),
    ],
)
def test_selector_and_affinity(spec: dict[str, Any], fits_: bool) -> None:
    assert obstacle(spec, node(labels=LABELS)) == (None if fits_ else Obstacle.SELECTOR)


@pytest.mark.parametrize(
    ("tolerations", "tolerated"),
    [
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "gpus", "operator": "Exists"}], True),
        ([{"key": "gpus", "value": "only"}], True),
        ([{"key": "gpus", "value": "only", "effect": "NoSchedule"}], True),
        ([{"key": "gpus", "value": "only", "effect": "NoExecute"}], False),
        ([{"key": "gpus", "value": "other"}], False),
        ([{"key": "other", "operator": "Exists"}], False),
    ],
)
def test_taints(tolerations: list[dict[str, Any]], tolerated: bool) -> None:
    expected = None if tolerated else Obstacle.TAINT
    assert obstacle({"tolerations": tolerations}, node(taints=[TAINT])) == expected
    assert obstacle({}, node(taints=[{**TAINT, "effect": "PreferNoSchedule"}])) is None


def test_cordoned() -> None:
    assert obstacle({"tolerations": [{"operator": "Exists"}]}, node(unschedulable=True)) is Obstacle.CLOSED


def _apart(topology: str, **labels: str) -> dict[str, Any]:
    term = {"topologyKey": topology, "labelSelector": {"matchLabels": labels}}
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_one_on_each_node() -> None:
    mine = {"labels": {"app": "llm"}}
    assert one_per_node(pod(**mine, **_apart("kubernetes.io/hostname", app="llm")))
    assert not one_per_node(pod(**mine, **_apart("kubernetes.io/hostname", app="other")))
    assert not one_per_node(pod(**mine, **_apart("topology.kubernetes.io/zone", app="llm")))
    want = wanted(3, **mine, **_apart("kubernetes.io/hostname", app="llm"))
    found = look(node("a"), node("b"), want=(want,))
    assert (found.fit, found.pods) == (2, 3)
    assert "group gpu lacks 1 node, as its anti-affinity allows one pod on each" in found.message


# --- packing

amount = st.integers(0, 6).map(Decimal)
resources = st.fixed_dictionaries({"cpu": amount, GPU: amount, "pods": st.just(Decimal(1))})


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Load], dict[str, dict[str, Decimal]]]:
    """Up to three groups of up to four pods on up to four nodes."""
    nodes = [f"n{i}" for i in range(draw(st.integers(0, 4)))]
    free = {
        name: draw(st.fixed_dictionaries({"cpu": st.integers(-1, 9).map(Decimal), GPU: amount, "pods": amount}))
        for name in nodes
    }
    loads = [
        Load(
            f"g{i}",
            draw(resources),
            draw(st.integers(0, 4)),
            tuple(name for name in nodes if draw(st.booleans())),
            draw(st.booleans()),
        )
        for i in range(draw(st.integers(0, 3)))
    ]
    return loads, free


@CALM
@given(problems())
def test_what_is_placed_really_fits(problem: tuple[list[Load], dict[str, dict[str, Decimal]]]) -> None:
    loads, free = problem
    packed = pack(loads, free)
    used: dict[str, Counter[str]] = {name: Counter() for name in free}
    for load in loads:
        on = packed.on[load.name]
        assert packed.placed[load.name] == len(on) <= load.count
        assert set(on) <= set(load.nodes)
        assert not load.one_per_node or len(set(on)) == len(on)
        for name in on:
            for key, value in load.requests.items():
                used[name][key] += int(value)
    for name, amounts in free.items():
        for key, value in amounts.items():
            assert used[name][key] == 0 or used[name][key] <= value
            assert packed.left[name][key] == value - used[name][key]


@CALM
@given(problems())
def test_no_pod_is_left_out_that_would_still_fit(problem: tuple[list[Load], dict[str, dict[str, Decimal]]]) -> None:
    loads, free = problem
    packed = pack(loads, free)
    for load in loads:
        if packed.placed[load.name] < load.count:
            candidates = set(load.nodes) - (set(packed.on[load.name]) if load.one_per_node else set())
            assert not any(fits(load.requests, packed.left[name]) for name in candidates)


@CALM
@given(problems())
def test_one_group_alone_is_placed_as_well_as_can_be(
    problem: tuple[list[Load], dict[str, dict[str, Decimal]]],
) -> None:
    """Pods of one size: on each node as many as it holds, so first fit is the best there is."""
    loads, free = problem
    for load in loads:
        room = [
            max((n for n in range(load.count + 1) if _holds(free[name], load, n)), default=0) for name in load.nodes
        ]
        best = sum(min(n, 1) if load.one_per_node else n for n in room)
        assert pack([load], free).placed[load.name] == min(load.count, best)


def _holds(free: dict[str, Decimal], load: Load, count: int) -> bool:
    return all(free.get(key, Decimal(0)) >= value * count for key, value in load.requests.items()) or count == 0


@CALM
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_groups_and_nodes_does_not_matter(problem: Any, rng: Any) -> None:
    loads, free = problem
    mixed = list(loads)
    rng.shuffle(mixed)
    names = list(free)
    rng.shuffle(names)
    assert pack(mixed, {name: free[name] for name in names}).placed == pack(loads, free).placed


def test_gpu_nodes_are_kept_for_gpu_pods() -> None:
    """The head has a choice, the worker has none."""
    found = look(node("gpu", 1, "1"), node("plain", 0, "1"), want=(HEAD, wanted(1, gpus=1)))
    assert found.fit == 2


# --- what is said


def test_room_enough() -> None:
    found = look(node(gpus=2))
    assert (found.pods, found.fit, found.short, found.message) == (3, 3, False, "3 of 3 pods fit now.")


@pytest.mark.parametrize(
    ("nodes", "fit", "said"),
    [
        ([node(gpus=1)], 2, "nodes that match group gpu lack 1 nvidia.com/gpu"),
        ([node("a", 2, "8", pod(gpus=1))], 2, "nodes that match group gpu lack 1 nvidia.com/gpu"),
        ([node("a", 2, "2")], 2, "lack 1 cpu"),
        ([node("a", 2, "2500m")], 2, "lack 500m cpu"),
        ([node()], 1, "a pod of group gpu asks for 1 nvidia.com/gpu, and the largest node that matches has 0"),
        ([], 0, "no node matches group headgroup (there is no node at all); no node matches group gpu"),
        ([node(unschedulable=True)], 0, "no node matches group gpu (1 cordoned or not ready of 1)"),
        ([node(taints=[TAINT]), node("b", taints=[TAINT])], 0, "no node matches group gpu (2 tainted of 2)"),
    ],
)
def test_what_is_missing_is_named_with_its_number(nodes: list[Node], fit: int, said: str) -> None:
    found = look(*nodes)
    assert (found.fit, found.short) == (fit, True)
    assert said in found.message
    who = "The others wait" if fit else "All wait"
    assert found.message.endswith(f"{who} until room is made or nodes are added.")


def test_free_room_that_is_scattered() -> None:
    found = look(node("a", 2, "8", pod(gpus=1)), node("b", 2, "8", pod(gpus=1)), want=(wanted(1, gpus=2),))
    assert found.message == (
        "0 of 1 pod fits now: no node that matches group gpu has 2 nvidia.com/gpu free by itself. "
        "It waits until room is made or nodes are added."
    )


def test_what_may_add_nodes_is_named() -> None:
    assert look(node(gpus=1), autoscaler="Karpenter").message.endswith("until room is made or Karpenter adds nodes.")


def test_nodes_that_cannot_be_seen() -> None:
    blind = evaluate((HEAD, wanted(gpus=1)), Survey(0.0, None, blind="nodes cannot be seen"))
    assert (blind.fit, blind.short) == (None, False)
    assert blind.message == "Whether 3 pods would find room is not known: nodes cannot be seen."
    partly = look(node(gpus=1), pods_seen=False)
    assert partly.message.startswith("2 of 3 pods fit now on nodes without their other pods, which cannot be seen: ")


def _quota(scopes: tuple[dict[str, Any], ...] = (), **left: int) -> Quota:
    return Quota("team", {key.replace("_", "."): Decimal(value) for key, value in left.items()}, scopes)


@pytest.mark.parametrize(
    ("quota", "fit", "said"),
    [
        (Quota("team", {"requests.nvidia.com/gpu": Decimal(1)}), 2, "lacks 1 of requests.nvidia.com/gpu"),
        (_quota(pods=1), 1, "lacks 2 of pods"),
        (_quota(cpu=2), 2, "lacks 1 of cpu"),
        (_quota(requests_cpu=2), 2, "lacks 1 of requests.cpu"),
        (_quota(limits_memory=2**31), 2, "lacks 1Gi of limits.memory"),
        (Quota("team", {"count/pods": Decimal(0)}), 0, "lacks 3 of count/pods"),
        (_quota(configmaps=0), 3, ""),
        (_quota(({"scopeName": "Terminating", "operator": "Exists"},), pods=0), 3, ""),
        (_quota(({"scopeName": "NotTerminating", "operator": "Exists"},), pods=0), 0, "lacks 3 of pods"),
        (_quota(({"scopeName": "BestEffort", "operator": "Exists"},), pods=0), 3, ""),
        (_quota(({"scopeName": "NotBestEffort", "operator": "Exists"},), pods=0), 0, "lacks 3 of pods"),
        (_quota(({"scopeName": "PriorityClass", "operator": "In", "values": ["low"]},), pods=0), 3, ""),
        (_quota(({"scopeName": "PriorityClass", "operator": "DoesNotExist"},), pods=0), 0, "lacks 3 of pods"),
    ],
)
def test_quotas(quota: Quota, fit: int, said: str) -> None:
    found = look(node(gpus=2), quotas=(quota,))
    assert found.fit == fit
    assert said in found.message
    assert ("until room is made or the quota is raised" in found.message) is bool(said)
    unseen = evaluate((HEAD, wanted(gpus=1)), Survey(0.0, None, quotas=(quota,), blind="nodes cannot be seen"))
    assert unseen.fit == (fit if said else None)


def test_quotas_do_not_count_pods_that_exist_again() -> None:
    waiting = PodsWanted("gpu", pod(gpus=1), to_create=0, to_place=2)
    assert look(node(gpus=2), want=(waiting,), quotas=(_quota(pods=0),)).fit == 2


def test_a_quota_as_the_api_server_has_it() -> None:
    spec = {"hard": {"pods": "9"}, "scopes": ["NotTerminating"]}
    fresh = {"metadata": {"name": "team"}, "spec": spec}
    assert surveys.quota(fresh).left == {"pods": 9}
    counted = surveys.quota({**fresh, "status": {"hard": {"pods": "9"}, "used": {"pods": "4"}}})
    assert counted == Quota("team", {"pods": Decimal(5)}, ({"scopeName": "NotTerminating", "operator": "Exists"},))


def test_many_nodes_are_no_burden() -> None:
    """5,000 nodes with one free GPU each, 300 pods: a walk over the nodes for each group, not for each pod."""
    free = {f"n{i}": {"cpu": Decimal(8), GPU: Decimal(1), "pods": Decimal(99)} for i in range(5000)}
    calls = itertools.count()

    class Counted(dict[str, Decimal]):
        def items(self) -> Any:
            next(calls)
            return super().items()

    load = Load("gpu", Counted({"cpu": Decimal(1), GPU: Decimal(1), "pods": Decimal(1)}), 300, tuple(free))
    assert pack([load], free).placed == {"gpu": 300}
    assert next(calls) < 3 * 5000
