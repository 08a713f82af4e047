"""Where weights come from: what all sources have in common, and which one a text means."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol
from urllib.parse import urlsplit

from serve_runtime.commands.prefetch.errors import SourceError


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """path: where it goes, relative, with slashes. at: where the source has it. size in bytes, None if unknown.

    sha256: lower-case hex, empty where the source tells none.
    """

    path: str
    at: str
    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source has. ``version``: changes with the content, as far as the source knows; parts of another are not
    continued. ``single``: the result is one file, no directory."""

    files: tuple[RemoteFile, ...]
    version: str
    single: bool = False

    @property
    def size(self) -> int | None:
        """Bytes in all; None if one of the files has no known size."""
        sizes = [each.size for each in self.files]
        return None if None in sizes else sum(each for each in sizes if each is not None)


class Reader(Protocol):
    """Bytes as they come. An OSError or HTTPException while reading is a try that failed."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A file being received. start: the offset of the first byte that comes, 0 if it cannot be continued.

    size of the whole file, validator and sha256 as the server told with the answer; empty where it did not.
    """

    reader: Reader
    start: int
    size: int | None = None
    validator: str = ""
    sha256: str = ""


class Source(Protocol):
    """One source. Raises SourceError where trying again is of no use and BrokenError where it may be."""

    name: str
    """For messages and records: without passwords or signatures."""

    def listing(self) -> Listing: ...

    def open(self, file: RemoteFile, offset: int, validator: str) -> Opened:
        """The file from ``offset`` on; ``validator`` is what an earlier answer had. The caller closes its reader."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a source with several: shell patterns on the whole path; a pattern without a slash also on the
    name alone."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a file is wanted."""
        return (not self.include or _matches(path, self.include)) and not _matches(path, self.exclude)

    def of(self, files: Iterable[RemoteFile], source: str) -> tuple[RemoteFile, ...]:
        """Those that are wanted, in order of their paths. Raises SourceError when none is."""
        found = list(files)
        taken = tuple(sorted((each for each in found if self.takes(each.path)), key=lambda each: each.path))
        if not taken:
            have = ", ".join(each.path for each in found[:5]) or "nothing"
            raise SourceError(f"{source}: no file is wanted by --include and --exclude; it has {have}")
        return taken


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = PurePosixPath(path).name
    return any(fnmatch.fnmatchcase(path, p) or ("/" not in p and fnmatch.fnmatchcase(name, p)) for p in patterns)


def checked_path(path: str, source: str) -> str:
    """A path that stays below where it is put. Raises SourceError."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise SourceError(f"{source} has a file {path!r}, which would be written outside of the cache")
    return str(PurePosixPath(path))


def version_of(*parts: object) -> str:
    """A short hash of what tells one content from another."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def shown(url: str) -> str:
    """A URL without user, password, query and fragment, which may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


HUB: Final = re.compile(r"(?:hf://)?([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
OBJECTS: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of the source. timeout_s: without a byte. sha256: of the one file."""

    wanted: Wanted = field(default_factory=Wanted)
    timeout_s: float = 60.0
    sha256: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def source_of(text: str, options: Options) -> Source:
    """The source that ``text`` means. Raises SourceError for what is none."""
    from serve_runtime.commands.prefetch import http, hub, local, objects  # noqa: PLC0415  # they import this module

    scheme = urlsplit(text).scheme.lower() if "://" in text else ""
    if scheme in {"http", "https"}:
        return http.HttpSource(text, options)
    if scheme in OBJECTS:
        return objects.ObjectSource(text, options)
    if scheme == "file" or text.startswith(("/", "./", "../")):
        return local.LocalSource(Path(urlsplit(text).path if scheme else text), options)
    if scheme in {"", "hf"} and (found := HUB.fullmatch(text)):
        return hub.HubSource(found[1], found[2] or "main", options)
    raise SourceError(
        f"{text!r} is no source: write https://host/file, s3://bucket/prefix, gs://bucket/prefix, "
        "org/model or hf://org/model@revision, or an absolute path"
    )
