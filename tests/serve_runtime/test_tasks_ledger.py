"""The ledger on a real Redis: every sequence of events against the table of states, and the sweep."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from e2e.redis_process import RedisProcess
from serve_runtime.tasks.ledger import Claim, Ledger, LedgerError, Submission
from serve_runtime.tasks.states import TRANSITIONS
from tests.serve_runtime.redis_fixture import redis_server

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """Empty at first; tests keep apart by their queues."""
    with redis_server() as server:
        yield server


@pytest.fixture
def ledger(redis: RedisProcess) -> Iterator[Ledger]:
    """One with a queue of its own."""
    made = Ledger(redis.url, uuid.uuid4().hex, 20)
    yield made
    made.close()


def submit(ledger: Ledger, *, once: str = "", content: bytes = b"1", most: int = 100) -> tuple[str, str]:
    """Outcome and id."""
    (found,) = ledger.submit([Submission("echo", content, "application/json", once)], 60, most)
    return found.outcome, found.id


def sweep(ledger: Ledger, **changes: Any) -> Any:
    """With everything due, and the broker's queue said to hold messages."""
    return ledger.sweep(**{"max_losses": 2, "slack_s": 30, "empty": False, "dead_ttl_s": 60, **changes})


def claimed(ledger: Ledger, task: str, lease_s: float = 60) -> Claim:
    """A claim that must succeed."""
    found = ledger.claim(task, "worker", lease_s)
    assert isinstance(found, Claim), found
    return found


class Events(RuleBasedStateMachine):
    """One task under any events; the model is the table."""

    ledger: Ledger

    def __init__(self) -> None:
        super().__init__()
        _, self.task = submit(self.ledger)
        self.state: str = "queued"
        self.claims: list[Claim] = []
        self.losses = 0

    def expect(self, event: str) -> bool:
        """Moves the model; whether the event is allowed."""
        to = TRANSITIONS[self.state].get(event)  # type: ignore[call-overload]
        self.state = to or self.state
        return to is not None

    @rule()
    def claim(self) -> None:
        before = self.state
        found = self.ledger.claim(self.task, "worker", 60)
        if self.expect("claim"):
            assert isinstance(found, Claim)
            self.claims.append(found)
        else:
            assert found == before

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), event=st.sampled_from(["succeed", "retry", "fail", "refuse", "give_back"]))
    def leave(self, data: st.DataObject, event: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        to: Any = TRANSITIONS["running"][event]
        mine = self.state == "running" and claim is self.claims[-1]
        # Said twice it is true twice: a reply may have been lost.
        assert self.ledger.leave(claim, to, delay_s=0, ttl_s=60) == (mine or self.state == to)
        if mine:
            self.expect(event)

    @rule()
    def cancel(self) -> None:
        before = self.state
        assert self.ledger.cancel(self.task, 60) == ("done" if self.expect("cancel") else before)

    @rule()
    def requeue(self) -> None:
        before = self.state
        assert self.ledger.requeue(self.task) == ("done" if self.expect("requeue") else before)
        if before in {"failed", "unprocessable"}:
            self.losses = 0

    @precondition(lambda self: self.state in {"running", "retrying"})
    @rule(expired=st.booleans())
    def sweep(self, expired: bool) -> None:
        if self.state == "running" and expired:
            self.ledger.renew([self.claims[-1]], -1)
            self.losses += 1
            self.expect("lose")
            if self.losses >= 2:
                self.state = "unprocessable"
        elif self.state == "retrying":
            self.expect("due")
        found = sweep(self.ledger)
        assert found.publish == ([self.task] if self.state == "queued" else [])

    @invariant()
    def is_as_the_model_says(self) -> None:
        record = self.ledger.get(self.task)
        assert record is not None
        assert record["state"] == self.state
        counts = self.ledger.counts()
        mine = {self.state: 1} if self.state in counts else {}
        assert {state: number for state, number in counts.items() if number} == mine

    def teardown(self) -> None:
        """The next one begins with an empty ledger."""
        self.ledger.cancel(self.task, 1)
        self.ledger.drop(self.task)


def test_any_sequence_of_events_follows_the_table(ledger: Ledger) -> None:
    machine = type("Bound", (Events,), {"ledger": ledger})
    few = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=few)


def test_one_key_is_one_task_and_other_content_is_told(ledger: Ledger) -> None:
    outcome, task = submit(ledger, once="order-1")
    assert outcome == "created"
    assert submit(ledger, once="order-1") == ("known", task)
    assert submit(ledger, once="order-1", content=b"2") == ("differs", task)
    assert submit(ledger, once="order-2")[0] == "created"


def test_a_full_queue_takes_no_more_but_knows_what_it_has(ledger: Ledger) -> None:
    assert submit(ledger, once="a", most=1)[0] == "created"
    assert submit(ledger, most=1)[0] == "full"
    assert submit(ledger, once="a", most=1)[0] == "known"


def test_a_submission_is_taken_back_unless_it_runs(ledger: Ledger) -> None:
    task = Submission("echo", b"1", "application/json", "key")
    ledger.submit([task], 60, 10)
    assert ledger.forget(task)
    assert ledger.get(task.id) is None
    assert ledger.submit([task], 60, 10)[0].outcome == "created"
    claimed(ledger, task.id)
    assert not ledger.forget(task)


def test_a_lost_worker_costs_a_run_and_the_last_one_the_task(ledger: Ledger) -> None:
    _, task = submit(ledger)
    first = claimed(ledger, task, lease_s=0)
    assert sweep(ledger).publish == [task]
    assert not ledger.leave(first, "succeeded"), "the first worker is too late"
    second = claimed(ledger, task, lease_s=0)
    assert (second.attempts, second.losses) == (1, 1), "a lost run is no failed one"
    found = sweep(ledger)
    assert (found.publish, found.lost, found.dead) == ([], 1, 1)
    (letter,) = ledger.dead_letters("unprocessable", 0, 10)
    assert letter["error"]["type"] == "WorkerLost"


def test_renewing_keeps_a_task_and_tells_who_lost_it(ledger: Ledger) -> None:
    _, kept = submit(ledger)
    _, cancelled = submit(ledger)
    claims = [claimed(ledger, kept, lease_s=0), claimed(ledger, cancelled, lease_s=0)]
    ledger.cancel(cancelled, 60)
    assert ledger.renew(claims, 60) == {cancelled}
    assert sweep(ledger).lost == 0


def test_a_task_whose_message_was_passed_over_gets_another(ledger: Ledger) -> None:
    _, lost = submit(ledger)
    time.sleep(0.01)
    _, taken = submit(ledger)
    assert sweep(ledger, slack_s=0).publish == [], "nobody has taken a later one yet"
    claimed(ledger, taken)
    assert sweep(ledger, slack_s=60).publish == []
    assert sweep(ledger, slack_s=0).publish == [lost]


def test_an_empty_queue_has_lost_every_message_that_should_be_there(ledger: Ledger) -> None:
    _, lost = submit(ledger)
    assert sweep(ledger, empty=True, slack_s=60).publish == []
    found = sweep(ledger, empty=True, slack_s=0)
    assert (found.publish, found.missing) == ([lost], 1)


def test_a_retry_comes_when_it_is_due(ledger: Ledger) -> None:
    _, task = submit(ledger)
    ledger.leave(claimed(ledger, task), "retrying", delay_s=60)
    assert sweep(ledger).publish == []
    assert ledger.claim(task, "worker", 60) == "retrying"


def test_messages_of_others_are_kept_and_cannot_be_requeued(ledger: Ledger) -> None:
    letter = ledger.foreign(b"\xff", "junk", 60)
    assert ledger.requeue(letter) == "foreign"
    assert [each["id"] for each in ledger.dead_letters("unprocessable", 0, 10)] == [letter]
    assert ledger.drop(letter) == "done"
    assert ledger.drop(letter) == "unknown"


def test_dead_letters_come_newest_first_in_pages(ledger: Ledger) -> None:
    ids = []
    for _ in range(3):
        _, task = submit(ledger)
        ledger.leave(claimed(ledger, task), "failed", ttl_s=60)
        ids.append(task)
        time.sleep(0.002)
    assert [each["id"] for each in ledger.dead_letters("failed", 0, 2)] == ids[:0:-1]
    assert [each["id"] for each in ledger.dead_letters("failed", 2, 2)] == ids[:1]


def test_a_redis_that_is_away_is_an_error_at_once() -> None:
    with pytest.raises(LedgerError):
        Ledger("redis://127.0.0.1:1/0", "none", 1).ping()
