"""Object stores by ``pyarrow.fs``, which has S3, Google Cloud Storage and Azure built in and comes with ``ray[llm]``.

Credentials and endpoints are found as those clients do: the pod's identity, or variables (``AWS_ENDPOINT_URL``).
"""

from __future__ import annotations

import re
from typing import Any, Final

from serve_runtime.commands.prefetch.errors import BrokenError, SourceError
from serve_runtime.commands.prefetch.sources import (
    Listing,
    Opened,
    Options,
    RemoteFile,
    checked_path,
    shown,
    version_of,
)

_FINAL: Final = re.compile(
    r"access.?denied|forbidden|no.?such.?bucket|no.?such.?key|not.?found|invalid.?access|invalid.?token|"
    r"expired.?token|signature|HTTP status 40[0134]|unauthorized|anonymous caller|no credentials",
    re.IGNORECASE,
)
"""What clients say when another try is of no use; all that pyarrow has is the text."""


def _refusal(error: OSError, name: str) -> Exception:
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError | PermissionError) or _FINAL.search(text):
        return SourceError(
            f"{name}: {text}. Check bucket, prefix and region, and the pod's service account or credential variables"
        )
    return BrokenError(f"{name}: {text}")


class ObjectSource:
    """All objects under a prefix, or one."""

    def __init__(self, uri: str, options: Options) -> None:
        self.name = shown(uri)
        self._options = options
        try:
            from pyarrow import fs  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
        except ImportError as error:
            raise SourceError(
                f"{self.name}: object stores are read with pyarrow, which this image has not; install pyarrow "
                "or rayservice-operator[llm], or give an https:// URL"
            ) from error
        self._fs: Any = fs
        text = "gs://" + uri.partition("://")[2] if uri.startswith("gcs://") else uri
        try:
            self._store, path = fs.FileSystem.from_uri(text)
        except (OSError, ValueError) as error:
            raise SourceError(f"{self.name}: {' '.join(str(error).split())}") from error
        self._path = str(path).rstrip("/")

    def listing(self) -> Listing:
        """As Source."""
        try:
            (info,) = self._store.get_file_info([self._path])
            if info.type == self._fs.FileType.File:
                file = RemoteFile(info.base_name, info.path, info.size, self._options.sha256)
                return Listing((file,), version_of(info.size, info.mtime_ns), single=True)
            found = self._store.get_file_info(self._fs.FileSelector(self._path, recursive=True, allow_not_found=True))
        except OSError as error:
            raise _refusal(error, self.name) from error
        objects = [each for each in found if each.type == self._fs.FileType.File]
        if not objects:
            raise SourceError(f"{self.name}: there is nothing under this prefix; check bucket, prefix and region")
        times = {each.path: each.mtime_ns for each in objects}
        remote = [
            RemoteFile(checked_path(each.path.removeprefix(f"{self._path}/"), self.name), each.path, each.size)
            for each in objects
        ]
        files = self._options.wanted.of(remote, self.name)
        return Listing(files, version_of(*((each.path, each.size, times[each.at]) for each in files)))

    def open(self, file: RemoteFile, offset: int, validator: str) -> Opened:  # noqa: ARG002
        """As Source."""
        try:
            reader = self._store.open_input_file(file.at)
            reader.seek(offset)
        except OSError as error:
            raise _refusal(error, self.name) from error
        return Opened(reader, offset, file.size)
