"""Pods in a row go in growing batches, everything else alone, and the order is kept."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.decision import Action, Create, Delete, JsonPatch
from rayservice_operator.core.objects import Ref
from rayservice_operator.engine.batches import LARGEST, batches

_KINDS = st.sampled_from(("Pod", "Service"))


def _pod(number: int) -> Create:
    return Create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}})


ACTIONS: st.SearchStrategy[Action] = st.one_of(
    _KINDS.map(lambda kind: Create({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}})),
    _KINDS.map(lambda kind: Delete(Ref(kind, "ns", "x", ""))),
    st.just(JsonPatch(Ref("RayCluster", "ns", "x", ""), ())),
)


@given(st.lists(st.tuples(ACTIONS, st.integers(1, 80)), max_size=6))
def test_order_is_kept_and_only_like_pods_go_together(runs: list[tuple[Action, int]]) -> None:
    actions = [action for action, times in runs for _ in range(times)]
    found = list(batches(actions))
    assert list(itertools.chain(*found)) == actions
    for batch in found:
        assert 1 <= len(batch) <= LARGEST
        assert len({type(action) for action in batch}) == 1
        if len(batch) > 1:
            first = batch[0]
            assert isinstance(first, Create | Delete)
            assert (first.obj["kind"] if isinstance(first, Create) else first.ref.kind) == "Pod"


def test_each_batch_is_twice_as_large_as_the_one_before() -> None:
    assert [len(batch) for batch in batches([_pod(number) for number in range(100)])] == [1, 2, 4, 8, 16, 32, 32, 5]
