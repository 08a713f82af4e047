"""Fixtures of the tests that speak HTTP on loopback: fake heads, a pool of observers, and a way to await conditions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from rayservice_operator.core.decision import ObserveTarget, ServePush
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Ref
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.ray.observer import ObserverPool
from tests.fakes.fake_ray import FakeRay

KEY = Key("RayService", "default", "demo")


def cluster(name: str = "demo-abcde", uid: str = "uid-1") -> Ref:
    """A RayCluster."""
    return Ref("ray.io/v1", "RayCluster", "default", name, uid)


@dataclass
class Watcher:
    """A pool under test with what it told. ``until`` waits for a condition, looking again at each piece of news."""

    pool: ObserverPool[Key]
    told: Counter[Key]
    news: asyncio.Event
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    def see(self, of: Ref | None = None) -> ServeObservation:
        """The observation, which must be there."""
        observation = self.pool.get(of or cluster())
        assert observation is not None
        return observation

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once ``condition`` holds; looked at after every change the pool tells, not by the clock."""
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def until_serving(self, head: FakeRay, of: Ref | None = None) -> None:
        """All applications RUNNING and all proxies healthy."""
        await self.until(
            lambda: (
                bool(self.see(of).applications)
                and all(a.status == "RUNNING" for a in self.see(of).applications.values())
                and bool(self.see(of).proxies)
                and all(self.see(of).proxies.values())
            )
        )


StartHead = Callable[..., Awaitable[FakeRay]]


@pytest.fixture
async def start_head() -> AsyncIterator[StartHead]:
    """Starts fake heads; all are ended with the test."""
    heads: list[FakeRay] = []

    async def start(*, listening: bool = True, **options: object) -> FakeRay:
        heads.append(FakeRay(**options))  # type: ignore[arg-type]
        return await heads[-1].start(listening=listening)

    yield start
    for head in heads:
        await head.close()


@pytest.fixture
async def watcher(start_head: StartHead) -> AsyncIterator[Watcher]:
    """A pool without targets; closed at the end, before the heads are (hence the parameter)."""
    told: Counter[Key] = Counter()
    news = asyncio.Event()
    tokens: dict[tuple[str, str], str] = {}

    def on_change(key: Key) -> None:
        told[key] += 1
        news.set()

    async def token(namespace: str, name: str) -> str | None:
        return tokens.get((namespace, name))

    pool: ObserverPool[Key] = ObserverPool(on_change, time.time, token, stale_after_s=0.5)
    try:
        yield Watcher(pool, told, news, tokens)
    finally:
        await pool.close()


def target(head: FakeRay, *, of: Ref | None = None, uid: str = "head-1", push: ServePush | None = None,
           fast: bool = True, token_secret: str | None = None) -> ObserveTarget:  # fmt: skip
    """A target that points at a fake head."""
    return ObserveTarget(
        cluster=of or cluster(),
        head_ip=head.address,
        head_uid=uid,
        dashboard_port=head.port,
        serve_port=head.serve_port,
        push=push,
        fast=fast,
        token_secret=token_secret,
    )
