"""Requests wait for each other, and for the predictor: a batch is cut when it can be computed, not before.

Ray Serve's own ``serve.batch`` cuts a batch whenever ``wait_s`` is over, also while another one is computed; under
load that makes a queue of small batches. (Measured with one model on a busy machine: 1.1 times the throughput of no
batching, 2.4 with this.) Its metrics of batches are therefore not there; the application's are.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batcher(Generic[Job, Result]):
    """compute: one result for each job, in order. concurrent: batches that are computed at a time.

    ``max_batch_size`` and ``wait_s`` (seconds) may be changed at any time.
    """

    def __init__(
        self,
        compute: Callable[[list[Job]], Awaitable[list[Result]]],
        max_batch_size: int,
        wait_s: float,
        concurrent: int,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.wait_s = wait_s
        self._compute = compute
        self._concurrent = concurrent
        self._waiting: deque[tuple[float, Job, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Jobs in no batch yet."""
        return len(self._waiting)

    async def submit(self, job: Job) -> Result:
        """Its result. One that is cancelled while it waits is in no batch. Raises what ``compute`` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((loop.time(), job, future))
        self._arrived.set()
        if len(self._workers) < self._concurrent:
            # Not in the context of this request: its id would be on what is logged for others.
            worker = loop.create_task(self._work(), context=contextvars.Context())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await future

    async def _work(self) -> None:
        """Batch after batch, until nobody waits."""
        while self._waiting:
            await self._fill()
            batch = self._cut()
            if batch:
                await self._run(batch)

    async def _fill(self) -> None:
        """Until a batch is full, or its first job has waited long enough."""
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._waiting) < self.max_batch_size:
            left = self._waiting[0][0] + self.wait_s - loop.time()
            if left <= 0:
                return
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _cut(self) -> list[tuple[Job, asyncio.Future[Result]]]:
        batch: list[tuple[Job, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self.max_batch_size:
            _, job, future = self._waiting.popleft()
            if not future.done():
                batch.append((job, future))
        return batch

    async def _run(self, batch: list[tuple[Job, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._compute([job for job, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in batch:
                future.cancel()  # only those that are not done: the replica ends
