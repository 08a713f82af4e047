"""Models of the Hugging Face hub, over its two documented routes: the list of a revision, and a file of it.

Not by ``huggingface_hub``: images for plain Ray Serve have none, and files come with the same resume, checks and
progress as from every other source. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HOME`` mean what they mean there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from serve_runtime.commands.prefetch import http
from serve_runtime.commands.prefetch.errors import BrokenError
from serve_runtime.commands.prefetch.sources import Listing, Opened, Options, RemoteFile, checked_path


def token() -> str:
    """The hub token of this environment; empty if there is none."""
    if found := os.environ.get("HF_TOKEN", "").strip():
        return found
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    with suppress(OSError):
        return Path(os.environ.get("HF_TOKEN_PATH") or home / "token").read_text().strip()
    return ""


class HubSource:
    """All files of a model at one revision. Large ones have a SHA-256, the others a size."""

    def __init__(self, model: str, revision: str, options: Options) -> None:
        self.name = f"hf://{model}@{revision}"
        self._model = model
        self._revision = revision
        self._options = options
        self._base = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
        self._hint = (
            "If the model is private or gated, give HF_TOKEN from a Secret and accept its terms; else correct "
            "org/model@revision"
        )

    def _headers(self) -> dict[str, str]:
        known = token()
        return {"Authorization": f"Bearer {known}"} if known else {}

    def listing(self) -> Listing:
        """One request, which also tells which commit a branch means now."""
        url = f"{self._base}/api/models/{self._model}/revision/{quote(self._revision, safe='')}?blobs=true"
        try:
            with http.ask(url, self._headers(), self._options.timeout_s, hint=self._hint) as answer:
                told = json.loads(answer.read())
            commit = str(told["sha"])
            files = [self._file(each, commit) for each in told["siblings"]]
        except (ValueError, KeyError, TypeError, AttributeError, OSError, HTTPException) as error:
            raise BrokenError(f"{self._base} answers what is no list of files: {error!r}") from error
        return Listing(self._options.wanted.of(files, self.name), commit)

    def _file(self, told: dict[str, object], commit: str) -> RemoteFile:
        path = checked_path(str(told["rfilename"]), self.name)
        large = told.get("lfs") or {}
        size = told.get("size")
        at = f"{self._base}/{self._model}/resolve/{commit}/{quote(path)}"
        sha256 = str(large.get("sha256") or "") if isinstance(large, dict) else ""
        return RemoteFile(path, at, size if isinstance(size, int) else None, sha256)

    def open(self, file: RemoteFile, offset: int, validator: str) -> Opened:
        """As Source."""
        return http.opened(file.at, offset, validator, self._headers(), self._options.timeout_s, hint=self._hint)
