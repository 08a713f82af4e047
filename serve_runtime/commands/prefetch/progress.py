"""Progress as lines, for people or as JSON: one when something happens, and one each ``every_s`` while bytes come."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

from serve_runtime.commands.units import seconds, size

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""What the kubelet shows as the message of a container that has ended; 4 KiB of it."""
_SHOWN: Final = 1000


class Progress:
    """Counts bytes of all threads. ``of`` is the whole in bytes, None where it is not known."""

    def __init__(
        self,
        out: TextIO,
        *,
        as_json: bool = False,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._json = as_json
        self._every = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self.bytes = 0
        self.of: int | None = None
        self.files = 0
        self.of_files = 0
        self._began = self._told = clock()
        self._before = 0

    def begin(self, *, of: int | None, of_files: int, have: int) -> None:
        """The work is known: so many bytes and files, of which ``have`` bytes were there before."""
        with self._lock:
            self.of, self.of_files, self.bytes, self._before = of, of_files, have, have
            self._began = self._told = self._clock()

    def add(self, count: int) -> None:
        """More bytes; fewer where some were thrown away."""
        with self._lock:
            self.bytes += count
            now = self._clock()
            due = now - self._told >= self._every
            if due:
                self._told = now
        if due:
            self.tell()

    def file_done(self) -> None:
        """One file more is complete."""
        with self._lock:
            self.files += 1

    def tell(self) -> None:
        """A line on where it stands."""
        now = self._clock()
        rate = (self.bytes - self._before) / max(now - self._began, 1e-3)
        left = (self.of - self.bytes) / rate if self.of and rate > 0 else None
        text = size(self.bytes)
        if self.of:
            text += f" of {size(self.of)} ({100 * self.bytes // self.of} %)"
        if self.of_files > 1:
            text += f", {self.files} of {self.of_files} files"
        text += f", {size(rate)}/s"
        if left is not None:
            text += f", {seconds(left)} left"
        self.event(
            "progress",
            text,
            bytes=self.bytes,
            of=self.of,
            files=self.files,
            of_files=self.of_files,
            bytes_per_s=round(rate),
            left_s=None if left is None else round(left),
        )

    def event(self, name: str, text: str, **values: Any) -> None:
        """One line: ``prefetch: text``, or JSON with ``event``, ``text`` and the values."""
        line = json.dumps({"event": name, "text": text, **values}) if self._json else f"prefetch: {text}"
        with self._lock:
            self._out.write(f"{line}\n")
            self._out.flush()


def last_words(text: str, path: Path = TERMINATION_LOG) -> None:
    """Leave ``text`` as the message of this container, where there is a kubelet to show it."""
    try:
        if path.exists():
            path.write_text(text[:_SHOWN])
    except OSError:  # it is only the second place where it is told
        pass
