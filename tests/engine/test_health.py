"""Liveness asks for progress."""

from __future__ import annotations

import asyncio

import pytest

from rayservice_operator.core.keys import Key
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.health import MAX_KEY_AGE_S, MAX_LAG_S, MAX_SILENCE_S, CannotListen, Health, serve
from rayservice_operator.engine.primaries import MAX_ENDS, Primaries
from rayservice_operator.engine.queue import WorkQueue
from rayservice_operator.kube.reflector import Reflector
from rayservice_operator.kube.store import Store
from rayservice_operator.telemetry.metrics import Metrics


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def health(clock: ManualClock) -> Health:
    reflector = Reflector(None, Store(), "Pod", monotonic=clock.monotonic)  # type: ignore[arg-type]
    return Health(WorkQueue(clock), [reflector])


def test_a_quiet_operator_is_healthy(health: Health) -> None:
    assert health.problems() == []


def test_a_watch_that_does_not_even_try_is_a_problem(health: Health, clock: ManualClock) -> None:
    clock.advance(MAX_SILENCE_S + 1)
    assert health.problems() == ["nothing happens to Pod in all namespaces"]


def test_a_deaf_watch_is_a_problem(health: Health) -> None:
    health.reflectors[0].deaf = True
    assert "kopf" in health.problems()[0]


def test_a_key_that_never_ends_is_a_problem(health: Health, clock: ManualClock) -> None:
    health.queue.add(Key("RayService", "ns", "svc"))
    health.queue.pop()
    clock.advance(MAX_KEY_AGE_S + 1)
    assert "a key" in health.problems()[0]


def test_a_loop_that_lags_is_a_problem(health: Health) -> None:
    health.lag.seconds = MAX_LAG_S + 1
    assert "event loop" in health.problems()[0]


def test_not_ready_before_the_webhook_has_settled(health: Health) -> None:
    health.phase, settled = "running", [False]
    health.settled = lambda: settled[0]
    assert not health.ready()
    settled[0] = True
    assert health.ready()


@pytest.mark.parametrize(
    ("phase", "ready"),
    [("starting", False), ("standby", True), ("syncing", False), ("running", True), ("stopping", False)],
)
def test_ready_to_lead_or_to_take_over(health: Health, phase: str, ready: bool) -> None:
    health.phase = phase
    assert health.ready() is ready


async def test_a_taken_port_is_told_with_what_to_do(health: Health) -> None:
    runner = await serve(health, Metrics(), "127.0.0.1", 0)
    try:
        with pytest.raises(CannotListen, match="HTTP_PORT"):
            await serve(health, Metrics(), "127.0.0.1", runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_lag_is_measured(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayservice_operator.engine.health._BEAT_S", -3.0)  # asked to be woken three seconds ago
    task = asyncio.create_task(health.lag.run())
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    assert health.lag.seconds >= 3.0


def test_kopf_that_does_not_come_up_is_a_problem(health: Health) -> None:
    """The pod stays Ready otherwise, while no edit is heard of."""
    primaries = Primaries(Store(), lambda: None, (), after_start=lambda: None)  # type: ignore[arg-type, return-value]
    health.trouble = lambda: primaries.trouble
    assert health.problems() == []
    primaries._ends, primaries._last_end = MAX_ENDS, "no user of that id"
    assert "no user of that id" in health.problems()[0]
