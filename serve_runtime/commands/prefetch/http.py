"""Files over http and https, with the standard library: continued by range requests (RFC 9110, 14 and 13.1.5)."""

from __future__ import annotations

import base64
import binascii
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import PurePosixPath
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

from serve_runtime.commands.prefetch.errors import BrokenError, SourceError
from serve_runtime.commands.prefetch.sources import Listing, Opened, Options, RemoteFile, checked_path, shown

AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another try may succeed."""
_WHY: Final = {
    401: "it asks for credentials",
    403: "it refuses access",
    404: "it has nothing there",
    410: "it is gone",
}


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Credentials go to the host that they are for; a redirect to a storage host carries its own in the URL."""

    def redirect_request(  # noqa: PLR0917  # the base class's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            for name in ("Authorization", "Cookie"):
                new.remove_header(name)
        return new


_OPENER: Final = urllib.request.build_opener(_Redirects)


def ask(url: str, headers: Mapping[str, str], timeout_s: float, *, hint: str = "") -> http.client.HTTPResponse:
    """The answer to a GET, to be closed. Raises SourceError and BrokenError; ``hint`` helps when access is refused."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "serve-runtime-prefetch", **headers})
        answer: http.client.HTTPResponse = _OPENER.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, hint) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _broken(error, url, timeout_s) from error
    return answer


def _refusal(error: urllib.error.HTTPError, hint: str) -> Exception:
    if error.code in AGAIN:
        return BrokenError(f"{shown(error.url)} answers {error.code} {error.reason}")
    if error.code == 416:
        return BrokenError(f"{shown(error.url)} has less than was received", afresh=True)
    why = _WHY.get(error.code, str(error.reason))
    more = f". {hint}" if hint and error.code in {401, 403, 404} else ""
    return SourceError(f"{shown(error.url)} answers {error.code}: {why}{more}")


def _broken(error: Exception, url: str, timeout_s: float) -> Exception:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return BrokenError(f"{shown(url)}: no byte for {timeout_s:.0f} s")
    if isinstance(error, http.client.InvalidURL | ValueError):
        return SourceError(f"{shown(url)}: {error}")
    if "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return SourceError(f"{shown(url)}: {reason}. Mount the certificate authority and name it in SSL_CERT_FILE")
    return BrokenError(f"{shown(url)}: {reason or type(error).__name__}")


def validator_of(headers: Message) -> str:
    """What ``If-Range`` may carry: a strong ETag, else the time of the last change; empty if there is neither."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def digest_of(headers: Message) -> str:
    """SHA-256 of the whole, as ``Repr-Digest`` tells it (RFC 9530); empty where it does not."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", headers.get("Repr-Digest", ""))
    try:
        return base64.b64decode(found[1], validate=True).hex() if found else ""
    except binascii.Error:
        return ""


def opened(
    url: str, offset: int, validator: str, headers: Mapping[str, str], timeout_s: float, *, hint: str = ""
) -> Opened:
    """The file at ``url`` from ``offset`` on, or from its beginning where the server cannot or it has changed."""
    sent = {**headers, "Accept-Encoding": "identity"}
    if offset:
        sent["Range"] = f"bytes={offset}-"
        if validator:
            sent["If-Range"] = validator
    answer = ask(url, sent, timeout_s, hint=hint)
    start, size = 0, _number(answer.headers.get("Content-Length"))
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != offset:
            answer.close()
            raise BrokenError(f"{shown(url)} sends another range than was asked for", afresh=True)
        start, size = offset, _number(found[2])
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        size = None
    return Opened(answer, start, size, validator_of(answer.headers), digest_of(answer.headers))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


class HttpSource:
    """One file at a URL. Its size and checksum come with it."""

    def __init__(self, url: str, options: Options) -> None:
        self.name = shown(url)
        self._url = url
        self._options = options
        if not urlsplit(url).hostname:
            raise SourceError(f"{self.name}: there is no host in it")

    def listing(self) -> Listing:
        """No request: what may change is told apart when the file is asked for."""
        path = PurePosixPath(unquote(urlsplit(self._url).path)).name or "index"
        file = RemoteFile(checked_path(path, self.name), self._url, None, self._options.sha256)
        return Listing((file,), "url", single=True)

    def open(self, file: RemoteFile, offset: int, validator: str) -> Opened:
        """As Source."""
        hint = "Give credentials with --header-env, or sign the URL"
        return opened(file.at, offset, validator, dict(self._options.headers), self._options.timeout_s, hint=hint)
