"""The observers of all live clusters: the engine says which, asks what they saw, and is told when it changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import aiohttp

from rayservice_operator.core.decision import ObserveTarget
from rayservice_operator.core.objects import Ref
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.ray.client import new_session
from rayservice_operator.ray.details import replicas_by_address
from rayservice_operator.ray.watch import HeadWatch, Surroundings, TokenGetter

K = TypeVar("K", bound=Hashable)

_ClusterId = tuple[str, str, str]

MAX_PROBES = 64
"""Proxies asked at the same time, over all clusters."""


@dataclass(slots=True)
class _Entry(Generic[K]):
    """One watched cluster; ``wanted`` has what each key wants of it, the newest last."""

    watch: HeadWatch
    task: asyncio.Task[None]
    wanted: dict[K, ObserveTarget] = field(default_factory=dict)


class ObserverPool(Generic[K]):
    """Watches the clusters given to :meth:`sync`, one task for each. ``K`` is the engine's key.

    ``on_change(key)`` is called, from the event loop, for every key that watches a cluster whose observation got
    another meaning; never for a look that brought nothing new. ``clock`` gives epoch seconds. ``token_getter``
    reads the auth token from a Secret (namespace, name); None while there is none. ``stale_after_s``: an API that
    has not answered that long is news once more. All methods belong to one event loop.
    """

    def __init__(
        self,
        on_change: Callable[[K], None],
        clock: Callable[[], float],
        token_getter: TokenGetter,
        *,
        stale_after_s: float = 15.0,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._token_getter = token_getter
        self._stale_after_s = stale_after_s
        self._entries: dict[_ClusterId, _Entry[K]] = {}
        self._by_key: dict[K, set[_ClusterId]] = {}
        self._http: aiohttp.ClientSession | None = None
        self._surroundings: Surroundings | None = None
        self._closed = False

    def sync(self, service_key: K, targets: tuple[ObserveTarget, ...]) -> None:
        """From now on exactly ``targets`` are watched for that key; nothing for the empty tuple. Returns at once."""
        if self._closed:
            return
        wanted = {_id(target.cluster): target for target in targets}
        for gone in self._by_key.get(service_key, set()) - wanted.keys():
            self._drop(gone, service_key)
        for cluster, target in wanted.items():
            self._want(cluster, service_key, target)
        if wanted:
            self._by_key[service_key] = set(wanted)
        else:
            self._by_key.pop(service_key, None)

    def get(self, cluster: Ref) -> ServeObservation | None:
        """The newest observation of that RayCluster (same namespace, name and UID); None when not watched."""
        entry = self._entries.get(_id(cluster))
        return entry.watch.observation if entry else None

    def load(self, cluster: Ref) -> Mapping[str, int] | None:
        """Replicas by pod address; None while unknown: not watched, never answered, or too long ago.

        A pod that is not in it has no replica. One that starts or finishes its requests counts.
        """
        seen = self.get(cluster)
        age = seen.age(self._clock()) if seen else None
        if seen is None or age is None or age > self._stale_after_s:
            return None
        return replicas_by_address(seen.applications.values())

    async def close(self) -> None:
        """Ends all watches and connections."""
        self._closed = True
        tasks = [entry.task for entry in self._entries.values()]
        self._entries.clear()
        self._by_key.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._http is not None:
            await self._http.close()

    def _want(self, cluster: _ClusterId, key: K, target: ObserveTarget) -> None:
        entry = self._entries.get(cluster)
        if entry is None:
            watch = HeadWatch(target, self._around(), lambda: self._tell(cluster))
            task = asyncio.create_task(watch.run(), name=f"observe {target.cluster}")
            self._entries[cluster] = _Entry(watch, task, {key: target})
            return
        entry.wanted.pop(key, None)
        entry.wanted[key] = target
        entry.watch.retarget(_merged(entry.wanted))

    def _drop(self, cluster: _ClusterId, key: K) -> None:
        entry = self._entries[cluster]
        entry.wanted.pop(key, None)
        if entry.wanted:
            entry.watch.retarget(_merged(entry.wanted))
        else:
            del self._entries[cluster]
            entry.task.cancel()

    def _tell(self, cluster: _ClusterId) -> None:
        entry = self._entries.get(cluster)
        for key in tuple(entry.wanted) if entry else ():
            self._on_change(key)

    def _around(self) -> Surroundings:
        """Made late: an HTTP session belongs to a running event loop."""
        if self._surroundings is None:
            self._http = new_session()
            self._surroundings = Surroundings(
                http=self._http,
                clock=self._clock,
                token=self._token_getter,
                crowd=Counter(),
                probing=asyncio.Semaphore(MAX_PROBES),
                stale_after_s=self._stale_after_s,
            )
        return self._surroundings


def _merged(wanted: Mapping[K, ObserveTarget]) -> ObserveTarget:
    """The newest target, with a push if anybody wants one and the quick pace if anybody needs it."""
    *older, newest = wanted.values()
    push = next((target.push for target in (newest, *reversed(older)) if target.push is not None), None)
    return replace(newest, push=push, fast=any(target.fast for target in wanted.values()))


def _id(cluster: Ref) -> _ClusterId:
    return (cluster.namespace, cluster.name, cluster.uid)
