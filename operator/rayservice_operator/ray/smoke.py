"""Sends smoke requests straight to the HTTP proxy of a pod, with the host that users ask for."""

from __future__ import annotations

import asyncio

import aiohttp
from yarl import URL

from rayservice_operator.core.measurements import Address, RequestSample, SmokeRequest
from rayservice_operator.ray.client import CONNECT_S
from rayservice_operator.ray.http import MAX_BODY, TooLongError, netloc, read
from rayservice_operator.service.analysis.answers import problem


async def send(http: aiohttp.ClientSession, what: SmokeRequest, proxy: Address, attempts: int) -> RequestSample:
    """One attempt, the ``attempts``-th, at the proxy of one pod. Never raises."""
    began = asyncio.get_running_loop().time()
    timeout = aiohttp.ClientTimeout(total=what.timeout_s, sock_connect=min(what.timeout_s, CONNECT_S))
    status: int | None = None
    try:
        async with http.request(
            what.method,
            URL(f"http://{netloc(proxy)}{what.path}"),
            headers={**dict(what.headers), "Host": what.host},
            data=None if what.body is None else what.body.encode(),
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            status = response.status
            wrong = problem(what, status, await read(response))
    except TimeoutError:
        wrong = f"no answer within {what.timeout_s:g} s"
    except TooLongError:
        wrong = f"the answer is longer than {MAX_BODY >> 20} MiB"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        wrong = f"the connection failed: {type(error).__name__}"
    if wrong:
        wrong = f"pod {proxy[0]}: {wrong}"
    return RequestSample(wrong, status, asyncio.get_running_loop().time() - began, attempts)
