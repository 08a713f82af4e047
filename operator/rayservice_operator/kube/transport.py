"""HTTP to the API server: credentials that rotate, deadlines, the rate limit, and errors as ``ApiError``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import aiohttp

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.kube.errors import ServerError, TooManyRequests, Unauthorized, Unreachable, from_status
from rayservice_operator.kube.ratelimit import TokenBucket

if TYPE_CHECKING:
    import kopf  # takes half a second, which a command line has no need to wait for before it connects

Login: TypeAlias = "Callable[[], kopf.ConnectionInfo]"
OnRequest = Callable[[str, str, int, float], None]
"""Told after each call: verb, kind, HTTP code (0 = no answer), seconds."""

CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
LOGIN_AGE_S = 60.0
"""Tokens are read again after that long; the kubelet rotates them well before they expire."""

MAX_TRIES = 5
"""Tries when the server says «later» (429); then the caller's own backoff has its turn."""

MAX_RETRY_AFTER_S = 5.0

JSON = "application/json"
_OK = 400


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``verb`` and ``kind`` are what metrics and messages call it; ``body`` is sent as JSON."""

    method: str
    verb: str
    kind: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class Transport:
    """Sends requests with the credentials of the hour. ``headers`` go with each; one of a name may be there twice."""

    def __init__(
        self,
        login: Login,
        *,
        limit: TokenBucket | None = None,
        on_request: OnRequest | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._headers = tuple(headers)
        self._login = login
        self._limit = limit or TokenBucket(rate=50, burst=100)
        self._on_request = on_request
        self._timeout = call_timeout_s
        self._info: kopf.ConnectionInfo | None = None
        self._read_at = float("-inf")
        self._session: aiohttp.ClientSession | None = None
        self._retiring: dict[asyncio.Task[None], aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """End all connections."""
        retiring, self._retiring = dict(self._retiring), {}
        for task in retiring:
            task.cancel()
        sessions = [*retiring.values(), self._session] if self._session else list(retiring.values())
        self._session = None
        for session in sessions:
            await session.close()
        await asyncio.sleep(0)  # transports are released one turn after they are closed

    async def call(self, request: Request) -> Manifest:
        """The JSON answer. Tries again where the server has surely done nothing: 429, and one outdated login (401)."""
        outdated = True
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                return await self._call_once(request)
            except Unauthorized:
                if not outdated or not tries_left:
                    raise
                outdated = False
                self._forget_login()
            except TooManyRequests as error:
                if not tries_left:
                    raise
                await asyncio.sleep(min(error.retry_after, MAX_RETRY_AFTER_S) * random.uniform(1.0, 1.25))
        raise AssertionError("unreachable")

    async def _call_once(self, request: Request) -> Manifest:
        await self._limit.take()
        deadline = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_TIMEOUT_S)
        async with self._open(request, deadline) as response:
            text = await response.read()
        try:
            answer: Manifest = json.loads(text)
        except json.JSONDecodeError as error:
            raise ServerError(response.status, "NotJSON", f"{request}: the answer is no JSON: {error}") from error
        return answer

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, silence_s: float) -> AsyncIterator[aiohttp.StreamReader]:
        """The body as it comes. Raises Unreachable when nothing comes for ``silence_s`` seconds."""
        deadline = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        try:
            async with self._open(request, deadline) as response:
                try:
                    yield response.content
                finally:
                    # Left early or cut: no polite TLS farewell to a server that may be away or still sending.
                    if response.connection is not None and response.connection.transport is not None:
                        response.connection.transport.abort()
        except Unauthorized:
            self._forget_login()
            raise

    @contextlib.asynccontextmanager
    async def _open(self, request: Request, deadline: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        session, info = self._connected()
        headers = {**info.as_http_headers(), "Accept": JSON, "User-Agent": names.FIELD_MANAGER}
        data = None
        if request.body is not None:
            data = json.dumps(request.body, separators=(",", ":")).encode()
            headers["Content-Type"] = request.content_type
        began, code = time.monotonic(), 0
        try:
            async with session.request(
                request.method,
                info.server.rstrip("/") + request.path,
                params=request.params,
                data=data,
                headers=[*headers.items(), *self._headers],
                timeout=deadline,
                proxy=info.proxy_url,
            ) as response:
                code = response.status
                await _raise_for(response)
                yield response
        except TimeoutError as error:
            raise Unreachable(f"{request}: the API server did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{request}: {str(error) or type(error).__name__}") from error
        finally:
            if self._on_request is not None:
                self._on_request(request.verb, request.kind, code, time.monotonic() - began)

    def _connected(self) -> tuple[aiohttp.ClientSession, kopf.ConnectionInfo]:
        """The session and fresh credentials. A new session only when the way to the server itself has changed."""
        now = time.monotonic()
        if self._info is None or now - self._read_at > LOGIN_AGE_S:
            fresh = self._login()
            self._read_at = now
            if self._info is not None and _route(fresh) != _route(self._info):
                self._retire_session()
            self._info = fresh
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._info.as_ssl_context())
            self._session = aiohttp.ClientSession(connector=connector, trust_env=self._info.trust_env)
        return self._session, self._info

    def _forget_login(self) -> None:
        """After a 401: read the files again, and connect anew in case a client certificate was replaced in place."""
        self._read_at = float("-inf")
        self._retire_session()

    def _retire_session(self) -> None:
        """Close the session in a while, when the calls that run on it have ended."""
        session, self._session = self._session, None
        if session is None:
            return

        async def later() -> None:
            await asyncio.sleep(self._timeout)
            await session.close()

        task = asyncio.get_running_loop().create_task(later(), name="close an old API session")
        self._retiring[task] = session
        task.add_done_callback(lambda done: self._retiring.pop(done, None))


def _route(info: kopf.ConnectionInfo) -> tuple[object, ...]:
    """What a TLS connection depends on; tokens travel with each request."""
    return (
        info.server,
        info.ca_path,
        info.ca_data,
        info.insecure,
        info.certificate_path,
        info.certificate_data,
        info.private_key_path,
        info.private_key_data,
    )


async def _raise_for(response: aiohttp.ClientResponse) -> None:
    if response.status < _OK:
        return
    text = await response.text(errors="replace")
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        body = {"message": text.strip()[:500]} if text.strip() else None
    raise from_status(response.status, body, retry_after=response.headers.get("Retry-After"))
