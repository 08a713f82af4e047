"""The ingress: tasks over HTTP. Calls of broker and store block, so they are made in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, TypeVar

from fastapi import FastAPI
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from serve_runtime.errors import BadInput, Failed, MalformedInput, Refusal
from serve_runtime.tasks import http
from serve_runtime.tasks.args import TasksArgs
from serve_runtime.tasks.handlers import contracts
from serve_runtime.tasks.ledger import Ledger, LedgerError, Submission, Submitted
from serve_runtime.tasks.meters import IngressMeters
from serve_runtime.tasks.refusals import (
    BrokerAway,
    Conflict,
    QueueFull,
    TaskCancelled,
    TaskFailed,
    UnknownHandler,
    UnknownTask,
)
from serve_runtime.tasks.states import LIVE
from serve_runtime.tasks.sweep import PERIOD_S, Sweeper
from serve_runtime.tasks.transport import BrokerError, Transport, make_app
from serve_runtime.web import answers

_T = TypeVar("_T")
_THREADS: Final = 8
ONCE: Final = "idempotency-key"
_MAX_ONCE: Final = 255


class Tasks:
    """One replica. ``args`` have passed the builder, on a machine with the same code."""

    async def __init__(self, args: TasksArgs, consumer: Any) -> None:  # type: ignore[misc] # Ray Serve awaits it
        """Broker and store may be away; requests are 503 until they are back. ``consumer`` is kept with us by Ray."""
        self._args = args
        self._consumer = consumer
        self._contracts = contracts(args.handlers)
        self._readers = {name: contract.reader(args.accepts) for name, contract in self._contracts.items()}
        self._ledger = Ledger(args.store(), args.queue, args.store_timeout_s)
        self._transport = Transport(make_app(args.broker(), args.queue, args.store_timeout_s, args.lease_s))
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tasks")
        self._meters = IngressMeters()
        self._sweeper = Sweeper(args, self._ledger, self._transport)
        self._sweeping = asyncio.create_task(self._sweep())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once this is constructed."""
        return http.build(self, self._contracts)

    async def __del__(self) -> None:
        """Called by Ray Serve when the replica ends."""
        if hasattr(self, "_sweeping"):
            self._sweeping.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)

    # What requests do.

    async def submit(self, request: Request, handler: str) -> Response:
        """``POST /tasks/{handler}``."""
        content, content_type = await self._checked(request, handler)
        task = Submission(handler, content, content_type, _once(request))
        (found,) = await self._submit([task])
        self._raise(found)
        return _json({"id": found.id, "repeated": found.outcome == "known"}, 202, Location=f"tasks/{found.id}")

    async def submit_many(self, request: Request, handler: str) -> Response:
        """``POST /batches/{handler}``: a JSON array, or ``{"items": [...], "keys": [...]}`` with a key for each."""
        raw = await answers.read_body(request, self._args.max_body_bytes)
        try:
            body = await asyncio.to_thread(from_json, raw, allow_inf_nan=False)
        except ValueError as error:
            raise MalformedInput(f"the body is no JSON: {error}") from None
        items, keys = _batch(body, self._args.max_batch)
        tasks = []
        for index, (item, key) in enumerate(zip(items, keys, strict=True)):
            content = to_json(item)
            try:
                self._reader(handler).read("application/json", content)
            except BadInput as error:
                raise BadInput(f"items[{index}]: {error.message}", details=error.details) from None
            tasks.append(Submission(handler, content, "application/json", key))
        found = await self._submit(tasks)
        answer = [
            {"id": each.id, "repeated": each.outcome == "known"}
            if each.outcome in {"created", "known"}
            else {"error": each.outcome}
            for each in found
        ]
        if all(each.outcome == "full" for each in found):
            self._raise(found[0])
        return _json({"tasks": answer}, 202)

    async def status(self, task_id: str) -> Response:
        """``GET /tasks/{id}``."""
        return _json(_public(await self._get(task_id)))

    async def result(self, task_id: str, wait_s: float = 0.0) -> Response:
        """``GET /tasks/{id}/result``: 202 while there is none yet."""
        until = time.monotonic() + min(max(wait_s, 0.0), 60.0)
        pause = 0.05
        record = await self._get(task_id)
        while record["state"] in LIVE and time.monotonic() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)
            record = await self._get(task_id)
        state = record["state"]
        if state in LIVE:
            return _json(_public(record), 202, **{"Retry-After": "1"})
        if state == "cancelled":
            raise TaskCancelled(f"task {task_id} was cancelled")
        if state != "succeeded":
            error = record.get("error", {})
            raise TaskFailed(f"task {task_id} is {state}: {error.get('message', '')}", details=_public(record))
        whole = await self._ask(lambda: self._ledger.get(task_id, content=True))
        if whole is None or "result" not in whole:
            raise UnknownTask(f"the result of {task_id} has just expired")
        return Response(whole["result"], media_type=whole["result_type"])

    async def cancel(self, task_id: str) -> Response:
        """``POST /tasks/{id}/cancel``."""
        outcome = await self._ask(lambda: self._ledger.cancel(task_id, self._args.result_ttl_s))
        if outcome not in {"done", "cancelled"}:
            self._refuse_change(task_id, outcome, "can no longer be cancelled")
        return _json({"id": task_id, "state": "cancelled"})

    async def dead_letters(
        self, kind: Literal["failed", "unprocessable"] = "failed", start: int = 0, count: int = 100
    ) -> Response:
        """``GET /dead-letters``: the newest first."""
        if start < 0 or not 1 <= count <= 1000:
            raise BadInput("start: at least 0; count: 1 to 1000")
        found = await self._ask(lambda: self._ledger.dead_letters(kind, start, count))
        counts = await self._ask(self._ledger.counts)
        return _json({"kind": kind, "total": counts[kind], "tasks": [_public(each) for each in found]})

    async def requeue(self, task_id: str) -> Response:
        """``POST /dead-letters/{id}/requeue``."""
        outcome = await self._ask(lambda: self._ledger.requeue(task_id))
        if outcome == "foreign":
            raise Conflict(f"{task_id} is a message that is no task of this application; it can only be deleted")
        if outcome != "done":
            self._refuse_change(task_id, outcome, "is no dead letter")
        await self._ask(lambda: self._transport.publish([task_id]))
        return _json({"id": task_id, "state": "queued"}, 202)

    async def drop(self, task_id: str) -> Response:
        """``DELETE /dead-letters/{id}``."""
        outcome = await self._ask(lambda: self._ledger.drop(task_id))
        if outcome != "done":
            self._refuse_change(task_id, outcome, "is no dead letter")
        return Response(status_code=204)

    async def queue(self) -> Response:
        """``GET /queue``: tasks in each state."""
        return _json({"queue": self._args.queue, **await self._ask(self._ledger.counts)})

    # How they do it.

    async def _checked(self, request: Request, handler: str) -> tuple[bytes, str]:
        """The body as it came, once it is known that the handler can take it. Raises refusals."""
        reader = self._reader(handler)
        raw = await answers.read_body(request, self._args.max_body_bytes)
        content_type = request.headers.get("content-type", "")
        if len(raw) <= answers.LARGE:
            reader.read(content_type, raw)
        else:
            await asyncio.to_thread(reader.read, content_type, raw)
        return raw, content_type

    def _reader(self, handler: str) -> Any:
        if handler not in self._readers:
            raise UnknownHandler(f"no handler {handler!r}", details={"known": sorted(self._readers)})
        return self._readers[handler]

    async def _submit(self, tasks: Sequence[Submission]) -> list[Submitted]:
        found = await self._ask(lambda: self._submit_now(tasks))
        for task, each in zip(tasks, found, strict=True):
            self._meters.submitted.inc(1, {"handler": task.handler, "outcome": each.outcome})
        return found

    def _submit_now(self, tasks: Sequence[Submission]) -> list[Submitted]:
        """First the ledger, then the messages: a message that is never sent is noticed by the sweep. What a broker that
        is away did not take is taken back, since its caller is told to come again.
        """
        found = self._ledger.submit(tasks, self._args.idempotency_ttl_s, self._args.max_waiting)
        created = [task for task, each in zip(tasks, found, strict=True) if each.outcome == "created"]
        try:
            self._transport.publish([task.id for task in created])
        except BrokerError as error:
            for task in created[error.sent :]:
                self._ledger.forget(task)
            raise
        return found

    def _raise(self, found: Submitted) -> None:
        if found.outcome == "full":
            raise QueueFull(
                f"{self._args.max_waiting} tasks are unfinished", retry_after_s=max(self._args.retry_after_s, 5)
            )
        if found.outcome == "differs":
            raise BadInput(f"{ONCE}: task {found.id} has this key and other content", details={"id": found.id})

    async def _get(self, task_id: str) -> dict[str, Any]:
        found = await self._ask(lambda: self._ledger.get(task_id))
        if found is None:
            raise UnknownTask(f"no task {task_id!r}")
        return found

    def _refuse_change(self, task_id: str, outcome: str, why: str) -> None:
        if outcome == "unknown":
            raise UnknownTask(f"no task {task_id!r}")
        raise Conflict(f"task {task_id} is {outcome}: it {why}", details={"state": outcome})

    async def _ask(self, call: Callable[[], _T]) -> _T:
        """What a blocking call answers. Everything that it raises becomes a Refusal."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except (LedgerError, BrokerError) as error:
            raise BrokerAway(
                f"broker or store are not available ({type(error).__name__})",
                retry_after_s=max(self._args.retry_after_s, 1),
            ) from error
        except Refusal:
            raise
        except Exception as error:
            answers.log_failure(error, "the request")
            raise Failed("the request failed; the log has the reason under this request id") from error

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                swept = await asyncio.get_running_loop().run_in_executor(self._pool, self._sweeper.once)
                self._meters.up.set(float(self._sweeper.healthy))
                if swept:
                    self._meters.again.inc(swept.lost - swept.dead, {"why": "worker lost"})
                    self._meters.again.inc(swept.missing, {"why": "message lost"})
                    for state, number in (await self._ask(self._ledger.counts)).items():
                        self._meters.count.set(number, {"state": state})
            except Refusal:
                continue  # broker or store went away between two calls; the next sweep says so
            except Exception as error:
                answers.log_failure(error, "the sweep")

    # What Ray Serve asks.

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For autoscaling policies."""
        return {"broker_up": float(self._sweeper.healthy)}


def _once(request: Request) -> str:
    key = str(request.headers.get(ONCE, ""))
    if len(key) > _MAX_ONCE:
        raise BadInput(f"{ONCE}: has {len(key)} characters; at most {_MAX_ONCE} are taken")
    return key


def _batch(body: Any, most: int) -> tuple[list[Any], list[str]]:
    """Items and their keys, empty ones where none are given. Raises BadInput."""
    known = isinstance(body, dict) and set(body) <= {"items", "keys"} and "items" in body
    items, keys = (body["items"], body.get("keys")) if known else (body, None)
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        raise BadInput(f'the body: send a JSON array, or {{"items": [...], "keys": [...]}}, of 1 to {most} tasks')
    if keys is None:
        return items, [""] * len(items)
    if not isinstance(keys, list) or len(keys) != len(items):
        raise BadInput("keys: send one for each item")
    for index, key in enumerate(keys):
        if not isinstance(key, str) or len(key) > _MAX_ONCE:
            raise BadInput(f"keys[{index}]: send a text of at most {_MAX_ONCE} characters")
    return items, keys


def _public(record: dict[str, Any]) -> dict[str, Any]:
    """A record for callers: the input of a dead letter as JSON or text, no traceback (the log has it)."""
    shown = {name: value for name, value in record.items() if name not in {"input", "result", "result_type"}}
    if "error" in shown:
        shown["error"] = {name: value for name, value in shown["error"].items() if name != "traceback"}
    if "input" in record:
        shown["input"] = record["input"].decode(errors="replace")
    return shown


def _json(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(to_json(value), status_code=status, headers=headers, media_type="application/json")
