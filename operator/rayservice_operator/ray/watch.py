"""Watches one Ray head: looks at its Serve API, pushes what is to be pushed, asks its proxies for their health, and
measures what an analysis orders.

One task for each head, so a hung one delays nobody. What it learns is one immutable ``ServeObservation``; the
owner is told only when its meaning changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from rayservice_operator.core.decision import ObserveTarget, ServePush
from rayservice_operator.core.observation import PushResult, ServeObservation
from rayservice_operator.ray.analysis import Measurements
from rayservice_operator.ray.client import (
    ServeClient,
    ServeRejectedError,
    ServeUnavailableError,
    UnauthorizedError,
)
from rayservice_operator.ray.details import HeadVersion, ServeDetails, parse_details, without_health_metrics
from rayservice_operator.ray.pace import PACES, Motion, push_retry
from rayservice_operator.ray.probes import ProxyProbes
from rayservice_operator.serveconfig.scaling import with_targets

_log = logging.getLogger(__name__)

_SETTLED_APP = "RUNNING"
_SETTLED_DEPLOYMENT = "HEALTHY"
_TOKEN_TIMEOUT_S = 5.0
_TOKEN_RETRY_S = 2.0

TokenGetter = Callable[[str, str], Awaitable[str | None]]
"""Namespace and name of a Secret to the token in it; None while there is none."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all watches share. ``clock`` gives epoch seconds; ``crowd`` counts the heads in each motion."""

    http: aiohttp.ClientSession
    clock: Callable[[], float]
    token: TokenGetter
    crowd: Counter[Motion]
    probing: asyncio.Semaphore
    stale_after_s: float


class HeadWatch:
    """``run`` is the task. ``retarget`` takes effect at once; a new head begins a new observation."""

    def __init__(self, target: ObserveTarget, surroundings: Surroundings, changed: Callable[[], None]) -> None:
        self._around = surroundings
        self._changed = changed
        self._wake = asyncio.Event()
        self._target = target
        self._counted: Motion | None = None
        self._push_task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        """Forgets everything: this is another head."""
        self.observation = ServeObservation(head_uid=self._target.head_uid, started_at=self._around.clock())
        self._told: tuple[Any, ...] | None = None
        self._news_at = time.monotonic()
        self._essence = b""
        self._token: str | None = None
        self._token_retry_at = 0.0
        self._settled: set[tuple[str, str]] = set()
        self._push_failures = 0
        self._push_due = 0.0
        self._put_opens = True  # until a PUT got through, it is also what finds out whether anybody listens
        self._check_session = True
        self._probes = ProxyProbes(self._around, self._target.serve_port, self._proxy_news)
        self._probes.routed(self._target.routed)
        self._measurements = Measurements(self._around, self._measured)

    @property
    def target(self) -> ObserveTarget:
        """What is being watched."""
        return self._target

    def retarget(self, target: ObserveTarget) -> None:
        """Another push, pace or head from now on."""
        if target == self._target:
            return
        old, self._target = self._target, target
        if (old.head_uid, old.head_ip, old.dashboard_port) != (target.head_uid, target.head_ip, target.dashboard_port):
            self._cancel_subtasks()
            self._begin()
            self._tell()
        elif old.token_secret != target.token_secret:
            self._token = None
            self._token_retry_at = 0.0
        self._probes.port = target.serve_port
        self._probes.routed(target.routed)
        self._measurements.order(target.analysis)
        if target.push != old.push:
            self._push_due = 0.0
            self._push_failures = 0
        self._news_at = time.monotonic()
        self._wake.set()

    async def run(self) -> None:
        """Looks for ever; ends by being cancelled."""
        try:
            self._measurements.order(self._target.analysis)
            while True:
                self._wake.clear()
                try:
                    await self._look()
                except Exception as error:  # a defect here must not end the watch, nor be mistaken for the head's
                    _log.exception("Watching %s failed", self._target.cluster)
                    self._unavailable(f"the operator failed to read the answer ({type(error).__name__})")
                await self._pause(self._delay())
        finally:
            self._enter(None)
            self._cancel_subtasks()

    # -- one look ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        client = await self._client()
        if client is None:
            return
        self._start_push(client)
        if self._push_task is not None and self._put_opens:
            return  # it starts Serve, and until it has ended nothing else is answered; its end wakes us
        began = self._around.clock()
        head = self._probes  # made anew for each head: tells whether it changed while an answer was awaited
        try:
            body = await client.get_serve()
            essence, details = self._parse(body)
            version = await self._version(client, details)
            if details is not None and self.observation.seen_at is None:
                await head.first(details.proxies)
        except ServeUnavailableError as error:
            if head is self._probes:
                self._failed(error)
            return
        if head is self._probes:
            self._essence = essence
            self._seen(details, version, began)

    async def _client(self) -> ServeClient | None:
        target = self._target
        if target.token_secret is None:
            return ServeClient(self._around.http, target.head_ip, target.dashboard_port)
        if self._token is None and time.monotonic() >= self._token_retry_at:
            self._token_retry_at = time.monotonic() + _TOKEN_RETRY_S
            try:
                async with asyncio.timeout(_TOKEN_TIMEOUT_S):
                    self._token = await self._around.token(target.cluster.namespace, target.token_secret)
            except Exception as error:  # whatever the API client raises: the next look asks again
                _log.info("Secret %s/%s: %r", target.cluster.namespace, target.token_secret, error)
            if self._token is None:
                self._unavailable(f"Secret {target.token_secret} has no auth token that can be read yet")
        if self._token is None:
            return None
        return ServeClient(self._around.http, target.head_ip, target.dashboard_port, self._token)

    def _parse(self, body: bytes) -> tuple[bytes, ServeDetails | None]:
        """A digest of what matters in ``body``, and its meaning; None when it is what was parsed last."""
        essence = hashlib.blake2b(without_health_metrics(body), digest_size=16).digest()
        if essence == self._essence:
            return essence, None
        try:
            return essence, parse_details(body)
        except ValueError:
            raise ServeUnavailableError("the Serve API's answer is no JSON object") from None

    async def _version(self, client: ServeClient, details: ServeDetails | None) -> HeadVersion | None:
        """The head's session, asked for where it may be another: None where not asked, or not known."""
        lost_all = details is not None and not details.applications and bool(self.observation.applications)
        if not (self._check_session or lost_all):
            return None
        try:
            return await client.version()
        except ServeUnavailableError:
            return None  # what matters was answered; asked again at the next look

    def _seen(self, details: ServeDetails | None, version: HeadVersion | None, began: float) -> None:
        observation = replace(self.observation, seen_at=began, error=None, failing_since=None)
        if self.observation.error is not None:
            self._push_due = 0.0  # it answers again: what failed is worth another try now
        if version is not None:
            self._check_session = False
            if observation.session and version.session != observation.session:
                observation = replace(observation, push=None)  # another Ray: it knows nothing of our push
                self._settled.clear()
                self._push_due = 0.0
                self._wake.set()
            observation = replace(observation, session=version.session, ray_version=version.ray_version)
        if details is not None:
            observation = replace(
                observation, applications=details.applications, target_capacity=details.target_capacity
            )
            self._probes.listed(details.proxies)
        self.observation = replace(observation, proxies=self._probes.healthy())
        self._probes.start()
        self._tell()

    def _failed(self, error: ServeUnavailableError) -> None:
        if isinstance(error, UnauthorizedError):
            self._token = None
        self._unavailable(str(error))

    def _unavailable(self, message: str) -> None:
        since = self.observation.failing_since
        self.observation = replace(
            self.observation,
            error=message,
            failing_since=self._around.clock() if since is None else since,
        )
        self._check_session = True
        self._tell()

    def _proxy_news(self) -> None:
        self.observation = replace(self.observation, proxies=self._probes.healthy())
        self._tell()

    def _measured(self) -> None:
        self.observation = replace(self.observation, samples=self._measurements.samples)
        self._tell()

    # -- pushing -----------------------------------------------------------------------------------------------

    def _start_push(self, client: ServeClient) -> None:
        push = self._target.push
        if push is None or self._push_task is not None or time.monotonic() < self._push_due:
            return
        if (push.config_hash, push.attempt) in self._settled:
            return
        self._push_task = asyncio.create_task(self._push(client, push), name=f"push {self._target.cluster}")

    async def _push(self, client: ServeClient, push: ServePush) -> None:
        task = asyncio.current_task()
        try:
            await client.put_config(await self._payload(client, push))
        except ServeRejectedError as error:
            self._pushed(push, "rejected", str(error))
        except ServeUnavailableError as error:
            self._push_failed(push, error)
        else:
            self._pushed(push, "accepted", "")
        finally:
            if self._push_task is task:
                self._push_task = None

    async def _payload(self, client: ServeClient, push: ServePush) -> str:
        """What is put: with the targets of this very moment where an external scaler sets them."""
        if not push.keep:
            return push.payload
        try:
            details = parse_details(await client.get_serve())
        except ValueError:
            raise ServeUnavailableError("the Serve API's answer is no JSON object") from None
        return with_targets(push.payload, push.keep, details.applications)

    def _pushed(self, push: ServePush, state: Any, message: str) -> None:
        self._settled.add((push.config_hash, push.attempt))
        self._put_opens = False
        self._push_failures = 0
        self._result(push, state, message)
        self._news_at = time.monotonic()
        self._wake.set()

    def _push_failed(self, push: ServePush, error: ServeUnavailableError) -> None:
        if not error.connected and self._put_opens:
            self._unavailable(str(error))  # nobody listens yet: tried again at the pace of a starting head
            return
        self._put_opens = False
        self._push_failures += 1
        self._push_due = time.monotonic() + push_retry(self._push_failures) * random.uniform(0.9, 1.1)
        if isinstance(error, UnauthorizedError):
            self._token = None
        self._result(push, "failing", str(error))
        self._wake.set()

    def _result(self, push: ServePush, state: Any, message: str) -> None:
        result = PushResult(push.config_hash, push.attempt, state, self._around.clock(), message, push.capacity)
        self.observation = replace(self.observation, push=result)
        self._tell()

    # -- telling and pacing ------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Calls the owner if what is known means something else than what it was told last."""
        seen = self.observation
        age = seen.age(self._around.clock())
        stale = seen.error is not None and age is not None and age > self._around.stale_after_s
        push = seen.push and (seen.push.config_hash, seen.push.attempt, seen.push.state, seen.push.message)
        meaning = (
            seen.head_uid,
            seen.seen_at is None,
            seen.session,
            seen.ray_version,
            seen.applications,
            seen.target_capacity,
            seen.proxies,
            seen.error,
            push,
            seen.push_seen,
            seen.samples,
            stale,
        )
        if meaning != self._told:
            self._told = meaning
            self._news_at = time.monotonic()
            self._changed()

    def _delay(self) -> float:
        motion = self._motion()
        self._enter(motion)
        delay = PACES[motion].delay(time.monotonic() - self._news_at, self._around.crowd[motion])
        if self._push_due:
            until_push = self._push_due - time.monotonic()
            if 0 < until_push < delay:
                delay = until_push
        return delay * random.uniform(0.9, 1.1)

    def _enter(self, motion: Motion | None) -> None:
        """Keeps the count of heads in each motion."""
        if motion is not self._counted:
            if self._counted is not None:
                self._around.crowd[self._counted] -= 1
            if motion is not None:
                self._around.crowd[motion] += 1
            self._counted = motion

    def _motion(self) -> Motion:
        seen = self.observation
        if seen.seen_at is None and seen.push is None:
            return Motion.STARTING
        if seen.error is not None:
            return Motion.LOST
        if self._target.fast or seen.seen_at is None or not _at_rest(seen):
            return Motion.MOVING
        return Motion.STEADY

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _cancel_subtasks(self) -> None:
        if self._push_task is not None:
            self._push_task.cancel()
            self._push_task = None
        self._probes.cancel()
        self._measurements.cancel()


def _at_rest(seen: ServeObservation) -> bool:
    """Every application and deployment is as it should be and every proxy answers."""
    return all(seen.proxies.values()) and all(
        app.status == _SETTLED_APP and all(d.status == _SETTLED_DEPLOYMENT for d in app.deployments.values())
        for app in seen.applications.values()
    )
