"""Runs a predictor's methods: async ones in the event loop, the others in threads; singly, in batches, as streams."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from serve_runtime.errors import Failed, Refusal
from serve_runtime.observe import tracing
from serve_runtime.predictor import batches
from serve_runtime.predictor.batches import Outcome
from serve_runtime.predictor.contract import Contract
from serve_runtime.predictor.loaded import Loaded

_LOG = logging.getLogger("ray.serve")
_END = object()

Note: TypeAlias = Callable[[str, float, str], None]
"""``note(what, value, model)``: a measurement, ``what`` being a name of :class:`Meters`."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request that waits for its batch. at: monotonic seconds. span: the request's, where it is traced."""

    loaded: Loaded
    item: Any
    at: float = field(default_factory=time.monotonic)
    span: Any = field(default_factory=tracing.current)


class Engine:
    """caller_errors: exceptions of a predictor that are the caller's mistake, besides the refusals of
    ``serve_runtime.errors``. note: takes measurements.
    """

    def __init__(
        self, contract: Contract, pool: Executor, caller_errors: tuple[type[Exception], ...], note: Note
    ) -> None:
        self._contract = contract
        self._pool = pool
        self._caller_errors = caller_errors
        self._note = note
        self._closing: set[asyncio.Future[Any]] = set()

    def at_fault(self, error: Exception) -> bool:
        """Whether the caller made a mistake."""
        return isinstance(error, self._caller_errors) or (isinstance(error, Refusal) and error.status < 500)

    async def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a method, wherever it has to run; what it logs has the request's id."""
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, method, *arguments)

    async def one(self, loaded: Loaded, item: Any) -> Any:
        """One request, by ``predict``, or by ``predict_batch`` with nobody else in it."""
        if not self._contract.one:
            return value_of((await self.batch([Job(loaded, item)]))[0])
        asked = time.monotonic()
        begun = asked
        predict = loaded.predictor.predict

        def timed(one: Any) -> Any:
            nonlocal begun
            begun = time.monotonic()
            tracing.happened("wait", tracing.current(), asked)
            with tracing.span("predict"):
                return predict(one)

        if inspect.iscoroutinefunction(predict):
            with tracing.span("predict"):
                result = await predict(item)
        else:
            result = await self.call(timed, item)
        self._note("wait", begun - asked, loaded.model)
        self._note("compute", time.monotonic() - begun, loaded.model)
        return result

    async def batch(self, jobs: list[Job]) -> list[Outcome]:
        """Jobs of one model or of several, each model's in a call of its own; outcomes in the order of the jobs."""
        by_model: dict[int, list[int]] = {}
        for index, job in enumerate(jobs):
            by_model.setdefault(id(job.loaded), []).append(index)
        outcomes: list[Outcome] = [Outcome()] * len(jobs)
        for indices in by_model.values():
            loaded = jobs[indices[0]].loaded
            begun = time.monotonic()
            for index in indices:
                self._note("wait", begun - jobs[index].at, loaded.model)
                tracing.happened("wait", jobs[index].span, jobs[index].at)
            self._note("batch", len(indices), loaded.model)
            with tracing.together("predict_batch", [jobs[index].span for index in indices]):
                found = await batches.compute(
                    [jobs[index].item for index in indices],
                    lambda items, loaded=loaded: self._predict_batch(loaded, items),  # type: ignore[misc]
                    self.at_fault,
                )
            self._note("compute", time.monotonic() - begun, loaded.model)
            for index, outcome in zip(indices, found, strict=True):
                outcomes[index] = outcome
        return outcomes

    async def _predict_batch(self, loaded: Loaded, items: list[Any]) -> Any:
        # A lease of its own: requests may be cancelled, and end theirs, while the batch that they are in computes.
        with loaded.lease(again=True) as predictor:
            return await self.call(predictor.predict_batch, items)

    @contextlib.asynccontextmanager
    async def stream(self, loaded: Loaded, item: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """The parts of an answer. The predictor's generator is closed when the block is left, however it is left."""
        made = loaded.predictor.stream(item)
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aiter__"):
            iterator = made.__aiter__()
            try:
                yield iterator
            finally:
                if hasattr(iterator, "aclose"):
                    # Not awaited: in a cancelled request each await would raise at once.
                    self._finish(asyncio.ensure_future(_closed(iterator)))
            return
        if not hasattr(made, "__iter__"):
            raise Failed(f"stream returned a {type(made).__name__}, which cannot be iterated")
        threaded = _Threaded(iter(made))
        try:
            yield self._items(threaded)
        finally:
            self._finish(asyncio.get_running_loop().run_in_executor(self._pool, threaded.close))

    async def _items(self, threaded: _Threaded) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        while (item := await loop.run_in_executor(self._pool, threaded.next)) is not _END:
            yield item

    def _finish(self, future: asyncio.Future[Any]) -> None:
        """Keeps a reference until it is done, since the loop has none."""
        self._closing.add(future)
        future.add_done_callback(self._closing.discard)


class _Threaded:
    """A generator that threads advance. Closing waits for the one that is in it: a running generator refuses."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._context = contextvars.copy_context()  # for what it logs, as in Engine.call
        self._lock = threading.Lock()
        self._closed = False

    def next(self) -> Any:
        """The next item; _END after the last one."""
        with self._lock:
            return _END if self._closed else self._context.run(next, self._iterator, _END)

    def close(self) -> None:
        """Runs the generator's ``finally``."""
        with self._lock:
            self._closed = True
            close = getattr(self._iterator, "close", None)
            if close is not None:
                try:
                    self._context.run(close)
                except Exception:
                    _LOG.exception("closing a stream failed")


async def _closed(iterator: Any) -> None:
    try:
        await iterator.aclose()
    except Exception:
        _LOG.exception("closing a stream failed")


def value_of(outcome: Outcome) -> Any:
    """Its value. Raises its error."""
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
