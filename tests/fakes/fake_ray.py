"""A Ray head on loopback without Ray: the dashboard's Serve REST API and the HTTP proxies, over :class:`FakeServe`.

Faults are switches that work at once: ``refuse()`` and ``accept()`` close and open the dashboard's port, ``hang``
leaves requests without an answer, ``silent`` that many requests to proxies, ``status`` answers everything with that
code, ``put_status`` only PUTs.
``asked`` counts requests by method and path. ``answer`` is what requests of users get instead of a greeting (status and
body), ``slow_s`` how long they take, ``metrics_hang`` leaves scrapes without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from aiohttp import web

from tests.fakes.fake_serve import Behaviour, FakeServe, Timings
from tests.fakes.serve_metrics import ServeMetrics

_TRIES = 50

APPLICATIONS = "/api/serve/applications/"
SCALE = re.compile("POST /api/v1/applications/([^/]+)/deployments/([^/]+)/scale")
QUICK = Timings(serve_start=0.05, build=0.03, replica_start=0.03, in_place=0.02, delete=0.03)
"""Timings for tests that run in real time."""


class FakeRay:
    """One head. ``nodes`` are loopback addresses (127.0.0.1, 127.0.0.2, …) whose proxies all use ``serve_port``."""

    def __init__(
        self,
        *,
        nodes: Iterable[str] = ("127.0.0.1",),
        token: str | None = None,
        timings: Timings = QUICK,
        behaviours: Mapping[str, Behaviour] | None = None,
        clock: Callable[[], float] = time.time,
        address: str = "127.0.0.1",
    ) -> None:
        self.nodes = tuple(nodes)
        self.serve = FakeServe(clock, nodes=self.nodes, timings=timings, behaviours=behaviours)
        self.address = address
        self.token = token
        self.hang = False
        self.silent = 0
        self.status: int | None = None
        self.put_status: int | None = None
        self.version_missing = False
        self.answer: tuple[int, str] | None = None
        self.slow_s = 0.0
        self.metrics_hang = False
        self.metrics = {node: ServeMetrics() for node in self.nodes}
        self.metrics_port = 0
        self.requests: list[tuple[str, str, str, str]] = []  # method, path, host, body
        self.asked: Counter[str] = Counter()
        self.bodies: list[str] = []
        self.port = 0
        self.serve_port = 0
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._proxy_runners: list[web.AppRunner] = []
        self._held = contextlib.ExitStack()
        self._asked_event = asyncio.Event()

    async def start(self, *, listening: bool = True) -> FakeRay:
        """Reserves the ports and begins to listen, the dashboard only if ``listening``."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._dashboard)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        self.port = self._reserve([self.address])
        self.serve_port = self._reserve(self.nodes)
        self.metrics_port = self._reserve(self.nodes)
        for node in self.nodes:
            for port, handler in ((self.serve_port, self._proxy(node)), (self.metrics_port, self._exporter(node))):
                listener = web.Application()
                listener.router.add_route("*", "/{tail:.*}", handler)
                runner = web.AppRunner(listener, shutdown_timeout=0.01)
                await runner.setup()
                await web.TCPSite(runner, node, port, reuse_address=True).start()
                self._proxy_runners.append(runner)
        if listening:
            await self.accept()
        return self

    def _reserve(self, addresses: Sequence[str]) -> int:
        """A port that is free on each of the addresses and stays so: sockets hold it that never listen themselves."""
        for _ in range(_TRIES):
            with contextlib.ExitStack() as held:
                port = 0
                try:
                    for address in addresses:
                        holder = held.enter_context(socket.socket())
                        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        holder.bind((address, port))
                        port = int(holder.getsockname()[1])
                except OSError:  # taken on another of the addresses
                    continue
                self._held.push(held.pop_all())
                return port
        raise OSError(f"no port is free on all of {', '.join(addresses)}")

    async def accept(self) -> None:
        """The dashboard listens (again)."""
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, self.address, self.port, reuse_address=True)
            await self._site.start()

    async def refuse(self) -> None:
        """Connections to the dashboard are refused, open ones are cut."""
        if self._site is not None and self._runner is not None and self._runner.server is not None:
            await self._site.stop()
            self._site = None
            await self._runner.server.shutdown(0.01)

    async def close(self) -> None:
        """Ends everything."""
        self.hang = False
        for runner in (*self._proxy_runners, self._runner):
            if runner is not None:
                await runner.cleanup()
        self._held.close()

    async def until_asked(self, what: str, times: int = 1) -> None:
        """Waits until ``what`` (such as ``GET /api/version``) was asked that often."""
        while self.asked[what] < times:
            self._asked_event.clear()
            await self._asked_event.wait()

    async def _dashboard(self, request: web.Request) -> web.StreamResponse:
        what = f"{request.method} {request.path}"
        self.asked[what] += 1
        self._asked_event.set()
        if self.hang:
            await asyncio.sleep(3600)
        if self.status is not None:
            return web.Response(status=self.status, text=f"status {self.status} by the test")
        refusal = self._unauthorized(request)
        if refusal is not None:
            return refusal
        if what == "GET /api/version" and not self.version_missing:
            return _response(self.serve.version())
        if scaled := SCALE.fullmatch(what):
            return _response(self.serve.scale(scaled[1], scaled[2], (await request.json())["target_num_replicas"]))
        if request.path != APPLICATIONS:
            return web.Response(status=404, text="404: Not Found")
        if request.method == "PUT":
            if self.put_status is not None:
                return web.Response(status=self.put_status, text=f"status {self.put_status} by the test")
            first = not self.serve.puts
            body = await request.text()
            self.bodies.append(body)
            if first:
                await asyncio.sleep(self.serve.timings.serve_start)
            return _response(self.serve.put(body))
        return _response(self.serve.delete() if request.method == "DELETE" else self.serve.get())

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        if self.token is None:
            return None
        given = request.headers.get("Authorization") or request.headers.get("X-Ray-Authorization")
        if given is None:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        return None if given == f"Bearer {self.token}" else web.Response(status=403, text="Forbidden: Invalid token")

    def _proxy(self, node: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.asked[f"proxy {node} {request.path}"] += 1
            self._asked_event.set()
            if self.silent:
                self.silent -= 1
                await asyncio.sleep(3600)
            status = self.serve.proxy_status(node)
            if status is None and request.transport is not None:
                request.transport.abort()  # as if nobody listened
            if status is not None and not request.path.startswith("/-/"):
                return await self._users_request(node, request)
            if status is not None:
                self.metrics[node].observe("", request.path, request.method, status, 1.0)
            return web.Response(status=status or 503, text="success" if status == 200 else "not yet")

        return answer

    async def _users_request(self, node: str, request: web.Request) -> web.StreamResponse:
        """What ``serve_runtime.quickstart`` answers, or 404 where no application is."""
        body = await request.text()
        self.requests.append((request.method, request.path_qs, request.host, body))
        began = time.monotonic()
        await asyncio.sleep(self.slow_s)
        found = self.serve.route(request.path)
        status, text = 404, f"Path '{request.path}' not found."
        if found is not None:
            status, text = self.answer or (200, json.dumps({"greeting": found[2], "pod": node, "pid": 1}))
        name, route = found[:2] if found else ("", "")
        self.metrics[node].observe(name, route, request.method, status, (time.monotonic() - began) * 1000)
        return web.Response(
            status=status, text=text, content_type="application/json" if status == 200 else "text/plain"
        )

    def _exporter(self, node: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.asked[f"metrics {node} {request.path}"] += 1
            self._asked_event.set()
            if self.metrics_hang:
                await asyncio.sleep(3600)
            if request.path != "/metrics":
                return web.Response(status=404)
            return web.Response(text=self.metrics[node].text())

        return answer


@contextlib.asynccontextmanager
async def fake_ray(**options: object) -> AsyncIterator[FakeRay]:
    """A started head for the length of an ``async with`` block; ``listening=False`` leaves the dashboard closed."""
    listening = bool(options.pop("listening", True))
    head = FakeRay(**options)  # type: ignore[arg-type]
    try:
        yield await head.start(listening=listening)
    finally:
        await head.close()


def _response(answer: tuple[int, str]) -> web.Response:
    status, body = answer
    return web.Response(
        status=status, text=body, content_type="application/json" if body[:1] in "{[" and body else "text/plain"
    )
