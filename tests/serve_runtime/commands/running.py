"""Commands as processes of their own, as in a pod, and servers that they talk to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 60.0
"""Generous: the machine may be busy. Only a test that fails waits for it."""


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Lines of ``--json``, from stderr."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Events of that name."""
        return [event for event in self.events if event["event"] == name]


async def start(*arguments: str, largest_file_kib: int | None = None, **env: str) -> asyncio.subprocess.Process:
    """``python -m serve_runtime ARGUMENTS``; the caller ends it. ``largest_file_kib``: that it may write."""
    command = [sys.executable, "-m", "serve_runtime", *arguments]
    if largest_file_kib is not None:
        command = ["bash", "-c", 'ulimit -f "$0" && exec "$@"', str(largest_file_kib), *command]
    return await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """Waits for its end."""
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(*arguments: str, **env: str) -> Ended:
    """Start and wait."""
    return await ended(await start(*arguments, **env))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncIterator[str]:
    """A server on loopback; gives its URL."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def until(probe: Callable[[], Any]) -> None:
    """Waits for something to be true."""
    async with asyncio.timeout(LIMIT_S):
        while not probe():  # noqa: ASYNC110  # another process makes it true
            await asyncio.sleep(0.02)
