"""What the callers of pods and servers share."""

from __future__ import annotations

from typing import Final

import aiohttp

from rayservice_operator.core.measurements import Address

MAX_BODY: Final = 32 << 20


class TooLongError(Exception):
    """The answer is longer than MAX_BODY."""


async def read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises TooLongError."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            response.close()
            raise TooLongError
    return bytes(body)


def netloc(address: Address) -> str:
    """Address and port as a URL has them."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
