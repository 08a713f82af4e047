"""One operator process, from start to exit: reads like the order in which things happen."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, TypeAlias

from rayservice_operator.admission.reviewer import Scope, reviewer
from rayservice_operator.admission.server import Webhook
from rayservice_operator.admission.settings import AdmissionSettings, Certificates
from rayservice_operator.admission.sources import BuiltIn, Files
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Decision, Failure
from rayservice_operator.core.keys import Key
from rayservice_operator.engine.clock import Clock, SystemClock
from rayservice_operator.engine.dry_runs import DryRunCache
from rayservice_operator.engine.executor import Executor
from rayservice_operator.engine.health import Health, serve
from rayservice_operator.engine.observers import Observers
from rayservice_operator.engine.primaries import KINDS, Primaries
from rayservice_operator.engine.queue import WorkQueue
from rayservice_operator.engine.reconciler import Reconciler, kinds
from rayservice_operator.engine.settings import Settings
from rayservice_operator.engine.snapshots import Snapshots
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError, NotFound
from rayservice_operator.kube.events import EventRecorder
from rayservice_operator.kube.lease import LeaderElector, LeadershipLost
from rayservice_operator.kube.login import login
from rayservice_operator.kube.ratelimit import TokenBucket
from rayservice_operator.kube.reflector import CHILD_KINDS, OPTIONAL_KINDS, Reflector
from rayservice_operator.kube.resources import reference
from rayservice_operator.kube.store import Store
from rayservice_operator.kube.transport import Login
from rayservice_operator.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Decide: TypeAlias = Callable[[Any, float], Decision]
TokenGetter: TypeAlias = Callable[[str, str], Awaitable[str | None]]
NewObservers: TypeAlias = Callable[[Callable[[Key], None], Clock, TokenGetter], Observers]
"""``ray.observer.ObserverPool``: told whom to call on news, the clock, and how to read a token's Secret."""

RESYNC_S: Final = (300.0, 600.0)
"""All objects are reconciled again after a random time in this range."""

_CANCEL_S: Final = 5.0

TOKEN_KEY: Final = "auth_token"
"""Key of a Ray cluster's token in its Secret, as KubeRay names it."""


class App:
    """Everything one process is made of. ``run`` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        config: OperatorConfig,
        *,
        decide_service: Decide,
        decide_cluster: Decide,
        new_observers: NewObservers,
        login: Login = login,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.clock = SystemClock()
        self.store = Store()
        self.queue = WorkQueue(self.clock)
        limit = TokenBucket(rate=settings.qps, burst=settings.burst)
        self.api = KubeClient(login, limit=limit, on_request=self.metrics.requested)
        identity = settings.identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self.recorder = EventRecorder(self.api, now=self.clock.now, instance=identity)
        self.observers = new_observers(self._observed, self.clock, self.read_token)
        dry_runs = DryRunCache()
        self.surveyor = Surveyor(self.api, self.clock, self._observed)
        failures: dict[Key, Failure] = {}
        self.reconciler = Reconciler(
            store=self.store,
            queue=self.queue,
            executor=Executor(self.api, self.store, self.recorder, dry_runs, self.clock, surveyor=self.surveyor),
            recorder=self.recorder,
            observers=self.observers,
            clock=self.clock,
            table=kinds(
                Snapshots(self.store, config, self.observers, dry_runs, surveyor=self.surveyor, failures=failures),
                decide_service,
                decide_cluster,
            ),
            failures=failures,
            on_reconcile=self.metrics.reconciled,
        )
        scopes: tuple[str | None, ...] = settings.namespaces or (None,)
        self.children = [
            Reflector(self.api, self.store, k, ns, labels=sel) for k, sel in CHILD_KINDS.items() for ns in scopes
        ]
        self.optional = [
            Reflector(self.api, self.store, k, ns, labels=sel, optional=True)
            for k, sel in OPTIONAL_KINDS.items()
            for ns in scopes
        ]
        # kopf watches these; their full lists say when it is safe to start and find what kopf's watches lose.
        self.lists = [Reflector(self.api, self.store, kind, ns) for kind in KINDS for ns in scopes]
        self.health = Health(self.queue, (*self.children, *self.lists))
        self.primaries = Primaries(self.store, login, settings.namespaces, after_start=self._take_signals)
        self.health.trouble = lambda: self.primaries.trouble
        self.elector = (
            LeaderElector(self.api, settings.lease_namespace, settings.lease_name, identity)
            if settings.leader_elect
            else None
        )
        self.webhook = self._webhook(settings.admission, config) if settings.admission else None
        if self.webhook is not None:
            self.health.settled = lambda webhook=self.webhook: webhook.settled  # type: ignore[misc]
            self.health.extra = lambda webhook=self.webhook: {"admission": webhook.report()}  # type: ignore[misc]
        self.port = settings.http_port
        self._stop = asyncio.Event()
        self._fatal = ""
        self._keeping: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._wire_metrics()

    async def run(self) -> int:
        """Until SIGTERM or SIGINT (0), or until leadership is lost or a part ends that must not (1)."""
        self._take_signals()
        runner = await serve(self.health, self.metrics, self.settings.http_host, self.settings.http_port)
        self.port = runner.addresses[0][1]
        log.info("serving health and metrics", extra={"port": self.port})
        try:
            self._spawn("loop lag", self.health.lag.run())
            if self.webhook is not None:  # before leadership: standbys answer as well
                self._spawn("admission", self.webhook.run())
            for reflector in (*self.children, *self.optional):
                self._spawn(f"watch {reflector}", reflector.run())
            if await self._until_stop(self._start()):
                await self._stop.wait()
        finally:
            self.health.phase = "stopping"
            await asyncio.gather(self._shut_down(), self._linger())
            if self.webhook is not None:
                await self.webhook.close()
            await runner.cleanup()
        if self._fatal:
            log.error("%s; the process ends", self._fatal)
        return 1 if self._fatal else 0

    async def _start(self) -> None:
        """From a warm-up to the first reconcile."""
        if self.elector is not None:
            self.health.phase = "standby"
            await self.elector.acquire()
            self._keeping = asyncio.create_task(self._keep(self.elector), name="keep the lease")
            self._track(self._keeping)
        self.health.phase = "syncing"
        for reflector in self.lists:
            self._spawn(f"list {reflector}", reflector.run_lists())
        # No decision on a store that is only half filled: it would look like missing children.
        for reflector in (*self.children, *self.lists):
            await reflector.synced.wait()
        self._spawn("events", self.recorder.run())
        self._spawn("kopf", self.primaries.run())
        self._spawn("resync", self._resync())
        for number in range(self.settings.workers):
            task = asyncio.create_task(self.reconciler.work(), name=f"worker {number}")
            task.add_done_callback(self._ended)
            self._workers.add(task)
        self.health.phase = "running"
        log.info("running", extra={"objects": len(self.store), "workers": self.settings.workers})

    async def _keep(self, elector: LeaderElector) -> None:
        try:
            await elector.keep()
        except LeadershipLost as lost:
            self._fatal = f"leadership lost: {lost}"
            self._stop.set()

    async def _resync(self) -> None:
        """Everything is looked at from time to time, for what no event tells of. It writes nothing if all is well."""
        while True:
            self.reconciler.resync()
            await asyncio.sleep(random.uniform(*RESYNC_S))

    async def _shut_down(self) -> None:
        """Let running reconciles end, then give the lease back, then cut all connections."""
        await self.reconciler.stop(self._workers, 0.0 if self._fatal else self.settings.stop_grace_s)
        if self.elector is not None:
            if self._keeping is not None:
                await _cancel({self._keeping})
            await self.elector.release()
        if self._workers and not self._fatal:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.recorder.flush()
        await _cancel(self._background)
        await self.surveyor.close()
        await self.observers.close()
        await self.api.close()

    async def _linger(self) -> None:
        """With other replicas, the webhook answers for as long as calls may still find their way to this one.

        A single one would only be away for longer.
        """
        if self.webhook is not None and self.elector is not None and not self._fatal:
            await self.webhook.linger()

    # --- parts

    def _webhook(self, settings: AdmissionSettings, config: OperatorConfig) -> Webhook:
        builtin = settings.certificates is Certificates.BUILTIN
        scope = Scope(settings.own_user, self.settings.namespaces, config.managed_by)
        return Webhook(
            settings,
            BuiltIn(self.api, settings) if builtin else Files(settings.folder),
            reviewer(scope),
            self.metrics.reviewed,
        )

    def stop(self) -> None:
        """Ask the process to end."""
        if not self._stop.is_set():
            log.info("stopping")
        self._stop.set()

    def _take_signals(self) -> None:
        """SIGTERM and SIGINT stop us in order; kopf, once started, had put its own handlers there."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not in the main thread: tests
                loop.add_signal_handler(number, self.stop)

    def _spawn(self, name: str, coro: Coroutine[Any, Any, None]) -> None:
        self._track(asyncio.create_task(coro, name=name))

    def _track(self, task: asyncio.Task[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """These tasks never end by themselves; if one does, a fresh process is better than a deaf one."""
        if task.cancelled() or self._stop.is_set():
            return
        error = task.exception()
        log.critical("a task ended by a mistake in the operator", exc_info=error, extra={"task": task.get_name()})
        self._fatal = f"{task.get_name()} ended"
        self._stop.set()

    async def _until_stop(self, start: Coroutine[Any, Any, None]) -> bool:
        """Run ``start`` unless asked to stop first. Whether it came to its end."""
        starting = asyncio.create_task(start, name="start")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    def _observed(self, key: Key) -> None:
        self.queue.add(key)

    async def read_token(self, namespace: str, secret: str) -> str | None:
        """The token of a Ray cluster from its Secret; None when there is none (yet)."""
        try:
            found = await self.api.get(reference("Secret", namespace, secret))
        except NotFound:
            return None
        except ApiError as error:
            log.warning("cannot read Secret %s/%s: %s", namespace, secret, error.message)
            return None
        data: Mapping[str, str] = found.get("data") or {}
        return base64.b64decode(data[TOKEN_KEY]).decode() if TOKEN_KEY in data else None

    def _wire_metrics(self) -> None:
        self.metrics.watch_queue(self.queue.depth, self.queue.working, self.queue.oldest_age)
        self.metrics.watch_process(
            lambda: float(self.elector is None or self.elector.leading), lambda: self.health.lag.seconds
        )
        for kind in (*CHILD_KINDS, *KINDS):
            mine = [r for r in (*self.children, *self.lists) if r.kind == kind]
            self.metrics.watch_kind(kind, lambda mine=mine: max(r.age() for r in mine))  # type: ignore[misc]


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel and wait, but not for ever: the process is about to end anyway."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_S)
