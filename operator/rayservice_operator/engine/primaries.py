"""kopf watches RayService and RayCluster and tells the store; nothing else of kopf is used.

No change detection, finalizer, annotation or event of kopf's touches an object: its storages are null and its
posting is off. When kopf ends (a watch of its that cannot be saved ends it by design), it is started again here.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import weakref
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator, Sequence
from typing import Any, Final

import kopf

from rayservice_operator.core.objects import metadata
from rayservice_operator.kube.resources import resource
from rayservice_operator.kube.store import Store
from rayservice_operator.kube.transport import Login

log = logging.getLogger(__name__)

KINDS: Final = ("RayService", "RayCluster")
ERROR_BACKOFFS_S: Final = (1, 1, 2, 3, 5, 8, 13, *(20,) * 40)
"""kopf's waits between tries of one request: a quarter of an hour without an API server is survived."""

_RESTART_S: Final = (1.0, 30.0)
MAX_ENDS: Final = 5
"""Ends in a row after which the process reports itself unhealthy: without kopf it hears of no edit."""

_of_kopf: contextvars.ContextVar[bool] = contextvars.ContextVar("of_kopf", default=False)


class NullDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: we compare states, not edits. Saves two deep copies and an annotation per event."""

    def build(self, **_: Any) -> Any:
        """No essence."""
        return {}

    def fetch(self, **_: Any) -> Any:
        """Never stored."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing."""


class NullProgress(kopf.ProgressStorage):
    """Remembers nothing: event handlers have no progress."""

    def fetch(self, **_: Any) -> Any:
        """Never stored."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing."""

    def purge(self, **_: Any) -> None:
        """Nothing."""

    def touch(self, **_: Any) -> None:
        """Nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Unchanged."""
        return essence


class _TasksOfOthers(Collection["asyncio.Task[Any]"]):
    """Every task that was not started from within kopf, now or later.

    On its way out kopf cancels all tasks of the loop but those it is told to ignore; it cannot tell which are its
    own. Here they are told apart by the context that a task inherits from who starts it.
    """

    def __init__(self) -> None:
        self._of_kopf: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop note who starts a task."""

        def factory(
            loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **kwargs: Any
        ) -> asyncio.Task[Any]:
            task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
            if _of_kopf.get():
                self._of_kopf.add(task)
            return task

        loop.set_task_factory(factory)

    def __contains__(self, task: object) -> bool:
        return task not in self._of_kopf

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return (task for task in asyncio.all_tasks() if task in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Primaries:
    """Runs kopf as a child of our loop. ``running`` says whether it is up."""

    def __init__(
        self, store: Store, login: Login, namespaces: Sequence[str], *, after_start: Callable[[], None]
    ) -> None:
        self._store = store
        self._login = login
        self._namespaces = tuple(namespaces)
        self._after_start = after_start
        self._others = _TasksOfOthers()
        self.running = False
        self._ends = 0
        self._last_end = ""

    @property
    def trouble(self) -> str:
        """Why a fresh process is better than another start of kopf here; empty while it is not."""
        if self._ends < MAX_ENDS:
            return ""
        return f"kopf ended {self._ends} times in a row, each soon after its start: {self._last_end}"

    async def run(self) -> None:
        """Until cancelled. ``after_start`` is called each time kopf has put its signal handlers in place of ours."""
        self._others.install(asyncio.get_running_loop())
        _of_kopf.set(True)
        pause = _RESTART_S[0]
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._run_once()
                self._last_end = "without an error"
                log.warning("kopf ended; it is started again")
            except Exception as error:
                self._last_end = str(error) or type(error).__name__
                log.warning("kopf ended: %s; it is started again in %.0f s", str(error) or type(error).__name__, pause)
            finally:
                self.running = False
            self._ends += 1
            if asyncio.get_running_loop().time() - began > 10 * _RESTART_S[1]:
                pause = _RESTART_S[0]
                self._ends = 1
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(_RESTART_S[1], pause * 2)

    async def _run_once(self) -> None:
        scope: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
        tasks = await kopf.spawn_tasks(
            registry=self._registry(), settings=_settings(), standalone=True, identity=None, **scope
        )
        self._after_start()
        self.running = True
        await kopf.run_tasks(tasks, ignored=self._others)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return self._login()

        for kind in KINDS:
            kopf.on.event(
                resource(kind).group, resource(kind).version, resource(kind).plural, id=kind.lower(), registry=registry
            )(self._handler(kind))
        return registry

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def seen(event: Any, **_: Any) -> None:
            """Only the store is told; the queue hears of it from there."""
            obj = {**event["object"], "apiVersion": resource(kind).api_version, "kind": kind}
            meta = metadata(obj)
            if event["type"] == "DELETED":
                self._store.remove(kind, meta.get("namespace", ""), meta["name"], meta.get("uid", ""))
            else:
                self._store.put(obj)

        return seen


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NullDiffBase()
    settings.persistence.progress_storage = NullProgress()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # the CRDs are there before kopf starts; no watching of CRDs and namespaces
    settings.networking.error_backoffs = ERROR_BACKOFFS_S
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None  # kopf must not end the process
    return settings
