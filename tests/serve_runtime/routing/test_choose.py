"""The choosing logic: balance, stability when replicas come and go, a bound that is never exceeded."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_runtime.routing import choose
from serve_runtime.routing.choose import Candidate, PrefixIndex
from serve_runtime.routing.settings import Prefix

names = st.sets(st.text("abcdef0123456789", min_size=4, max_size=8), min_size=1, max_size=12)
keys = st.text(max_size=20)
some_candidates = names.flatmap(
    lambda ids: st.tuples(
        *(st.builds(Candidate, id=st.just(one), load=st.none() | st.integers(0, 1000)) for one in sorted(ids))
    )
)
balances = st.floats(min_value=1, max_value=5)


def rules(balance: float, least_bound: int = 1) -> Prefix:
    """Settings of the prefix router; by default nothing but the multiple of the mean bounds the load."""
    return Prefix(balance=balance, least_bound=least_bound)


@settings(deadline=None)
@given(names, st.lists(keys, min_size=1, max_size=30), st.data())
def test_when_a_replica_goes_only_its_keys_move(ids: set[str], some: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(ids)))
    for key in some:
        before, after = choose.by_hash(key, ids), choose.by_hash(key, ids - {gone})
        assert after == [replica for replica in before if replica != gone]


@settings(deadline=None)
@given(names, keys, st.randoms())
def test_every_router_agrees_whatever_order_it_learnt_replicas_in(ids: set[str], key: str, rng: random.Random) -> None:
    shuffled = sorted(ids)
    rng.shuffle(shuffled)
    assert choose.by_hash(key, shuffled) == choose.by_hash(key, sorted(ids))


def test_keys_are_spread_evenly_and_a_new_replica_takes_its_share_from_all() -> None:
    ids = [f"replica-{number}" for number in range(8)]
    some = [f"user-{number}" for number in range(8000)]
    before = Counter(choose.by_hash(key, ids)[0] for key in some)
    assert max(before.values()) < 1.15 * 1000
    assert min(before.values()) > 0.85 * 1000
    moved = Counter(choose.by_hash(key, ids)[0] for key in some if choose.by_hash(key, [*ids, "new"])[0] == "new")
    assert 0.8 * 8000 / 9 < moved.total() < 1.2 * 8000 / 9
    assert all(count < 0.25 * 1000 for count in moved.values())


@settings(deadline=None)
@given(some_candidates, keys, balances)
def test_the_bound_is_never_exceeded_and_somebody_is_always_below(
    candidates: tuple[Candidate, ...], key: str, balance: float
) -> None:
    load = choose.loads(candidates)
    limit = balance * (sum(load.values()) + 1) / len(load)
    index = PrefixIndex(block=4)
    blocks = index.blocks(key)
    index.record(blocks, max(load, key=load.__getitem__))  # the fullest is preferred
    for order in (
        choose.sticky(key, candidates, balance),
        choose.by_prefix(index, blocks, candidates, rules(balance)),
    ):
        assert order
        assert all(load[replica] + 1 <= math.ceil(limit) for replica in order)
        assert len(set(order)) == len(order)


@settings(deadline=None)
@given(some_candidates, keys, balances, st.integers(1, 9))
def test_a_replica_that_is_less_busy_than_the_least_bound_is_never_passed_over(
    candidates: tuple[Candidate, ...], key: str, balance: float, least: int
) -> None:
    load = choose.loads(candidates)
    index = PrefixIndex(block=4)
    blocks = index.blocks(key)
    knows = min(load, key=load.__getitem__)
    index.record(blocks, knows)
    order = choose.by_prefix(index, blocks, candidates, rules(balance, least))
    assert order[0] == knows
    assert {replica for replica in load if load[replica] + 1 <= least} <= set(order)


@settings(deadline=None)
@given(some_candidates, keys)
def test_without_a_bound_a_key_has_all_replicas_in_its_own_order(candidates: tuple[Candidate, ...], key: str) -> None:
    assert choose.sticky(key, candidates, math.inf) == choose.by_hash(key, [c.id for c in candidates])


@settings(deadline=None)
@given(st.lists(keys, min_size=50, max_size=300), st.integers(2, 6), st.sampled_from([1.0, 1.25, 2.0]))
def test_load_that_only_grows_stays_within_the_bound(some: list[str], count: int, balance: float) -> None:
    """The worst case: no request ever ends, and any number of them have the same key."""
    load = {f"r{number}": 0 for number in range(count)}
    for number, key in enumerate(some, 1):
        first = choose.sticky(key, [Candidate(name, busy) for name, busy in load.items()], balance)[0]
        load[first] += 1
        assert max(load.values()) <= math.ceil(balance * number / count - 1e-9)


@settings(deadline=None)
@given(some_candidates, st.randoms())
def test_the_power_of_two_choices(candidates: tuple[Candidate, ...], rng: random.Random) -> None:
    load = choose.loads(candidates)
    two = choose.power_of_two(candidates, rng)
    assert len(two) == len(set(two)) == min(2, len(candidates))
    assert load[two[0]] <= load[two[-1]]


def test_the_least_used_cache_comes_first_and_equals_share() -> None:
    rng = random.Random(1)
    used = {"a": 0.9, "b": 0.2, "c": 0.5}
    candidates = [Candidate(name, 4, {"kv_cache_usage": share}) for name, share in used.items()]
    assert choose.least_used(candidates, "kv_cache_usage", 0.5, rng) == ["b", "c", "a"]
    same = [Candidate(name, 0, {"kv_cache_usage": 0.5}) for name in "abcd"]
    first = Counter(choose.least_used(same, "kv_cache_usage", 0.5, rng)[0] for _ in range(400))
    assert min(first[name] for name in "abcd") > 50


def test_between_two_reports_requests_do_not_all_go_to_one_replica() -> None:
    rng, load = random.Random(1), {"a": 0, "b": 0, "c": 0}
    used = {"a": 0.30, "b": 0.35, "c": 0.40}
    for _ in range(90):
        candidates = [Candidate(name, load[name], {"kv_cache_usage": used[name]}) for name in load]
        load[choose.least_used(candidates, "kv_cache_usage", 0.5, rng)[0]] += 1
    assert load["a"] >= load["b"] >= load["c"] > 15


@pytest.mark.parametrize("stats", [{}, {"kv_cache_usage": math.nan}, {"kv_cache_usage": "much"}, {"other": 0.5}])
def test_without_stats_there_is_no_preference(stats: dict[str, object]) -> None:
    assert choose.least_used([Candidate("a", 0, stats)], "kv_cache_usage", 0.5, random.Random()) == []


# Prefixes


def test_the_longest_known_beginning_wins_and_the_less_loaded_among_equals() -> None:
    index = PrefixIndex(block=4)
    index.record(index.blocks("aaaabbbbcccc"), "long")
    index.record(index.blocks("aaaabbbb"), "short")
    candidates = [Candidate("long", 3), Candidate("short", 0), Candidate("none", 0)]
    asked = index.blocks("aaaabbbbccccdddd")
    assert choose.by_prefix(index, asked, candidates, rules(9.0))[:2] == ["long", "short"]
    both = index.blocks("aaaabbbbxxxx")
    assert choose.by_prefix(index, both, candidates, rules(9.0))[0] == "short"
    assert choose.by_prefix(index, asked, candidates, rules(1.0))[0] == "short"  # the bound
    assert choose.by_prefix(index, asked, candidates, rules(1.0, 4))[0] == "long"  # which is never below that


def test_an_unknown_beginning_goes_where_every_router_sends_it() -> None:
    candidates = [Candidate(name) for name in "abcdef"]
    one, other = PrefixIndex(block=4), PrefixIndex(block=4)
    other.record(other.blocks("something else"), "a")
    asked = one.blocks("never seen before")
    assert choose.by_prefix(one, asked, candidates, rules(1.5)) == choose.by_prefix(
        other, asked, candidates, rules(1.5)
    )


@settings(deadline=None)
@given(st.text(max_size=100), st.text(max_size=40), st.text(max_size=40), st.integers(1, 16))
def test_blocks_are_equal_exactly_as_far_as_texts_are(common: str, left: str, right: str, block: int) -> None:
    index = PrefixIndex(block=block)
    one, other = common + left, common + right
    equal = sum(a == b for a, b in zip(index.blocks(one), index.blocks(other), strict=False))
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if min(len(one), len(other)) >= block:
        assert equal == same // block


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab", max_size=40), st.sampled_from("xyz")), max_size=60), st.integers(1, 20))
def test_the_index_keeps_to_its_capacity_and_never_names_a_replica_that_is_gone(
    seen: list[tuple[str, str]], capacity: int
) -> None:
    index = PrefixIndex(block=4, capacity=capacity)
    for text, replica in seen:
        index.record(index.blocks(text), replica)
        assert len(index) <= capacity
    index.forget({"x"})
    assert all(set(index.matches(index.blocks(text), "xyz")) <= {"y", "z"} for text, _ in seen)


def test_of_a_long_prompt_the_beginning_is_forgotten_last() -> None:
    index = PrefixIndex(block=1, capacity=3)
    index.record(index.blocks("abcdef"), "r")
    assert index.matches(index.blocks("abcdef"), {"r"}) == {"r": 3}
