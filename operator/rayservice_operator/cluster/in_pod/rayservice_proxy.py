"""Loaded by Ray Serve's HTTP proxies: while the pod drains, each answer ends the connection that it goes out on.

A client that keeps its connection stays with its pod, whatever the service in front of it selects. Told to close (RFC
9112, 9.6) it connects anew, to a pod that the service has now. Nothing else about an answer changes, and none is cut.
Needs the standard library and the Starlette that every proxy has. Ray calls ``middlewares`` as a proxy starts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ASKED = Path(__file__).with_name("draining")  # the operator's annotation on the pod
LEAVING = Path("/tmp/rayservice-draining")  # written by the preStop hook
LOOK_EVERY_S = 1.0
STARTED = time.time()


def draining() -> bool:
    """Whether one of the files has something in it. The hook's is void if it is older than this process: then it is
    left from a container that was restarted."""
    for path, since in ((ASKED, 0.0), (LEAVING, STARTED)):
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_size and found.st_mtime >= since:
            return True
    return False


class CloseWhileDraining:
    """ASGI middleware. Looks for the files at most once a second."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.seen = False
        self.look_at = 0.0

    def draining(self) -> bool:
        now = time.monotonic()
        if now >= self.look_at:
            self.seen, self.look_at = draining(), now + LOOK_EVERY_S
        return self.seen

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def closing(message: dict[str, Any]) -> None:
            # Asked as the answer begins, because its request may have come long before.
            if message["type"] == "http.response.start" and self.draining():
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "http" else send)


def middlewares() -> list[Any]:
    """What ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names."""
    from starlette.middleware import Middleware  # noqa: PLC0415

    return [Middleware(CloseWhileDraining)]
