"""The client against a server that says «later», breaks off, or answers nonsense."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import kopf
import pytest
from aiohttp import web

from rayservice_operator.kube import errors
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.ratelimit import TokenBucket
from rayservice_operator.kube.resources import reference
from rayservice_operator.kube.transport import MAX_TRIES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
POD = reference("Pod", "ns", "p")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayservice_operator.kube.transport.MAX_RETRY_AFTER_S", 0.0)


@contextlib.asynccontextmanager
async def served(handler: Handler, token: str = "t", **options: float) -> AsyncIterator[KubeClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    info = kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}", token=token)
    try:
        async with KubeClient(lambda: info, **options) as client:  # type: ignore[arg-type]
            yield client
    finally:
        await runner.cleanup()


async def test_later_is_tried_again() -> None:
    answers = iter([429, 429, 200])

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Pod"}, status=next(answers), headers={"Retry-After": "7"})

    async with served(handler) as client:
        assert await client.get(POD) == {"kind": "Pod"}


async def test_always_later_is_told_with_the_servers_wish() -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"details": {"retryAfterSeconds": 7}}, status=429)

    async with served(handler) as client:
        with pytest.raises(errors.TooManyRequests) as caught:
            await client.get(POD)
    assert caught.value.retry_after == 7
    assert calls == MAX_TRIES


async def test_a_server_error_is_not_tried_again_here() -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"reason": "InternalError", "message": "etcdserver: no leader"}, status=500)

    async with served(handler) as client:
        with pytest.raises(errors.ServerError, match="no leader"):
            await client.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns"}})
    assert calls == 1


async def test_an_answer_that_is_no_json() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>bad gateway</html>", status=502 if "/pods" in request.path else 200)

    async with served(handler) as client:
        with pytest.raises(errors.ServerError, match="bad gateway"):
            await client.get(POD)
        with pytest.raises(errors.ServerError, match="no JSON"):
            await client.get(reference("Secret", "ns", "s"))


async def test_a_connection_that_breaks_and_one_that_hangs() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if "/pods" in request.path:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        await asyncio.Event().wait()
        raise AssertionError

    async with served(handler, call_timeout_s=0.2) as client:
        with pytest.raises(errors.Unreachable):
            await client.get(POD)
        with pytest.raises(errors.Unreachable, match="in time"):
            await client.get(reference("Secret", "ns", "s"))


async def test_a_list_whose_snapshot_expired_half_way_begins_again() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query.get("continue", ""))
        if len(asked) == 2:
            return web.json_response({"reason": "Expired"}, status=410)
        meta = {"resourceVersion": "5"} | ({"continue": "next"} if len(asked) in {1, 3} else {})
        return web.json_response({"metadata": meta, "items": [{"metadata": {"name": f"p{len(asked)}"}}]})

    async with served(handler) as client:
        listing = await client.list("Pod")
    assert asked == ["", "next", "", "next"]
    assert [item["metadata"]["name"] for item in listing.items] == ["p3", "p4"]


async def test_a_watch_error_is_raised_and_lines_may_come_in_pieces() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"type":"ADDED","obj', b'ect":{"kind":"Pod"}}\n{"type":"BOOK', b'MARK","object":{}}\n'):
            await response.write(piece)
        await response.write(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n')
        return response

    async with served(handler) as client:
        events = client.watch("Pod")
        assert (await anext(events)).obj == {"kind": "Pod"}
        assert (await anext(events)).type == "BOOKMARK"
        with pytest.raises(errors.Gone):
            await anext(events)


async def test_the_token_is_sent_and_the_manager_named() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({})

    async with served(handler, token="secret") as client:
        await client.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n/s"}})
    (request,) = seen
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.query == {"fieldManager": "rayservice-operator", "force": "true"}
    assert request.raw_path.startswith("/api/v1/namespaces/n%2Fs/pods/p?")


async def test_the_bucket_lets_a_burst_through_and_then_makes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 0.0, list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("rayservice_operator.kube.ratelimit.time.monotonic", lambda: now)
    monkeypatch.setattr("rayservice_operator.kube.ratelimit.asyncio.sleep", sleep)
    bucket = TokenBucket(rate=10, burst=3)
    for _ in range(5):
        await bucket.take()
    assert waits == [pytest.approx(0.1), pytest.approx(0.2)]
    now = 10.0
    waits.clear()
    for _ in range(3):
        await bucket.take()
    assert waits == []
