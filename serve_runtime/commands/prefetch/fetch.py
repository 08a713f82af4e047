"""Receiving files: each goes on where it stopped, is tried again while bytes come, and is checked before it counts."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from serve_runtime.commands.prefetch.errors import (
    BrokenError,
    PrefetchError,
    SourceError,
    UnreachableError,
    of_disk,
    too_small,
)
from serve_runtime.commands.prefetch.progress import Progress
from serve_runtime.commands.prefetch.sources import Listing, Opened, RemoteFile, Source
from serve_runtime.commands.prefetch.store import Store

T = TypeVar("T")
CHUNK: Final = 1024 * 1024
LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """tries: in a row without one new byte. pause_s: after the first that failed, doubled each time."""

    tries: int = 8
    workers: int = 4
    pause_s: float = 1.0


class Attempts:
    """Calls something again after a BrokenError, until it has failed ``tries`` times in a row without progress."""

    def __init__(self, limits: Limits, progress: Progress, stop: threading.Event) -> None:
        self._limits = limits
        self._progress = progress
        self._stop = stop

    def make(self, act: Callable[[], T], moved: Callable[[], object]) -> T:
        """What ``act`` returns. ``moved`` gives another value when there is progress. Raises UnreachableError."""
        failed, last = 0, moved()
        while True:
            try:
                return act()
            except BrokenError as error:
                now = moved()
                failed, last = (1 if now != last else failed + 1), now
                if failed >= self._limits.tries:
                    raise UnreachableError(
                        f"{error}; given up after {failed} tries without progress. What was received is kept and the "
                        "next start goes on from there. Check NetworkPolicy, DNS and proxies between pod and source"
                    ) from error
                pause = min(LONGEST_PAUSE_S, self._limits.pause_s * 2.0 ** (failed - 1)) * random.uniform(0.5, 1.0)
                self._progress.event(
                    "retry", f"{error}; trying again in {pause:.1f} s", failed=failed, pause_s=round(pause, 1)
                )
                if self._stop.wait(pause):
                    raise PrefetchError("ended with another file") from error


class Fetch:
    """All files of a listing into the parts of a store."""

    def __init__(self, source: Source, store: Store, progress: Progress, limits: Limits) -> None:
        self._source = source
        self._store = store
        self._progress = progress
        self._limits = limits
        self._stop = threading.Event()
        self._attempts = Attempts(limits, progress, self._stop)

    def listing(self) -> Listing:
        """What the source has. Raises PrefetchError."""
        return self._attempts.make(self._source.listing, lambda: None)

    def all(self, listing: Listing) -> dict[str, str]:
        """Receive what is missing. Returns each path's SHA-256. Raises PrefetchError; parts are kept."""
        have = sum(map(_length, (p for root in self._roots() for p in root.rglob("*") if p.is_file())))
        if listing.size is not None:
            self._room(listing.size - have)
        self._progress.begin(of=listing.size, of_files=len(listing.files), have=have)
        # Threads, since a large model is a few dozen files and one connection seldom fills a node's network.
        with ThreadPoolExecutor(self._limits.workers) as pool:
            futures = {pool.submit(self._one, file): file for file in listing.files}
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((f for f in done if f.exception() is not None), None)
            if failed is not None:
                self._stop.set()
                for future in waiting:
                    future.cancel()
        if failed is not None:
            failed.result()
        return {file.path: future.result() for future, file in futures.items()}

    def _room(self, needed: int) -> None:
        """Raises NoSpaceError if that many bytes more do not fit."""
        where = self._store.target.parent
        free = shutil.disk_usage(where).free
        if needed > free:
            raise too_small(needed, free, where)

    def _roots(self) -> tuple[Path, Path]:
        return self._store.partial, self._store.files

    def _one(self, file: RemoteFile) -> str:
        """One file, complete. Returns its SHA-256."""
        target, partial = self._store.files / file.path, self._store.partial / file.path
        try:
            if not target.exists():
                partial.parent.mkdir(parents=True, exist_ok=True)
                digest = self._attempts.make(lambda: self._received(file, partial), lambda: _length(partial))
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
            else:
                digest = _digest(target).hexdigest()
        except OSError as error:
            raise of_disk(error, self._store.target.parent) from error
        self._progress.file_done()
        return digest

    def _received(self, file: RemoteFile, partial: Path) -> str:
        """One try to get the rest of a file. Raises BrokenError; OSError is of our own disk."""
        have = _length(partial)
        validator = self._store.validator(file.path)
        if have and not (validator or file.sha256 or file.size is not None):
            have = self._discard(partial)  # nothing would tell that the file has changed meanwhile
        digest = _digest(partial) if have else hashlib.sha256()
        size, told = file.size, ""
        if file.size is None or have < file.size:
            try:
                opened = self._source.open(file, have, validator)
            except BrokenError as error:
                if error.afresh:
                    self._discard(partial)
                raise
            with closing(opened.reader):
                if have and opened.start and _differ(opened.validator, validator):
                    self._discard(partial)
                    raise BrokenError(f"{self._source.name}: {file.path} has changed meanwhile", afresh=True)
                if opened.start != have:
                    self._discard(partial)
                    digest = hashlib.sha256()
                if opened.validator != validator:
                    self._store.keep_validator(file.path, opened.validator)
                if size is None and opened.size is not None:  # a source that tells with the answer has one file
                    size = self._progress.of = opened.size
                    self._room(size - opened.start)
                told = opened.sha256
                self._copy(opened, partial, digest, file)
        self._check(file, partial, size, file.sha256 or told, digest.hexdigest())
        return digest.hexdigest()

    def _copy(self, opened: Opened, partial: Path, digest: hashlib._Hash, file: RemoteFile) -> None:
        with partial.open("ab", buffering=0) as out:
            while True:
                try:
                    chunk = opened.reader.read(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise BrokenError(f"{self._source.name}: {file.path}: {_words(error)}") from error
                if not chunk:
                    break
                _write(out.fileno(), chunk)
                digest.update(chunk)
                self._progress.add(len(chunk))
                if self._stop.is_set():
                    raise PrefetchError("ended with another file")
            os.fsync(out.fileno())

    def _check(self, file: RemoteFile, partial: Path, size: int | None, sha256: str, got: str) -> None:
        have = _length(partial)
        if size is not None and have < size:
            raise BrokenError(f"{self._source.name}: {file.path}: the connection was cut at {have} of {size} bytes")
        if size is not None and have > size:
            self._discard(partial)
            raise BrokenError(f"{self._source.name}: {file.path} is longer than the {size} bytes that were told")
        if sha256 and sha256 != got:
            self._discard(partial)
            raise SourceError(
                f"{self._source.name}: {file.path} has SHA-256 {got}, expected {sha256}. It is not used. Correct "
                "--sha256, or ask who keeps the source; a proxy in between may have changed it"
            )

    def _discard(self, partial: Path) -> int:
        """Throw away what was received of a file. Returns 0, its length."""
        self._progress.add(-_length(partial))
        partial.unlink(missing_ok=True)
        return 0


def _differ(now: str, before: str) -> bool:
    """A server may send the rest of another file than was begun with, if it knows ``Range`` and not ``If-Range``."""
    return bool(now and before and now != before)


def _write(descriptor: int, chunk: bytes) -> None:
    """All of it: a write to a disk that is nearly full may take a part only."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> hashlib._Hash:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no byte came in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    return str(error) or type(error).__name__
