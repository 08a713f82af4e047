"""Consumers by unfinished tasks: counted in a real Redis, and never waited for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from serve_runtime.tasks import depth
from serve_runtime.tasks.ledger import Claim, Ledger, Submission
from serve_runtime.tasks.scaling import TasksPolicy
from tests.serve_runtime.redis_fixture import redis_server


def context(target: int, most: int = 10) -> Any:
    """As much of Ray's as the policy looks at."""
    return SimpleNamespace(
        current_time=0.0, current_num_replicas=target, target_num_replicas=target,
        capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=most,
    )  # fmt: skip


def policy(url: str, **changes: Any) -> TasksPolicy:
    """Two tasks for each consumer."""
    return TasksPolicy(
        **{"store_url": url, "queue": "q", "per_replica": 2.0, "poll_s": 0.01, "timeout_s": 20.0, **changes}
    )


async def wanted(made: TasksPolicy, target: int, replicas: int, most: int = 10) -> None:
    """Asks as Ray's controller does until the answer is this."""
    async with asyncio.timeout(60):
        while made(context(target, most))[0] != replicas:  # noqa: ASYNC110 - Ray asks again and again, too
            await asyncio.sleep(0.01)


async def ended(made: TasksPolicy) -> None:
    """Its last question, which the loop would else complain about."""
    if made._task is not None:
        await asyncio.gather(made._task, return_exceptions=True)


async def test_tasks_that_wait_and_tasks_that_run_count() -> None:
    with redis_server() as redis:
        ledger = Ledger(redis.url, "q", 20)
        made = policy(redis.url)
        await wanted(made, 0, 0)
        tasks = [Submission("echo", b"1", "application/json") for _ in range(5)]
        ledger.submit(tasks, 60, 100)
        await wanted(made, 0, 3)
        await wanted(made, 0, 2, most=2)
        claims = [ledger.claim(task.id, "worker", 60) for task in tasks]
        assert await depth.unfinished(redis.url, "q", 20) == 5
        await wanted(made, 3, 3)
        for claim in claims[1:]:
            assert isinstance(claim, Claim)
            ledger.leave(claim, "succeeded")
        await wanted(made, 3, 1)
        assert isinstance(claims[0], Claim)
        ledger.leave(claims[0], "retrying", delay_s=60)
        await wanted(made, 1, 0)
        redis.kill()
        # Nothing is known any more: what there is stays.
        late = policy(redis.url)
        await wanted(late, 4, 4)
        await ended(late)
        await ended(made)
        ledger.close()


async def test_a_store_that_does_not_answer_holds_nobody_up() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()
        closed.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = policy(f"redis://127.0.0.1:{port}/0")
        assert made(context(3)) == (3, {})
        async with asyncio.timeout(60):
            await asked.wait()
        question = made._task
        assert [made(context(3)) for _ in range(100)] == [(3, {})] * 100
        assert made._task is question, "one question at a time"
        assert question is not None
        question.cancel()
        await ended(made)
        async with asyncio.timeout(60):
            await closed.wait()


async def test_an_address_without_its_variable_is_told_and_keeps_replicas() -> None:
    made = policy("redis://:${NOT_SET_ANYWHERE}@redis")
    made(context(2))
    assert made._task is not None
    await made._task
    assert made(context(2)) == (2, {})
