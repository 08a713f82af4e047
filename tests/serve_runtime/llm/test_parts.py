"""Health, stats and answers of the LLM applications, without Ray and vLLM."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_runtime.autoscaling import Slo
from serve_runtime.errors import Unavailable, UnknownModel
from serve_runtime.llm import failures
from serve_runtime.llm.args import Health
from serve_runtime.llm.pulse import NoPulseError, Pulse
from serve_runtime.llm.stats import EngineStats


class Engine:
    """Steps that a test makes, and a question that is answered when the test says so."""

    def __init__(self) -> None:
        self.steps, self.now, self.asked, self.cancelled = 0, 0.0, 0, 0
        self.was_asked = asyncio.Event()
        self.answers: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self) -> None:
        self.asked += 1
        self.was_asked.set()
        try:
            await asyncio.shield(self.answers)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def pulse(self, **settings: float) -> Pulse:
        health = Health.model_validate({"idle_s": 10, "timeout_s": 0.01, **settings})
        return Pulse(health, lambda: self.steps, self.ask, lambda: self.now)


async def test_a_busy_engine_is_not_asked() -> None:
    engine = Engine()
    pulse = engine.pulse()
    for second in range(100):
        engine.now, engine.steps = second * 5.0, second
        await pulse.check()
    assert engine.asked == 0


async def test_an_idle_engine_is_asked_once_in_a_while() -> None:
    engine = Engine()
    engine.answers.set_result(None)
    pulse = engine.pulse()
    for second in range(100):
        engine.now = float(second)
        await pulse.check()
    assert engine.asked == 9, "at 10 s, and each 10 s after"


async def test_an_engine_that_stands_still_is_ill_and_the_question_is_withdrawn() -> None:
    engine = Engine()
    pulse = engine.pulse()
    engine.now = 60
    with pytest.raises(NoPulseError, match=r"no token came in 0\.01 s"):
        await pulse.check()
    assert (engine.asked, engine.cancelled) == (1, 1)


async def test_an_engine_that_is_slow_because_it_is_busy_is_well() -> None:
    engine = Engine()
    pulse = engine.pulse()
    engine.now = 60

    async def others() -> None:
        await engine.was_asked.wait()
        engine.steps += 1

    await asyncio.gather(pulse.check(), others())
    assert engine.cancelled == 1
    await pulse.check()
    assert engine.asked == 1, "the step of the others counts"


async def test_an_engine_that_answers_with_an_error_is_ill() -> None:
    engine = Engine()
    engine.answers.set_exception(RuntimeError("CUDA error: device-side assert"))
    pulse = engine.pulse(idle_s=0)
    with pytest.raises(NoPulseError, match="RuntimeError: CUDA error"):
        await pulse.check()


def told(running: int, waiting: int, usage: float, queries: int = 0, hits: int = 0) -> SimpleNamespace:
    """vLLM's SchedulerStats, as far as they are looked at."""
    prefix = SimpleNamespace(queries=queries, hits=hits)
    return SimpleNamespace(
        num_running_reqs=running, num_waiting_reqs=waiting, kv_cache_usage=usage, prefix_cache_stats=prefix
    )


@given(unfinished=st.integers(0, 50), running=st.integers(0, 50), waiting=st.integers(0, 50), usage=st.floats(0, 1))
def test_the_load_is_that_of_the_requests_there_are(unfinished: int, running: int, waiting: int, usage: float) -> None:
    stats = EngineStats(lambda: unfinished)
    stats.record(told(running, waiting, usage), None, mm_cache_stats=None, engine_idx=0)
    load = stats.load()
    assert load["running"] + load["waiting"] == unfinished
    assert (load["kv_cache_usage"] == 0) if not unfinished else (load["kv_cache_usage"] == usage)


def test_ttft_is_told_as_the_slo_policy_wants_it() -> None:
    stats = EngineStats(lambda: 1)
    stats.record(None, SimpleNamespace(time_to_first_tokens_iter=[0.2, 3.0]))
    names = Slo(target_s=1.0).metrics()
    assert names <= stats.autoscaling().keys()
    assert stats.autoscaling()["ttft_s_le_inf"] == 2
    stats.record(told(1, 0, 0.5, queries=100, hits=60), None)
    assert (stats.prompt_tokens, stats.cached_tokens, stats.steps) == (100, 60, 2)


class EngineDeadError(Exception):
    """Named as vLLM's."""


class VLLMClientError(Exception):
    """Named as vLLM's."""


class TooLongError(VLLMClientError):
    """A child of it."""


class FromReplicaError(Exception):
    """As Ray wraps what a replica raises."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("ray::…")
        self.cause = cause


class WithStatusError(Exception):
    """As FastAPI's and ray.serve.llm's."""

    def __init__(self, status_code: int, detail: str) -> None:
        super().__init__()
        self.status_code, self.detail = status_code, detail


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineDeadError("…"), 503, "unavailable"),
        (FromReplicaError(EngineDeadError("…")), 503, "unavailable"),
        (FromReplicaError(FromReplicaError(TooLongError("maximum context length is 512"))), 400, "invalid_request"),
        (WithStatusError(404, "Could not find"), 404, "unknown_model"),
        (WithStatusError(400, "no model"), 400, "invalid_request"),
        (WithStatusError(408, "Request server side timeout"), 408, "invalid_request"),
        (FromReplicaError(UnknownModel("no adapter")), 404, "unknown_model"),
        (FromReplicaError(failures.BadAdapter("rank 64")), 422, "bad_adapter"),
        (TimeoutError(), 503, "deadline_exceeded"),
        (Unavailable("store"), 503, "unavailable"),
        (KeyError("secret"), 500, "failed"),
    ],
)
def test_who_is_told_what(error: Exception, status: int, code: str) -> None:
    refusal = failures.as_refusal(error, 7)
    assert (refusal.status, refusal.code) == (status, code)
    assert refusal.headers() == ({"Retry-After": "7"} if status == 503 else {})
    shown: dict[str, Any] = failures.body(refusal, "id-1")["error"]
    assert shown["request_id"] == "id-1"
    assert isinstance(shown["message"], str)
    assert shown["message"]
    assert "secret" not in shown["message"]
    assert shown["type"]
    assert json.loads(failures.event(refusal, "id-1").removeprefix("data: ")) == failures.body(refusal, "id-1")
