"""The work queue's contract."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayservice_operator.core.keys import Key
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.queue import BACKOFF_BASE_S, BACKOFF_CAP_S, Priority, WorkQueue

A, B, C = (Key("RayService", "ns", name) for name in "abc")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> WorkQueue:
    return WorkQueue(clock, rng=random.Random(0))


def test_a_key_is_queued_once(queue: WorkQueue) -> None:
    for _ in range(3):
        queue.add(A)
    assert queue.depth() == 1
    assert queue.pop() == A
    assert queue.pop() is None


def test_a_key_in_work_is_not_handed_out_again_until_done(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.pop() == A
    queue.add(A)
    queue.add(A)
    assert queue.pop() is None
    queue.done(A)
    assert queue.pop() == A
    queue.done(A)
    assert queue.pop() is None


def test_an_edit_goes_before_a_child_before_a_resync(queue: WorkQueue) -> None:
    queue.add(A, Priority.RESYNC)
    queue.add(B, Priority.CHILD)
    queue.add(C, Priority.SPEC)
    assert [queue.pop(), queue.pop(), queue.pop()] == [C, B, A]


def test_a_more_urgent_mark_moves_a_key_forward_and_a_lesser_one_not_back(queue: WorkQueue) -> None:
    queue.add(A, Priority.RESYNC)
    queue.add(B, Priority.CHILD)
    queue.add(A, Priority.SPEC)
    queue.add(A, Priority.RESYNC)
    assert [queue.pop(), queue.pop(), queue.pop()] == [A, B, None]


def test_an_edit_during_work_keeps_its_priority(queue: WorkQueue) -> None:
    queue.add(A)
    queue.pop()
    queue.add(A, Priority.SPEC)
    queue.add(A, Priority.RESYNC)
    queue.add(B, Priority.CHILD)
    queue.done(A)
    assert queue.pop() == A


def test_a_flood_of_edits_does_not_shut_out_a_resync(queue: WorkQueue, clock: ManualClock) -> None:
    queue.add(A, Priority.RESYNC)
    for second in range(20):
        clock.advance(1)
        queue.add(Key("RayService", "ns", f"busy-{second}"), Priority.SPEC)
        key = queue.pop()
        assert key is not None
        queue.done(key)
        if key == A:
            return
    pytest.fail("the resync never came")


def test_the_earliest_of_several_later_times_counts(queue: WorkQueue, clock: ManualClock) -> None:
    queue.add_after(A, 10)
    queue.add_after(A, 5)
    queue.add_after(A, 20)
    clock.advance(4.9)
    assert queue.pop() is None
    clock.advance(0.2)
    assert queue.pop() == A
    queue.done(A)
    clock.advance(100)
    assert queue.pop() is None


def test_failures_wait_longer_each_time_up_to_the_cap(queue: WorkQueue, clock: ManualClock) -> None:
    queue.add(A)
    for failure in range(12):
        key = queue.pop()
        assert key == A
        queue.done(A, failed=True)
        assert queue.failures(A) == failure + 1
        due = queue.next_due()
        assert due is not None
        wanted = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**failure)
        assert wanted / 2 <= due - clock.monotonic() <= wanted
        assert queue.pop() is None
        clock.advance(wanted)
    queue.pop()
    queue.done(A)
    assert queue.failures(A) == 0


def test_what_failed_and_was_marked_by_its_own_writes_still_waits(queue: WorkQueue, clock: ManualClock) -> None:
    queue.add(A)
    queue.pop()
    queue.add(A, Priority.CHILD)
    queue.done(A, failed=True)
    assert queue.pop() is None
    clock.advance(BACKOFF_CAP_S)
    assert queue.pop() == A


def test_an_edit_ends_the_wait_after_a_failure(queue: WorkQueue) -> None:
    queue.add(A)
    queue.pop()
    queue.done(A, failed=True)
    queue.add(A, Priority.SPEC)
    assert queue.pop() == A
    queue.add(A, Priority.SPEC)
    queue.done(A, failed=True)
    assert queue.pop() == A


async def test_get_waits_for_an_add_and_for_time(queue: WorkQueue, clock: ManualClock) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert queue.working() == 1
    queue.add_after(B, 5)
    for _ in range(5):
        await asyncio.sleep(0)
    assert queue.working() == 1
    clock.advance(6)
    assert {await first, await second} == {A, B}


def test_the_oldest_key_tells_of_a_worker_that_hangs(queue: WorkQueue, clock: ManualClock) -> None:
    assert queue.oldest_age() == 0
    queue.add(A)
    queue.pop()
    clock.advance(400)
    assert queue.oldest_age() == 400
    queue.done(A)
    assert queue.oldest_age() == 0


class QueueMachine(RuleBasedStateMachine):
    """Any order of marks, work, failures and time, against a model of sets."""

    keys = st.sampled_from([A, B, C])
    priorities = st.sampled_from(list(Priority))

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.queue = WorkQueue(self.clock, rng=random.Random(1))
        self.working: set[Key] = set()
        self.owed: set[Key] = set()  # marked, not yet handed out since

    @rule(key=keys, priority=priorities)
    def mark(self, key: Key, priority: Priority) -> None:
        self.queue.add(key, priority)
        self.owed.add(key)

    @rule(key=keys, seconds=st.floats(0, 30))
    def mark_for_later(self, key: Key, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self.owed.add(key)

    @rule()
    def take(self) -> None:
        key = self.queue.pop()
        if key is not None:
            assert key not in self.working
            self.working.add(key)
            self.owed.discard(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), failed=st.booleans())
    def finish(self, data: st.DataObject, failed: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        self.queue.done(key, failed=failed)
        if failed:
            self.owed.add(key)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.working() == len(self.working)

    def teardown(self) -> None:
        """Nothing that was marked is lost: it all comes out in the end."""
        for key in list(self.working):
            self.queue.done(key)
        self.clock.advance(100)
        seen = set()
        while (key := self.queue.pop()) is not None:
            seen.add(key)
            self.queue.done(key)
        assert self.owed <= seen
        assert self.queue.depth() == 0


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
