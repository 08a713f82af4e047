"""Asks the HTTP proxies of one Serve instance directly whether they take requests.

The controller's word comes seconds late, and a proxy it calls HEALTHY may answer 503 («no replicas are available
yet»), so the health check that a load balancer would use decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp

from rayservice_operator.ray.client import proxy_healthy

UNHEALTHY_S = 0.2
"""Seconds between probes of a proxy that is not healthy, doubling up to UNHEALTHY_MAX_S."""
UNHEALTHY_MAX_S = 2.0
UNHEALTHY_QUICK_PROBES = 100
"""Probes at the quick pace before it slows down: a proxy is up within seconds or is not coming."""
HEALTHY_S = 4.0
SILENT_PROBES = 3
"""Probes without an answer in a row after which a healthy proxy no longer counts as healthy. A refusal counts at once.

One late answer on a busy machine must not take the only endpoint of a service away, which would lose requests.
"""


class _Around(Protocol):
    @property
    def http(self) -> aiohttp.ClientSession: ...
    @property
    def probing(self) -> asyncio.Semaphore: ...


class ProxyProbes:
    """Health of proxies by pod address; unknown counts as not healthy. One round at a time.

    Those that the controller lists, and those that get requests: a controller that has just recovered (its head was
    replaced, its state survived) lists none on the workers for a moment, and they answer all the time.
    """

    def __init__(self, around: _Around, port: int, news: Callable[[], None]) -> None:
        self.port = port
        self._around = around
        self._news = news
        self._states: dict[str, bool] = {}
        self._claims: dict[str, str] = {}
        self._listed: Mapping[str, str] | None = None
        self._routed: tuple[str, ...] = ()
        self._due: dict[str, float] = {}
        self._misses: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def healthy(self) -> dict[str, bool]:
        """Address to whether its last probe was answered with 200."""
        return dict(self._states)

    def routed(self, addresses: tuple[str, ...]) -> None:
        """The pods that get requests now."""
        if addresses != self._routed:
            self._routed = addresses
            if self._listed is not None:
                self.listed(self._listed)

    def listed(self, proxies: Mapping[str, str]) -> None:
        """The proxies there are now, and what the controller says of each; a changed word asks for a probe."""
        self._listed = proxies
        proxies = {**dict.fromkeys(self._routed, ""), **proxies}
        self._states = {address: self._states.get(address, False) for address in sorted(proxies)}
        for address, claim in proxies.items():
            if self._claims.get(address) != claim:
                self._due[address] = 0.0
                self._misses[address] = 0
        self._claims = dict(proxies)
        self._due = {address: due for address, due in self._due.items() if address in proxies}

    async def first(self, proxies: Mapping[str, str]) -> None:
        """Probe all of these once before anything is said of them.

        After a restart of the operator «not asked yet» would otherwise pass for «not healthy», and take serving pods
        out of their service for as long as the first round lasts.
        """
        self.listed(proxies)
        await self._round(list(self._states))

    def start(self) -> None:
        """Begins a round with the proxies that are due, unless one is on its way."""
        now = time.monotonic()
        due = [address for address in self._states if self._due.get(address, 0.0) <= now]
        if due and self._task is None:
            self._task = asyncio.create_task(self._round(due), name="probe proxies")

    def cancel(self) -> None:
        """Ends the round on its way."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _round(self, addresses: list[str]) -> None:
        task = asyncio.current_task()
        try:
            await asyncio.gather(*(self._probe(address) for address in addresses))
        finally:
            if self._task is task:
                self._task = None

    async def _probe(self, address: str) -> None:
        healthy = await self._asked(address)
        if address not in self._states:
            return
        self._misses[address] = 0 if healthy else self._misses.get(address, 0) + 1
        self._due[address] = time.monotonic() + (HEALTHY_S if healthy else _unhealthy_pause(self._misses[address]))
        if self._states[address] is not healthy:
            self._states[address] = healthy
            self._news()

    async def _asked(self, address: str) -> bool:
        """One probe; of a proxy that was healthy as many as it takes to believe its silence."""
        for _ in range(SILENT_PROBES if self._states.get(address) else 1):
            async with self._around.probing:
                healthy = await proxy_healthy(self._around.http, address, self.port)
            if healthy is not None:
                return healthy
        return False


def _unhealthy_pause(misses: int) -> float:
    if misses <= UNHEALTHY_QUICK_PROBES:
        return UNHEALTHY_S
    return min(UNHEALTHY_MAX_S, UNHEALTHY_S * 2.0 ** min(misses - UNHEALTHY_QUICK_PROBES, 8))
