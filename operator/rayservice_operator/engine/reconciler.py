"""Takes keys from the queue: newest state -> snapshot -> decide -> execute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.core.decision import Decision, Failure, Level, Note
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest
from rayservice_operator.engine.clock import Clock
from rayservice_operator.engine.executor import ActionFailed, Executor
from rayservice_operator.engine.observers import Observers
from rayservice_operator.engine.queue import Priority, WorkQueue
from rayservice_operator.engine.routing import route
from rayservice_operator.engine.snapshots import Snapshots
from rayservice_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from rayservice_operator.kube.events import EventRecorder
from rayservice_operator.kube.reflector import OPTIONAL_KINDS
from rayservice_operator.kube.store import Change, Store

log = logging.getLogger(__name__)

OnReconcile = Callable[[str, str, float], None]
"""Told after each reconcile: kind, result (success, requeue_after, conflict, error), seconds."""

PATIENCE: Final = 3
"""Failures in a row that a passing trouble may cause before people are told."""

# What to do about it, for the person who reads the event.
_NEXT_STEP: Final[Mapping[type[ApiError], str]] = {
    Forbidden: "Check the operator's RBAC, the namespace's quota and its pod security level; it is tried again.",
    Invalid: "Correct the field that the message names; it is tried again.",
    AlreadyExists: "Delete or rename the object in the way; it is tried again.",
    Unauthorized: "The operator's credentials are refused; check its service account.",
    Unreachable: "The API server does not answer; it is tried again by itself.",
    ServerError: "The API server has a problem of its own; it is tried again by itself.",
    TooManyRequests: "The API server is busy; it is tried again by itself.",
    NotFound: "It is looked at afresh by itself.",
}
_PASSING = (Conflict, NotFound, Unreachable, ServerError, TooManyRequests)


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is reconciled: ``snapshot(key, object)`` and the pure ``decide(snapshot, now)``."""

    snapshot: Callable[[Key, Manifest], Any]
    decide: Callable[[Any, float], Decision]


def kinds(
    snapshots: Snapshots,
    decide_service: Callable[[Any, float], Decision],
    decide_cluster: Callable[[Any, float], Decision],
) -> Mapping[str, Kind]:
    """The table of both kinds."""
    return {
        "RayService": Kind(snapshots.service, decide_service),
        "RayCluster": Kind(snapshots.cluster, decide_cluster),
    }


class Reconciler:
    """Any number of workers on one queue. A key that fails is tried again; nothing ends a worker but :meth:`stop`."""

    def __init__(
        self,
        *,
        store: Store,
        queue: WorkQueue,
        executor: Executor,
        recorder: EventRecorder,
        observers: Observers,
        clock: Clock,
        table: Mapping[str, Kind],
        failures: dict[Key, Failure] | None = None,
        on_reconcile: OnReconcile | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._executor = executor
        self._recorder = recorder
        self._observers = observers
        self._clock = clock
        self._table = table
        self._failures = failures if failures is not None else {}
        self._on_reconcile = on_reconcile
        self._idle: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._told: dict[Key, str] = {}  # failures that are in the log already: one line each, not one per try
        store.subscribe(self._mark)

    def _mark(self, change: Change) -> None:
        for key, priority in route(self._store, change).items():
            self._queue.add(key, priority)

    def resync(self) -> None:
        """Mark everything dirty."""
        for kind in self._table:
            for obj in self._store.kind(kind):
                meta = obj["metadata"]
                self._queue.add(Key(kind, meta.get("namespace", ""), meta["name"]), Priority.RESYNC)

    async def work(self) -> None:
        """One worker, until cancelled or stopped."""
        me = asyncio.current_task()
        assert me is not None
        while not self._stopping:
            self._idle.add(me)
            key = await self._queue.get()
            self._idle.discard(me)
            await self.process(key)

    async def stop(self, workers: set[asyncio.Task[None]], grace_s: float) -> None:
        """No new keys; running reconciles may end within ``grace_s`` seconds, then they are cut off.

        A cut between two writes does no harm: the next process goes on from what is stored.
        """
        self._stopping = True
        for task in workers & self._idle:
            task.cancel()
        if workers:
            _, late = await asyncio.wait(workers, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def process(self, key: Key) -> None:
        """Reconcile a key that the queue handed out and hand it back. Never raises but when cancelled."""
        began, result = time.monotonic(), "error"
        try:
            result = await self.reconcile(key)
            self._told.pop(key, None)
        except ActionFailed as failure:
            if isinstance(failure.error, Conflict):
                result = "conflict"
            self._failed(key, failure.what, failure.error, failure.kind)
        except ApiError as error:
            self._failed(key, "look again", error)
        except Exception as error:
            self._broken(key, error)
        finally:
            self._queue.done(key, failed=result in {"error", "conflict"})
            if self._on_reconcile is not None:
                self._on_reconcile(key.kind, result, time.monotonic() - began)

    async def reconcile(self, key: Key) -> str:
        """One pass. Returns the result's name for metrics; raises ActionFailed, ApiError or a bug."""
        await self._executor.settle(key.namespace)
        obj = self._store.get(*key)
        if obj is None:
            self._gone(key)
            return "success"
        kind = self._table[key.kind]
        decision = kind.decide(kind.snapshot(key, obj), self._clock.now())
        if key.kind == "RayService" and decision.observe is not None:
            self._observers.sync(key, decision.observe)
        if decision.wake_at is not None:
            self._queue.add_after(key, decision.wake_at - self._clock.now())
        if await self._executor.execute(key, obj, decision):
            self._queue.add(key)
        if self._failures.pop(key, None) is not None:
            self._queue.add(key)  # once more, so that the status stops telling of it
        return "success" if decision.wake_at is None else "requeue_after"

    def _gone(self, key: Key) -> None:
        if key.kind == "RayService":
            self._observers.sync(key, ())
        self._executor.forget(key)
        self._failures.pop(key, None)
        self._queue.forget(key)

    def _failed(self, key: Key, what: str, error: ApiError, kind: str = "") -> None:
        failures = self._queue.failures(key) + 1
        quiet = isinstance(error, _PASSING) and failures < PATIENCE
        kind_of_failure = f"{what.split(' ')[:2]} {type(error).__name__}"
        news = not quiet and self._told.get(key) != kind_of_failure
        if news:
            self._told[key] = kind_of_failure
        log.log(
            logging.WARNING if news else logging.DEBUG,
            "cannot %s: %s",
            what,
            error,
            extra={"object": str(key), "failures": failures},
        )
        obj = self._store.get(*key)
        if quiet or obj is None:
            return
        self._failures[key] = Failure(what, kind, error.message, self._clock.now())
        step = _NEXT_STEP.get(type(error), "It is tried again by itself.")
        if isinstance(error, NotFound) and kind in OPTIONAL_KINDS:
            step = "Install the Gateway API's CRDs, or remove gatewayClassName; it is tried again."
        note = Note("ReconcileFailed", f"Cannot {what}: {error.message}. {step}", Level.WARNING)
        # Names drawn by the server and numbers in messages would make each failure look new.
        self._recorder.record(obj, note, same_as=kind_of_failure)

    def _broken(self, key: Key, error: Exception) -> None:
        log.error("reconcile failed by a mistake in the operator", exc_info=error, extra={"object": str(key)})
        obj = self._store.get(*key)
        if obj is None:
            return
        kind = type(error).__name__
        note = Note(
            "ReconcileFailed",
            f"The operator made a mistake ({kind}); its log has the details. Nothing was changed; it is tried again.",
            Level.WARNING,
        )
        self._recorder.record(obj, note, same_as=kind)
