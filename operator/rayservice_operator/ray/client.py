"""The REST API of one Ray head, for Ray Serve: every call has a deadline, every failure one of two meanings.

Paths and answers are Ray 2.60's ``dashboard/modules/serve/serve_head.py``. Serve configs can hold secrets, so
neither they nor the values in Ray's complaints about them are logged or raised.
"""

from __future__ import annotations

import os
import re
from typing import Final

import aiohttp

from rayservice_operator.ray.details import HeadVersion, parse_version, readable, validation_message

APPLICATIONS_PATH: Final = "/api/serve/applications/"
"""The slash at the end is required: without it the answer is 404."""
VERSION_PATH: Final = "/api/version"
HEALTH_PATH: Final = "/-/healthz"

CONNECT_S: Final = 1.0
GET_S: Final = 2.0
PUT_S: Final = 30.0
"""The first PUT starts Serve and answers only then: 3 to 10 s were measured on two busy cores."""

MAX_BODY: Final = 64 << 20

_VALIDATING: Final = re.compile(r"ServeDeploySchema\.model_validate|pydantic")
_CONFIG_ERRORS: Final = re.compile(
    r"^(?:\w+\.)*(?:ModuleNotFoundError|ImportError|AttributeError|NotImplementedError|SyntaxError|NameError)\b",
    re.MULTILINE,
)


class ServeUnavailableError(Exception):
    """No usable answer now: refused, timed out, 5xx, not allowed. Worth another try. The text is for people.

    ``connected`` is False where nobody listens yet, so the request cannot have had any effect.
    """

    def __init__(self, message: str, *, connected: bool = True) -> None:
        super().__init__(message)
        self.connected = connected


class UnauthorizedError(ServeUnavailableError):
    """401 or 403: the token is missing or wrong."""


class ServeRejectedError(Exception):
    """Ray will not take this config, now or later. The text says why, without the config's values."""


def new_session() -> aiohttp.ClientSession:
    """A session for all heads: connections are kept alive, cookies, proxies and redirects are not used."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=8, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A browser-like User-Agent would get environment variables back as "<redacted>".
        headers={"User-Agent": "rayservice-operator"},
    )


class ServeClient:
    """One head's dashboard. ``token`` is Ray's auth token, None where authentication is off."""

    def __init__(self, http: aiohttp.ClientSession, address: str, port: int, token: str | None = None) -> None:
        self._http = http
        self._base = f"http://{_host(address)}:{port}"
        # X-Ray-Authorization survives proxies that use Authorization themselves; Ray 2.60 reads either.
        self._headers = (
            {"Authorization": f"Bearer {token}", "X-Ray-Authorization": f"Bearer {token}"} if token is not None else {}
        )

    async def get_serve(self, *, timeout_s: float = GET_S) -> bytes:
        """The body of the applications' details, unparsed. Raises ServeUnavailableError."""
        status, body = await self._call("GET", APPLICATIONS_PATH, timeout_s)
        if status != 200:
            raise _unavailable(status, body)
        return body

    async def put_config(self, payload: str, *, timeout_s: float = PUT_S) -> None:
        """Declares ``payload`` (JSON) as the whole of what Serve is to run.

        Raises ServeRejectedError when Ray refuses it: 400, 413, or 500 where validating imported the user's code.
        Raises ServeUnavailableError otherwise.
        """
        status, body = await self._call("PUT", APPLICATIONS_PATH, timeout_s, payload)
        if status == 200:
            return
        text = body.decode(errors="replace")
        if status == 400:
            raise ServeRejectedError(validation_message(text))
        if status == 413:
            raise ServeRejectedError("the serve config is larger than the dashboard accepts")
        if status == 500 and _VALIDATING.search(text) and _CONFIG_ERRORS.search(text):
            raise ServeRejectedError(f"the head cannot load what the config names: {readable(text)}")
        raise _unavailable(status, body)

    async def version(self, *, timeout_s: float = GET_S) -> HeadVersion:
        """Ray's version and session, empty where this Ray tells neither. Raises ServeUnavailableError."""
        status, body = await self._call("GET", VERSION_PATH, timeout_s)
        if status == 404:
            return HeadVersion()
        if status != 200:
            raise _unavailable(status, body)
        try:
            return parse_version(body)
        except ValueError:
            raise ServeUnavailableError("the dashboard's version is no JSON object") from None

    async def _call(self, method: str, path: str, timeout_s: float, payload: str | None = None) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        headers = self._headers if payload is None else {**self._headers, "Content-Type": "application/json"}
        data = None if payload is None else payload.encode()
        try:
            async with self._http.request(
                method, self._base + path, headers=headers, data=data, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status, await _read(response)
        except aiohttp.ConnectionTimeoutError:
            raise ServeUnavailableError(
                f"no connection to the dashboard within {CONNECT_S:g} s", connected=False
            ) from None
        except TimeoutError:
            raise ServeUnavailableError(f"no answer to {method} {path} within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            # asyncio's text names the port it connected from or to, so the plain name of the error is taken.
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            raise ServeUnavailableError(f"cannot connect to the dashboard: {reason}", connected=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServeUnavailableError(f"the connection to the dashboard broke: {type(error).__name__}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            response.close()
            raise ServeUnavailableError(f"the dashboard's answer is longer than {MAX_BODY} bytes")
    return bytes(body)


async def proxy_healthy(
    http: aiohttp.ClientSession, address: str, port: int, *, timeout_s: float = GET_S
) -> bool | None:
    """Whether the Serve HTTP proxy at ``address`` takes requests: 200 from its health check. Never raises.

    None: no answer within ``timeout_s``, which a proxy on a busy machine may not manage either.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
    try:
        async with http.get(
            f"http://{_host(address)}:{port}{HEALTH_PATH}", timeout=timeout, allow_redirects=False
        ) as response:
            return response.status == 200
    except TimeoutError:
        return None
    except (aiohttp.ClientError, OSError, ValueError):
        return False


_STATUS_HINTS: Final = {
    404: "the dashboard has no Serve API (is `include-dashboard` false, or Ray older than 2.9?)",
    501: "Ray Serve is not installed on the head: use an image with ray[serve]",
}


def _unavailable(status: int, body: bytes) -> ServeUnavailableError:
    if status in (401, 403):
        return UnauthorizedError(f"the dashboard refused the auth token (HTTP {status})")
    hint = _STATUS_HINTS.get(status) or readable(body[:65536].decode(errors="replace"))
    return ServeUnavailableError(f"HTTP {status}: {hint}" if hint else f"HTTP {status}")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
