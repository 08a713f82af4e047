"""Unpacking tar (also .gz, .bz2, .xz) and zip: files and directories only, nothing that could leave its place."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from serve_runtime.commands.prefetch.errors import SourceError
from serve_runtime.commands.prefetch.sources import Wanted, checked_path

Member = tuple[str, int, Callable[[], IO[bytes] | None]]
"""Name, size in bytes, what opens it."""
_CHUNK: Final = 1024 * 1024


def unpack(archive: Path, into: Path, wanted: Wanted, source: str) -> int:
    """Unpack what is wanted. Returns the number of files. Raises SourceError; OSError is of our own disk."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    count = 0
    try:
        for name, _, open_ in _members(archive, source):
            path = checked_path(name, source)
            if not wanted.takes(path):
                continue
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            opened = open_()
            if opened is None:
                continue
            with opened, target.open("xb") as out:
                shutil.copyfileobj(opened, out, _CHUNK)
            count += 1
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        FileExistsError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise SourceError(f"{source} cannot be unpacked: {error}") from error
    if not count:
        raise SourceError(f"{source}: no file in it is wanted")
    return count


def _members(archive: Path, source: str) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, lambda info=info: packed.open(info)  # type: ignore[misc]
        return
    if not tarfile.is_tarfile(archive):
        raise SourceError(f"{source} is neither tar nor zip; leave out --extract to have it as it is")
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isfile():
                raise SourceError(f"{source}: {member.name} is a link or a device; pack files and directories only")
            yield member.name, member.size, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
