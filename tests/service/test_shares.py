"""Shares of two clusters: how they move, and what the endpoints make of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.service.shares import WHOLE, Move, Pace, Shares, backward, beginning, forward
from rayservice_operator.service.traffic import split

paces = st.builds(Pace, st.integers(1, 100), st.integers(1, 100), st.just(0))


def way(pace: Pace) -> list[tuple[Move, Shares]]:
    """All steps from the beginning until nothing is left to move."""
    steps = [(Move.RAISE, beginning(pace))]
    while steps[-1][0] is not Move.DONE:
        assert len(steps) < 500
        steps.append(forward(steps[-1][1], pace))
    return steps


def test_the_way_of_twenty_percent_at_a_time() -> None:
    """As KubeRay's: up, traffic, down, up, … (facts 3.5)."""
    steps = [(str(move), s.active_capacity, s.pending_capacity, s.pending_traffic) for move, s in way(Pace(20, 20))]
    assert steps[:6] == [
        ("RaisingCapacity", 100, 20, 0),
        ("MovingTraffic", 100, 20, 20),
        ("LoweringCapacity", 80, 20, 20),
        ("RaisingCapacity", 80, 40, 20),
        ("MovingTraffic", 80, 40, 40),
        ("LoweringCapacity", 60, 40, 40),
    ]
    assert steps[-2:] == [("MovingTraffic", 20, 100, 100), ("Done", 20, 100, 100)]


@given(paces)
def test_never_more_capacity_than_the_surge_and_never_traffic_without_capacity(pace: Pace) -> None:
    for _, shares in way(pace):
        assert shares.active_capacity + shares.pending_capacity <= WHOLE + pace.surge
        assert shares.pending_traffic <= shares.pending_capacity
        assert WHOLE - shares.pending_traffic <= shares.active_capacity
    assert shares.pending_traffic == WHOLE == shares.pending_capacity


@given(paces, st.data())
def test_from_anywhere_on_the_way_back_keeps_the_same_limits(pace: Pace, data: st.DataObject) -> None:
    shares = data.draw(st.sampled_from([shares for _, shares in way(pace)]))
    for _ in range(500):
        move, shares = backward(shares, pace)
        assert shares.active_capacity + shares.pending_capacity <= WHOLE + pace.surge
        assert WHOLE - shares.pending_traffic <= shares.active_capacity
        assert shares.pending_traffic <= shares.pending_capacity
        if move is Move.DONE:
            break
    assert (shares.active_capacity, shares.pending_traffic) == (WHOLE, 0)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 100))
def test_split_never_gives_the_new_side_more_than_its_share(old: int, new: int, share: int) -> None:
    some_old, some_new = split(old, new, share)
    assert 0 <= some_old <= old
    assert 0 <= some_new <= new
    if old and some_new:
        assert some_new * WHOLE <= share * (some_old + some_new)
    if old or (new and share):
        assert some_old + some_new > 0, "somebody answers"


def test_split_takes_the_best_that_the_endpoints_allow() -> None:
    assert split(2, 2, 50) == (2, 2)
    assert split(4, 4, 20) == (4, 1)
    assert split(1, 1, 20) == (1, 0)
    assert split(1, 1, 50) == (1, 1)
    assert split(3, 3, 100) == (0, 3)
    assert split(3, 3, 0) == (3, 0)
    assert split(0, 3, 20) == (0, 3)
    assert split(3, 0, 100) == (3, 0)
    assert split(9, 3, 25) == (9, 3)
