"""Requests that warm a node up, once in the life of its container.

The first request to a fresh model may take a minute (kernels are compiled, caches filled), longer than a probe lives.
So a process of its own sends them, and probes look how it fares. While it runs it holds a lock; when all are
answered it leaves a mark.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serve_runtime.commands import node
from serve_runtime.commands.node import NodeError

DIRECTORY: Final = Path(os.environ.get("TMPDIR", "/tmp"))
_LOOK_S: Final = 0.05


def container() -> str:
    """What changes when the container is started anew: when its first process began (proc(5), field 22)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot + Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class WarmUp:
    """``times`` requests to ``url``; with a body they are POSTs of JSON. ``limit_s`` for all together."""

    def __init__(self, url: str, body: bytes, times: int, limit_s: float, directory: Path = DIRECTORY) -> None:
        self.url = url
        self.body = body
        self.times = times
        self.limit_s = limit_s
        key = hashlib.sha256(f"{container()}\n{url}\n{times}\n".encode() + body).hexdigest()[:16]
        self._mark = directory / f"serve-runtime-warm-{key}"
        self._why = directory / f"serve-runtime-warm-{key}.why"
        self._lock = directory / f"serve-runtime-warm-{key}.lock"

    def look(self, left: Callable[[], float]) -> str:
        """That it is warm, in words; begins to warm up where nobody does. Raises NodeError while it is not."""
        if self._mark.exists():
            return "warm"
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                since = time.time() - os.fstat(descriptor).st_mtime
                raise NodeError(f"warming up, for {max(since, 0):.0f} s") from None
            if self._mark.exists():
                return "warm"
            os.utime(descriptor)
            why = self._why.read_text() if self._why.exists() else ""
            self._why.unlink(missing_ok=True)
            child = os.fork()
            if child == 0:
                self._alone()
            os.waitpid(child, 0)  # it ends at once; the one that sends is its child
        finally:
            os.close(descriptor)  # the one that sends still holds the lock
        while left() > 2 * _LOOK_S and not (self._mark.exists() or self._why.exists()):
            time.sleep(_LOOK_S)
        if self._mark.exists():
            return "warm"
        if self._why.exists():
            why = self._why.read_text()
        raise NodeError(f"warming up{': the last try: ' + why if why else ' has begun'}")

    def _alone(self) -> None:
        """The child: on its own, silent, and gone when it is done."""
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):  # else who started the probe waits for the end of its output
                os.dup2(null, stream)
            if os.fork() == 0:  # an orphan, so that the first process of the container takes it
                self._send()
        finally:
            os._exit(0)

    def _send(self) -> None:
        deadline = time.monotonic() + self.limit_s
        why = ""
        try:
            for number in range(self.times):
                headers = {"Content-Type": "application/json"} if self.body else {}
                got = node.ask(self.url, deadline - time.monotonic(), body=self.body or None, headers=headers)
                if not 200 <= got.status < 300:
                    why = f"request {number + 1} of {self.times} was answered {got.status}"
                    break
        except NodeError as error:
            why = str(error)
        if why:
            new = self._why.with_suffix(".new")
            new.write_text(why)
            new.replace(self._why)
        else:
            self._mark.touch()
