"""List and watch, with an API server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.kube.api import Listing, WatchEvent
from rayservice_operator.kube.errors import Forbidden, Gone, ServerError, Unreachable
from rayservice_operator.kube.reflector import DEAF_AFTER, Reflector
from rayservice_operator.kube.store import Store
from tests.kube.test_store import obj


class Scripted:
    """Answers lists and watches from a script; a watch at the script's end stays silent."""

    def __init__(self, lists: list[Listing | Exception], watches: list[list[WatchEvent | Exception]]) -> None:
        self.lists = iter(lists)
        self.watches = iter(watches)
        self.asked: list[str] = []
        self.idle = asyncio.Event()

    async def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> Listing:
        self.asked.append("list")
        answer = next(self.lists, None)
        if answer is None:
            self.idle.set()
            await asyncio.Event().wait()
            raise AssertionError
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(
        self, kind: str, namespace: str | None = None, *, labels: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        self.asked.append(f"watch {resource_version}")
        events = next(self.watches, None)
        if events is None:
            self.idle.set()
            await asyncio.Event().wait()
            return
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayservice_operator.kube.reflector._FIRST_RETRY_S", 0.0)


async def played(
    script: Scripted, store: Store, run: Callable[[Reflector], Awaitable[None]] = Reflector.run, **kwargs: Any
) -> Reflector:
    """Run a reflector to the end of the script."""
    reflector = Reflector(script, store, "Pod", **kwargs)  # type: ignore[arg-type]
    task = asyncio.ensure_future(run(reflector))
    async with asyncio.timeout(30):
        await script.idle.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return reflector


def listing(*items: Manifest, version: int = 10) -> Listing:
    return Listing(items, str(version))


def bookmark(version: int) -> WatchEvent:
    return WatchEvent("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def names(store: Store) -> set[str]:
    return {name_of(item) for item in store.kind("Pod")}


async def test_list_then_watch_from_there() -> None:
    store = Store()
    a, b = obj("a", 5, "u1"), obj("b", 11, "u2")
    events = [WatchEvent("ADDED", b), WatchEvent("DELETED", obj("a", 12, "u1"))]
    script = Scripted([listing(a)], [list(events)])
    reflector = await played(script, store)
    assert names(store) == {"b"}
    assert script.asked == ["list", "watch 10", "watch 12"]
    assert reflector.synced.is_set()


async def test_a_cut_watch_goes_on_where_it_was_without_a_list() -> None:
    cuts: list[list[WatchEvent | Exception]] = [
        [bookmark(20), Unreachable("cut")],
        [ServerError(500, "InternalError", "no leader")],
        [],
    ]
    script = Scripted([listing()], cuts)
    await played(script, Store())
    assert script.asked == ["list", "watch 10", "watch 20", "watch 20", "watch 20"]


async def test_after_gone_the_list_finds_what_was_deleted_in_the_gap() -> None:
    store = Store()
    gone = Gone(410, "Expired", "too old resource version")
    script = Scripted([listing(obj("a", 5, "u1"), obj("b", 6, "u2")), listing(obj("b", 6, "u2"), version=90)], [[gone]])
    await played(script, store)
    assert names(store) == {"b"}
    assert script.asked == ["list", "watch 10", "list", "watch 90"]


async def test_failing_lists_are_tried_again_for_ever() -> None:
    store = Store()
    failures: list[Listing | Exception] = [
        Forbidden(403, "Forbidden", "pods is forbidden"),
        Unreachable("refused"),
        RuntimeError("a bug"),
        listing(obj("a", 5, "u1")),
    ]
    reflector = await played(Scripted(failures, []), store)
    assert names(store) == {"a"}
    assert reflector.synced.is_set()


async def test_not_synced_before_the_first_list() -> None:
    reflector = await played(Scripted([Unreachable("refused")], []), Store())
    assert not reflector.synced.is_set()


async def test_a_full_list_from_time_to_time_finds_what_the_watch_lost() -> None:
    store = Store()
    script = Scripted([listing(obj("a", 5, "u1")), listing(obj("b", 6, "u2"), version=20)], [])
    script.idle = asyncio.Event()

    async def watch(*_: Any, **__: Any) -> AsyncIterator[WatchEvent]:
        await asyncio.Event().wait()
        yield bookmark(1)

    script.watch = watch  # type: ignore[method-assign]
    await played(script, store, relist_s=(0.01, 0.01))
    assert names(store) == {"b"}


async def test_age_is_the_time_since_a_sign_of_life_and_trying_counts_apart() -> None:
    ticks: Iterator[int] = iter(range(0, 10_000, 100))
    script = Scripted([listing(), Unreachable("refused")], [[Gone(410, "Expired", "")]])
    reflector = await played(script, Store(), monotonic=lambda: float(next(ticks)))
    assert reflector.age() > reflector.trying_age() > 0


async def test_lists_that_always_bring_news_tell_of_a_deaf_watch() -> None:
    lists = [listing(obj("a", version, "u1"), version=version) for version in range(1, DEAF_AFTER + 2)]
    reflector = await played(Scripted(list(lists), []), Store(), Reflector.run_lists, relist_s=(0.0, 0.0))
    assert reflector.deaf
    quiet = [listing(obj("a", 1, "u1"))] * (DEAF_AFTER + 2)
    reflector = await played(Scripted(list(quiet), []), Store(), Reflector.run_lists, relist_s=(0.0, 0.0))
    assert not reflector.deaf


async def test_cancelling_closes_the_stream() -> None:
    closed = asyncio.Event()
    script = Scripted([listing()], [])

    async def watch(*_: Any, **__: Any) -> AsyncIterator[WatchEvent]:
        script.idle.set()
        with contextlib.ExitStack() as stack:
            stack.callback(closed.set)
            await asyncio.Event().wait()
            yield bookmark(1)

    script.watch = watch  # type: ignore[method-assign]
    await played(script, Store())
    assert closed.is_set()
