"""Keeps one kind in the store: list, watch, list again when the watch cannot go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import metadata, name_of, uid_of
from rayservice_operator.kube.api import KubeApi, WatchEvent
from rayservice_operator.kube.errors import ApiError, Forbidden, Gone, NotFound, Unreachable
from rayservice_operator.kube.store import Store

log = logging.getLogger(__name__)

CREATED_BY_US: Final = f"{names.CREATED_BY}={names.CREATED_BY_VALUE}"

CHILD_KINDS: Final = {
    "Pod": names.CLUSTER,
    "Service": CREATED_BY_US,
    "ServiceAccount": CREATED_BY_US,
    "Role": CREATED_BY_US,
    "RoleBinding": CREATED_BY_US,
    "Job": CREATED_BY_US,
    "PersistentVolumeClaim": CREATED_BY_US,
    "Ingress": CREATED_BY_US,
    "NetworkPolicy": CREATED_BY_US,
    "PodDisruptionBudget": "",  # users' own too: a pod that two of them select cannot be evicted at all
    "ControllerRevision": CREATED_BY_US,
    "EndpointSlice": CREATED_BY_US,  # slices inherit their Service's labels
}
"""Kinds of children and the label selector they are watched with; empty for all."""

OPTIONAL_KINDS: Final = {"Gateway": CREATED_BY_US, "HTTPRoute": CREATED_BY_US}
"""Kinds of children that a cluster may lack, with their label selectors."""

RELIST_S: Final = (240.0, 360.0)
"""A full list after a random time in this range finds what a watch has lost."""

DEAF_AFTER: Final = 3
"""Lists in a row with news that a watch should have told. One may be chance: news on its way."""

_ABSENT_RETRY_S: Final = 30.0
"""How often an optional kind is looked for, in seconds."""

_FIRST_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 10.0


_HINTS: Final = {
    Forbidden: "; grant the operator list and watch on it",
    NotFound: "; install the CRDs of this operator's release",
}


class Reflector:
    """One list-watch. ``run`` goes on until cancelled, whatever the API server answers.

    ``optional``: a kind that the API server may not know, or not let us see; it is looked for now and then without a
    word. ``synced`` is set after the first full list. ``age()`` is the time in seconds since the last sign of life:
    a list, an event or a bookmark.
    """

    def __init__(
        self,
        api: KubeApi,
        store: Store,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        optional: bool = False,
        relist_s: tuple[float, float] = RELIST_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.synced = asyncio.Event()
        self._api = api
        self._store = store
        self._labels = labels
        self._optional = optional
        self._relist_s = relist_s
        self._monotonic = monotonic
        self._alive_at = self._tried_at = monotonic()
        self._failures = 0
        self._news = 0
        self.deaf = False

    def __str__(self) -> str:
        return f"{self.kind} in {self.namespace or 'all namespaces'}"

    def age(self) -> float:
        """Seconds since the last sign of life."""
        return self._monotonic() - self._alive_at

    def trying_age(self) -> float:
        """Seconds since it last did anything, in vain or not: what a liveness probe may end a process for."""
        return self._monotonic() - max(self._alive_at, self._tried_at)

    async def run(self) -> None:
        """List and watch for ever; only cancelling ends it."""
        while True:
            try:
                version = await self.list()
                await self._watch_until_relist(version)
            except Gone:
                self._failures = 0  # an outdated version is no failure: list at once
            except ApiError as error:
                await self._pause(error)
            except Exception:
                log.exception("watching %s failed; it is tried again", self)
                await self._pause(None)

    async def run_lists(self) -> None:
        """For a kind that somebody else watches into the store: the full lists alone, for what that watch loses.

        Sets ``deaf`` when list after list brings news: that watch is no longer one.
        """
        misses = 0
        while True:
            first = not self.synced.is_set()
            try:
                await self.list()
            except ApiError as error:
                await self._pause(error)
                continue
            misses = misses + 1 if self._news and not first else 0
            if misses:
                log.warning("%s: the list brought %d changes that no watch had told of", self, self._news)
            self.deaf = misses >= DEAF_AFTER
            await asyncio.sleep(random.uniform(*self._relist_s))

    async def list(self) -> str:
        """One full list into the store; returns its resourceVersion. Raises ApiError."""
        since = self._store.tick
        listing = await self._api.list(self.kind, self.namespace, labels=self._labels)
        self._news = self._store.replace(self.kind, self.namespace, listing.items, listing.resource_version, since)
        self._sign_of_life()
        self.synced.set()
        return listing.resource_version

    async def _watch_until_relist(self, version: str) -> None:
        until = self._monotonic() + random.uniform(*self._relist_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until - self._monotonic()):
                while True:
                    version = await self._watch(version)

    async def _watch(self, version: str) -> str:
        """One stream; returns the version to go on from. A cut stream goes on from there too: no list needed."""
        events = self._api.watch(self.kind, self.namespace, labels=self._labels, resource_version=version)
        try:
            async with contextlib.aclosing(events) as stream:  # type: ignore[type-var]
                async for event in stream:
                    self._sign_of_life()
                    version = self._take(event) or version
        except Gone:
            raise
        except ApiError as error:
            await self._pause(error)
        else:
            await asyncio.sleep(_FIRST_RETRY_S)  # for a server that ends every stream at once
        return version

    def _take(self, event: WatchEvent) -> str:
        obj = event.obj
        if event.type == "DELETED":
            self._store.remove(self.kind, metadata(obj).get("namespace", ""), name_of(obj), uid_of(obj))
        elif event.type != "BOOKMARK":
            self._store.put(obj)
        return str(metadata(obj).get("resourceVersion", ""))

    def _sign_of_life(self) -> None:
        self._alive_at = self._monotonic()
        self._failures = 0

    async def _pause(self, error: ApiError | None) -> None:
        delay = min(_MAX_RETRY_S, _FIRST_RETRY_S * 2**self._failures) * random.uniform(0.7, 1.3)
        self._failures = min(self._failures + 1, 20)
        self._tried_at = self._monotonic()
        if self._optional and isinstance(error, (NotFound, Forbidden)):
            log.debug("%s: %s", self, error.message)
            await asyncio.sleep(_ABSENT_RETRY_S * random.uniform(0.7, 1.3))
            return
        if error is not None:
            hint = _HINTS.get(type(error), "")
            # A stream on which nothing came for a while, not even a bookmark, is opened anew: no news for people.
            level = logging.DEBUG if isinstance(error, Unreachable) and self._failures == 1 else logging.WARNING
            log.log(level, "watching %s: %s%s; again in %.1f s", self, error.message, hint, delay)
        await asyncio.sleep(delay)
