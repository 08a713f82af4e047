"""Handlers of the tests; each run leaves a line, so that runs can be counted."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serve_runtime.observe import tracing


class Job(BaseModel):
    """number: of the task. seconds: how long it takes. until: it waits for this file."""

    number: int
    seconds: float = 0.0
    until: str = ""


class Recorder:
    """Writes ``begun NUMBER PID`` and ``ended NUMBER PID`` to a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def predict(self, job: Job) -> dict[str, int]:
        """Its number, doubled."""
        self._write("begun", job.number)
        time.sleep(job.seconds)
        while job.until and not Path(job.until).exists():
            time.sleep(0.05)
        self._write("ended", job.number)
        return {"double": job.number * 2}

    def _write(self, what: str, number: int) -> None:
        line = f"{what} {number} {os.getpid()}\n".encode()
        to = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(to, line)  # one write, so that lines of several processes stay whole
        finally:
            os.close(to)


class Murderer:
    """Ends its process."""

    def predict(self, item: Any) -> None:
        """Never returns."""
        os._exit(1)


class Flaky:
    """Fails for as long as a file is missing."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def predict(self, item: Any) -> Any:
        """What it is given."""
        await asyncio.sleep(0)
        if not self._path.exists():
            raise RuntimeError("no file")
        return item


def size(content: bytes) -> bytes:
    """Bytes from bytes."""
    return b"%d" % len(content)


def unwritable(item: Any) -> Any:
    """A result without a JSON form."""
    return object()


def value_error(item: Any) -> Any:
    """An exception that the arguments call the caller's mistake."""
    raise ValueError("never")


class Traced:
    """Fails once, then tells the trace that it is in."""

    def __init__(self) -> None:
        self._failed = False

    async def predict(self, item: int) -> dict[str, str]:
        """``traceparent`` is empty without a trace."""
        if not self._failed:
            self._failed = True
            raise RuntimeError("once")
        return {"traceparent": tracing.traceparent()}
