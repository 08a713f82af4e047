"""What a consumer does with a task: take it, run its handler, write down what came of it. No Ray, no Celery."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from serve_runtime.errors import Refusal
from serve_runtime.observe import tracing
from serve_runtime.tasks.args import TasksArgs
from serve_runtime.tasks.backoff import described, verdict
from serve_runtime.tasks.handlers import Contract
from serve_runtime.tasks.ledger import Claim, Ledger, LedgerError
from serve_runtime.web.bodies import write_json

_LOG = logging.getLogger("ray.serve")
_T = TypeVar("_T")


class Note(Protocol):
    """Takes measurements: seconds that a task waited and ran, and what came of it."""

    def __call__(self, handler: str, outcome: str, waited_s: float, ran_s: float) -> None: ...


class _StoppedError(Exception):
    """The replica ends while Redis is away."""


@dataclass(slots=True)
class _Held:
    """A claim. since: monotonic seconds. over: whether it was ended without waiting for the handler."""

    claim: Claim
    since: float
    over: bool = False


class Work:
    """One for each consumer; :meth:`run` is called from its threads. ``loop`` runs async handlers."""

    def __init__(
        self, args: TasksArgs, ledger: Ledger, name: str, *, contracts: Mapping[str, Contract],
        hopeless: tuple[type[Exception], ...], loop: asyncio.AbstractEventLoop, note: Note,
    ) -> None:  # fmt: skip
        """Raises what handlers' constructors raise."""
        self._args = args
        self._ledger = ledger
        self._name = name
        self._hopeless = hopeless
        self._loop = loop
        self._note = note
        self._readers = {each: contract.reader(args.accepts) for each, contract in contracts.items()}
        self._calls: dict[str, Callable[[Any], Any]] = {each: contract.make() for each, contract in contracts.items()}
        self._held: dict[str, _Held] = {}
        self._passed_on: list[str] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._ended = threading.Event()
        self.hung = 0
        self._renewer = threading.Thread(target=self._keep_renewing, name="leases", daemon=True)
        self._renewer.start()

    def run(self, task_id: str) -> None:
        """The task from its message to its end. Raises nothing: a message is not worth more than the ledger."""
        if self._closing.is_set():
            self._passed_on.append(task_id)
            return
        try:
            claim = self._insist(lambda: self._ledger.claim(task_id, self._name, self._args.lease_s))
            if isinstance(claim, str):
                _LOG.debug("task %s is %s; its message is of no use", task_id, claim)
                return
            self._hold(claim)
        except _StoppedError:
            _LOG.warning("task %s stays where it is: the store is away and this replica ends", task_id)
        except Exception:
            _LOG.exception("task %s: its run could not be ended; it is run again when its lease has ended", task_id)

    def drain(self, timeout_s: float) -> list[str]:
        """Takes no more tasks and waits for those that run; gives back the rest. Ids of those, and of tasks whose
        message came meanwhile: they need messages.
        """
        self._closing.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, timeout_s)
            left = [held for held in self._held.values() if not held.over]
            for held in left:
                held.over = True
        given = []
        for held in left:
            try:
                if self._ledger.leave(held.claim, "queued"):
                    given.append(held.claim.id)
            except LedgerError:
                _LOG.warning("task %s could not be given back; it is run again when its lease has ended", held.claim.id)
        self._ended.set()
        return given + self._passed_on

    @property
    def running(self) -> int:
        """Tasks in this consumer's threads."""
        return len(self._held)

    def _hold(self, claim: Claim) -> None:
        held = _Held(claim, time.monotonic())
        with self._changed:
            self._held[claim.owner] = held
        try:
            with tracing.continued(claim.trace, f"task {claim.handler}", task=claim.id, attempt=claim.attempts):
                tracing.happened("wait", tracing.current(), held.since - claim.waited_s)
                outcome = self._perform(held)
                tracing.annotate(outcome=outcome)
        finally:
            with self._changed:
                del self._held[claim.owner]
                self._changed.notify_all()
        self._note(claim.handler, outcome, claim.waited_s, time.monotonic() - held.since)

    def _perform(self, held: _Held) -> str:
        claim = held.claim
        try:
            fields = self._result(claim)
        except Exception as error:
            return self._failed(held, error)
        return self._end(held, "succeeded", 0, self._args.result_ttl_s, fields)

    def _result(self, claim: Claim) -> dict[str, str | bytes]:
        """What the handler makes of it, as fields of the record. Raises whatever the handler does."""
        if claim.handler not in self._calls:
            raise _NoHandler(f"no handler {claim.handler!r}; there are {', '.join(sorted(self._calls))}")
        item = self._readers[claim.handler].read(claim.content_type, claim.content)
        value = self._calls[claim.handler](item)
        if inspect.isawaitable(value):
            value = asyncio.run_coroutine_threadsafe(_awaited(value), self._loop).result()
        try:
            raw = value if isinstance(value, bytes) else write_json(value)
        except ValueError as error:
            raise _BadResult(f"the result cannot be written as JSON: {error}") from error
        if len(raw) > self._args.max_result_bytes:
            raise _BadResult(f"the result has {len(raw)} bytes; max_result_bytes is {self._args.max_result_bytes}")
        return {"result": raw, "result_type": self._args.media_type if value is raw else "application/json"}

    def _failed(self, held: _Held, error: BaseException) -> str:
        claim, retries = held.claim, self._args.retries
        found = verdict(error, claim.attempts, retries, (*self._hopeless, _NoHandler, _BadResult), random.random())
        _LOG.warning(
            "task %s of %s, run %d: %s", claim.id, claim.handler, claim.attempts, found.to,
            exc_info=error if not isinstance(error, Refusal) else None,
        )  # fmt: skip
        ttl_s = 0 if found.to == "retrying" else self._args.dead_letter_ttl_s
        return self._end(held, found.to, found.delay_s, ttl_s, {"error": json.dumps(described(error))})

    def _end(self, held: _Held, to: Any, delay_s: float, ttl_s: int, fields: dict[str, str | bytes]) -> str:
        """Writes it down, however long Redis is away: a result is not computed twice if that can be helped."""
        if held.over:
            return "late"
        claim = held.claim
        if self._insist(lambda: self._ledger.leave(claim, to, delay_s=delay_s, ttl_s=ttl_s, fields=fields)):
            return str(to)
        _LOG.warning("task %s was cancelled or given to another worker; what came of this run is dropped", claim.id)
        return "dropped"

    def _insist(self, call: Callable[[], _T]) -> _T:
        """The answer of a call, which is repeated until Redis is back. Raises _StoppedError when the replica ends."""
        pause = 0.1
        while True:
            try:
                return call()
            except LedgerError as error:
                _LOG.warning("the store is away (%s); trying again in %.1f s", type(error).__name__, pause)
                if self._ended.wait(pause):
                    raise _StoppedError from error
                pause = min(pause * 2, 2.0)

    def _keep_renewing(self) -> None:
        """Leases are renewed for as long as this process lives, except those of runs that take too long."""
        while not self._ended.wait(min(self._args.lease_s / 4, 1.0 if self._args.timeout_s else self._args.lease_s)):
            try:
                self._stop_overdue()
                with self._changed:
                    claims = [held.claim for held in self._held.values() if not held.over]
                self._ledger.renew(claims, self._args.lease_s)
            except LedgerError as error:
                _LOG.warning("leases cannot be renewed now: %s", type(error).__name__)
            except Exception:
                _LOG.exception("leases cannot be renewed now")

    def _stop_overdue(self) -> None:
        """A thread cannot be stopped: its task goes on elsewhere, and the replica calls itself ill."""
        limit = self._args.timeout_s
        if limit is None:
            return
        with self._changed:
            overdue = [h for h in self._held.values() if not h.over and time.monotonic() - h.since > limit]
        for held in overdue:
            self.hung += 1
            self._failed(held, TimeoutError(f"the handler took longer than timeout_s = {limit:g}"))
            held.over = True


class _NoHandler(Exception):  # noqa: N818 - named for people who read the dead letter
    """The task names a handler that this application has not."""


class _BadResult(Exception):  # noqa: N818
    """The handler's result cannot be kept."""


async def _awaited(value: Any) -> Any:
    return await value
