"""A file or a directory that is mounted: from a slow shared file system to the node's own disk."""

from __future__ import annotations

from pathlib import Path

from serve_runtime.commands.prefetch.errors import BrokenError, SourceError
from serve_runtime.commands.prefetch.sources import Listing, Opened, Options, RemoteFile, version_of


class LocalSource:
    """Links are followed: model caches are full of them. Sizes and times of change tell one version from another."""

    def __init__(self, path: Path, options: Options) -> None:
        self.name = f"file://{path}"
        self._path = path
        self._options = options

    def listing(self) -> Listing:
        """As Source."""
        if self._path.is_file():
            file = self._file(self._path.name, self._path)
            return Listing((file,), self._version([file]), single=True)
        if not self._path.is_dir():
            raise SourceError(f"{self._path} does not exist in this container; is its volume mounted here?")
        found = [
            self._file(each.relative_to(self._path).as_posix(), each)
            for each in self._path.rglob("*")
            if each.is_file()
        ]
        files = self._options.wanted.of(found, self.name)
        return Listing(files, self._version(files))

    def _file(self, path: str, at: Path) -> RemoteFile:
        return RemoteFile(path, str(at), at.stat().st_size, self._options.sha256)

    def _version(self, files: list[RemoteFile] | tuple[RemoteFile, ...]) -> str:
        return version_of(*((each.path, each.size, Path(each.at).stat().st_mtime_ns) for each in files))

    def open(self, file: RemoteFile, offset: int, validator: str) -> Opened:  # noqa: ARG002
        """As Source."""
        try:
            reader = Path(file.at).open("rb")  # noqa: SIM115  # the caller closes it
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError(f"{file.at}: {error.strerror}") from error
        except OSError as error:
            raise BrokenError(f"{file.at}: {error}") from error
        reader.seek(offset)
        return Opened(reader, offset, file.size)
