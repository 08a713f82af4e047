"""Workers: what a pass does, and what happens when it fails."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from rayservice_operator.core.decision import Decision, Failure, Level, Note, ObserveTarget
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, Ref
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.executor import ActionFailed
from rayservice_operator.engine.queue import WorkQueue
from rayservice_operator.engine.reconciler import PATIENCE, Kind, Reconciler
from rayservice_operator.kube.errors import ApiError, Conflict, Forbidden, Invalid, Unreachable
from rayservice_operator.kube.store import Store
from tests.engine.test_routing import obj

KEY = Key("RayService", "ns", "svc")
CLUSTER = Key("RayCluster", "ns", "svc-abcde")


class FakeExecutor:
    """Carries nothing out; ``fail`` is raised, ``gate`` is waited for."""

    def __init__(self) -> None:
        self.executed: list[Key] = []
        self.forgotten: list[Key] = []
        self.fail: Exception | None = None
        self.again = False
        self.gate: asyncio.Event | None = None
        self.started = asyncio.Event()

    async def settle(self, namespace: str) -> None:
        return

    async def execute(self, key: Key, obj: Manifest, decision: Decision) -> bool:
        self.executed.append(key)
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        return self.again

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


class FakeRecorder:
    def __init__(self) -> None:
        self.notes: list[tuple[Note, str]] = []

    def record(self, obj: Manifest, note: Note, *, same_as: str = "", action: str = "") -> None:
        self.notes.append((note, same_as))


class FakeObservers:
    def __init__(self) -> None:
        self.synced: list[tuple[Key, tuple[ObserveTarget, ...]]] = []

    def sync(self, service_key: Key, targets: tuple[ObserveTarget, ...]) -> None:
        self.synced.append((service_key, targets))


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = Store()
        self.queue = WorkQueue(self.clock, rng=random.Random(0))
        self.executor, self.recorder, self.observers = FakeExecutor(), FakeRecorder(), FakeObservers()
        self.decide: Callable[[Any, float], Decision] = lambda *_: Decision()
        self.results: list[tuple[str, str]] = []
        self.failures: dict[Key, Failure] = {}
        table = {
            kind: Kind(lambda _, obj: obj, lambda *args: self.decide(*args))  # noqa: PLW0108 - looked up late
            for kind in ("RayService", "RayCluster")
        }
        self.reconciler = Reconciler(
            store=self.store,
            queue=self.queue,
            executor=self.executor,  # type: ignore[arg-type]
            recorder=self.recorder,  # type: ignore[arg-type]
            observers=self.observers,  # type: ignore[arg-type]
            clock=self.clock,
            table=table,
            failures=self.failures,
            on_reconcile=lambda kind, result, _: self.results.append((kind, result)),
        )

    async def step(self) -> Key | None:
        key = self.queue.pop()
        if key is not None:
            await self.reconciler.process(key)
        return key


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.store.put(obj("RayService", "svc", generation=1))
    return bench


async def test_a_change_of_the_store_leads_to_a_pass(bench: Bench) -> None:
    assert await bench.step() == KEY
    assert bench.executor.executed == [KEY]
    assert bench.results == [("RayService", "success")]
    assert await bench.step() is None


async def test_wake_at_brings_the_key_back(bench: Bench) -> None:
    bench.decide = lambda _, now: Decision(wake_at=now + 30)
    await bench.step()
    assert bench.results == [("RayService", "requeue_after")]
    bench.clock.advance(29)
    assert await bench.step() is None
    bench.clock.advance(2)
    assert await bench.step() == KEY


async def test_an_answer_that_no_store_change_tells_of_brings_it_back_at_once(bench: Bench) -> None:
    bench.executor.again = True
    await bench.step()
    bench.executor.again = False
    assert await bench.step() == KEY
    assert await bench.step() is None


async def test_targets_go_to_the_observers_even_when_an_action_fails(bench: Bench) -> None:
    target = ObserveTarget(Ref("ray.io/v1", "RayCluster", "ns", "c"), "10.0.0.1", "uid")
    bench.decide = lambda *_: Decision(observe=(target,))
    bench.executor.fail = ActionFailed("create Pod ns/p", Forbidden(403, "Forbidden", "exceeded quota"))
    await bench.step()
    assert bench.observers.synced == [(KEY, (target,))]


async def test_a_raycluster_does_not_touch_the_observers(bench: Bench) -> None:
    bench.store.put(obj("RayCluster", "svc-abcde", generation=1))
    while await bench.step():
        pass
    assert [key for key, _ in bench.observers.synced] == [KEY]


async def test_what_is_gone_is_forgotten(bench: Bench) -> None:
    await bench.step()
    bench.store.remove("RayService", "ns", "svc")
    assert await bench.step() == KEY
    assert bench.observers.synced[-1] == (KEY, ())
    assert bench.executor.forgotten == [KEY]
    assert await bench.step() is None


async def test_a_refusal_is_told_at_once_with_what_to_do(bench: Bench) -> None:
    bench.executor.fail = ActionFailed("create Pod ns/p", Forbidden(403, "Forbidden", "exceeded quota: gpus"))
    await bench.step()
    ((note, _),) = bench.recorder.notes
    assert note.reason == "ReconcileFailed"
    assert note.level is Level.WARNING
    assert "create Pod ns/p" in note.message
    assert "exceeded quota: gpus" in note.message
    assert "RBAC" in note.message
    assert bench.results == [("RayService", "error")]


async def test_the_same_failure_with_another_drawn_name_is_the_same_event(bench: Bench) -> None:
    for name in ("p-abcde", "p-fghij"):
        bench.executor.fail = ActionFailed(f"create Pod ns/{name}", Invalid(422, "Invalid", f'Pod "{name}" is invalid'))
        await bench.step()
        bench.clock.advance(10)
    assert len({same_as for _, same_as in bench.recorder.notes}) == 1
    assert all(same_as for _, same_as in bench.recorder.notes)


async def test_a_lasting_failure_is_one_log_line(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.executor.fail = ActionFailed("create Pod ns/p", Forbidden(403, "Forbidden", "exceeded quota"))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            await bench.step()
            bench.clock.advance(10)
        assert len(caplog.records) == 1
        bench.executor.fail = None
        await bench.step()
        bench.executor.fail = ActionFailed("create Pod ns/p", Forbidden(403, "Forbidden", "exceeded quota"))
        bench.queue.add(KEY)
        await bench.step()
        assert len(caplog.records) == 2


@pytest.mark.parametrize("error", [Conflict(409, "Conflict", "changed"), Unreachable("no answer")])
async def test_passing_trouble_is_told_only_when_it_lasts(bench: Bench, error: ApiError) -> None:
    bench.executor.fail = ActionFailed("patch Pod ns/p", error)
    for _ in range(PATIENCE - 1):
        await bench.step()
        bench.clock.advance(10)
    assert bench.recorder.notes == []
    await bench.step()
    assert len(bench.recorder.notes) == 1


async def test_a_conflict_is_tried_again_within_a_moment(bench: Bench) -> None:
    bench.executor.fail = ActionFailed("patch Pod ns/p", Conflict(409, "Conflict", "changed"))
    await bench.step()
    assert bench.results == [("RayService", "conflict")]
    bench.executor.fail = None
    bench.clock.advance(0.1)
    assert await bench.step() == KEY


async def test_a_bug_in_decide_does_not_end_the_worker(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Decision:
        raise KeyError("spec")

    bench.decide = broken
    with caplog.at_level(logging.ERROR):
        await bench.step()
    assert caplog.records[0].exc_info is not None
    ((note, _),) = bench.recorder.notes
    assert "KeyError" in note.message
    bench.decide = lambda *_: Decision()
    bench.clock.advance(1)
    assert await bench.step() == KEY
    assert bench.results[-1] == ("RayService", "success")


async def test_stopping_lets_running_reconciles_end_and_starts_no_other(bench: Bench) -> None:
    gate = bench.executor.gate = asyncio.Event()
    workers = {asyncio.create_task(bench.reconciler.work()) for _ in range(3)}
    await bench.executor.started.wait()
    stopping = asyncio.create_task(bench.reconciler.stop(workers, grace_s=30))
    await asyncio.sleep(0)
    bench.store.put(obj("RayCluster", "other", generation=1))
    gate.set()
    await stopping
    assert bench.executor.executed == [KEY]
    assert bench.results == [("RayService", "success")]


async def test_a_reconcile_that_does_not_end_is_cut_off(bench: Bench) -> None:
    bench.executor.gate = asyncio.Event()
    workers = {asyncio.create_task(bench.reconciler.work())}
    await bench.executor.started.wait()
    await bench.reconciler.stop(workers, grace_s=0.01)
    assert all(task.done() for task in workers)
    assert bench.queue.working() == 0


async def test_what_failed_is_remembered_for_the_next_snapshot_until_it_works(bench: Bench) -> None:
    bench.executor.fail = ActionFailed("create Pod ns/p", Forbidden(403, "Forbidden", "exceeded quota"), "Pod")
    await bench.step()
    assert bench.failures[KEY] == Failure("create Pod ns/p", "Pod", "exceeded quota", bench.clock.now())
    bench.clock.advance(60)
    bench.executor.fail = None
    assert await bench.step() == KEY
    assert bench.failures == {}
    assert await bench.step() == KEY, "once more, so that the status stops telling of it"
    assert await bench.step() is None
