"""The place of one prefetched thing: its lock, its parts, its record, and the one rename that makes it appear.

For ``/models/tiny`` there are, beside it: ``.tiny.lock`` (held while one works on it; the kernel lets it go with its
process), ``.tiny.part/`` (what is received so far) and ``.tiny.json`` (what it is, once it is complete). What has its
own name is complete, always.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from serve_runtime.commands.prefetch.errors import BusyError, PrefetchError
from serve_runtime.commands.units import seconds

_LOOK_S: Final = 0.2


class Store:
    """Where ``target`` is made. All methods but :meth:`locked` want the lock."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._lock = target.parent / f".{target.name}.lock"
        self._part = target.parent / f".{target.name}.part"
        self._record = target.parent / f".{target.name}.json"
        self.partial = self._part / "partial"
        """Files that are being received."""
        self.files = self._part / "files"
        """Files that are complete and checked."""
        self.tree = self._part / "tree"
        """What an archive is unpacked to."""
        self._validators = self._part / "validators"
        self._of = self._part / "of.json"
        self._next_record = self._part / "record.json"

    @contextmanager
    def locked(self, limit_s: float, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock; ``waiting`` is called now and then with how it looks. Raises BusyError after ``limit_s``."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as lock:
            began = told = time.monotonic()
            waiting_since = False
            while not _taken(lock.fileno()):
                now = time.monotonic()
                if now - began > limit_s:
                    raise BusyError(
                        f"another prefetch has held {self._lock} for {seconds(limit_s)}. It may still be at work: look "
                        "at its log, or raise --lock-timeout"
                    )
                if not waiting_since or now - told >= 10:
                    waiting(f"another prefetch of {self.target} is at work, waiting for it")
                    told, waiting_since = now, True
                time.sleep(_LOOK_S)
            yield

    def complete(self) -> Mapping[str, Any] | None:
        """The record of what is here and complete; None where nothing is. Ends a move that was cut short.

        Raises PrefetchError for something of that name that no prefetch made.
        """
        if self._next_record.exists() and self.target.exists() and not self._made().exists():
            self._next_record.replace(self._record)
            self.clean()
        if not self.target.exists():
            self._record.unlink(missing_ok=True)
            return None
        try:
            found: Mapping[str, Any] = json.loads(self._record.read_text())
        except FileNotFoundError:
            raise PrefetchError(
                f"{self.target} exists and was not made by prefetch; choose another --to, or --replace it"
            ) from None
        except ValueError:
            raise PrefetchError(f"{self._record} cannot be read; --replace what is there") from None
        return found

    def _made(self) -> Path:
        """What is to be renamed, as the record in the parts says."""
        return self._part / str(json.loads(self._next_record.read_text())["made"])

    def begin(self, of: Mapping[str, Any]) -> bool:
        """Prepare the parts of this; True if there are parts of the very same to go on with."""
        same = self._of.exists() and _read(self._of) == dict(of)
        if not same:
            self.clean()
        for path in (self.partial, self.files, self._validators):
            path.mkdir(parents=True, exist_ok=True)
        if not same:
            write(self._of, of)
        return same

    def validator(self, path: str) -> str:
        """What the server said with the part of this file that is here."""
        try:
            return (self._validators / path).read_text()
        except FileNotFoundError:
            return ""

    def keep_validator(self, path: str, text: str) -> None:
        """Before the first byte that it is about."""
        at = self._validators / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def publish(self, made: Path, record: Mapping[str, Any]) -> None:
        """Let ``made``, in the parts, appear as the target, in place of what is there."""
        write(self._next_record, {**record, "made": str(made.relative_to(self._part))})
        if self.target.is_symlink() or (self.target.exists() and (made.is_dir() or self.target.is_dir())):
            old = self._part / "old"  # only a file can take a file's place by a rename
            shutil.rmtree(old, ignore_errors=True)
            self.target.rename(old)
        made.replace(self.target)
        _sync(self.target.parent)
        self._next_record.replace(self._record)
        self.clean()

    def clean(self) -> None:
        """Throw all parts away."""
        shutil.rmtree(self._part, ignore_errors=True)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def write(path: Path, value: Mapping[str, Any]) -> None:
    """JSON that is there as a whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
