"""What the API server, or the way to it, answers instead of an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of ``Status.details.causes``: the field that is wrong and why."""

    field: str
    message: str


class ApiError(Exception):
    """A refusal as ``metav1.Status`` tells it.

    ``status`` is the HTTP code (0: no answer came), ``reason`` the machine-readable word (``AlreadyExists``),
    ``message`` the server's sentence, ``causes`` the fields at fault.
    """

    def __init__(self, status: int, reason: str, message: str, causes: Sequence[Cause] = ()) -> None:
        super().__init__(f"{reason}: {message}" if reason else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = tuple(causes)


class NotFound(ApiError):  # noqa: N818 - the API's own words, with and without the suffix in equal use
    """404: no such object, or no such kind."""


class Conflict(ApiError):  # noqa: N818
    """409: the object is not the one, or not the version, that was meant."""


class AlreadyExists(ApiError):  # noqa: N818
    """409: the name is taken."""


class Gone(ApiError):  # noqa: N818
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):  # noqa: N818
    """400 or 422: the object is wrong in itself."""


class Forbidden(ApiError):  # noqa: N818
    """403: RBAC, quota, pod security or another admission rule."""


class Unauthorized(ApiError):  # noqa: N818
    """401: the credentials are not, or no longer, taken."""


class TooManyRequests(ApiError):  # noqa: N818
    """429: ``retry_after`` is the server's wish in seconds."""

    def __init__(
        self, status: int, reason: str, message: str, causes: Sequence[Cause] = (), *, retry_after: float = 1.0
    ) -> None:
        super().__init__(status, reason, message, causes)
        self.retry_after = retry_after


class ServerError(ApiError):
    """5xx: the server could not do it now. After a timeout of etcd a write may have been carried out all the same."""


class Unreachable(ApiError):  # noqa: N818
    """No answer: connection refused or cut, or too slow. Whether a write was carried out is unknown."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


# By reason first: 409 is Conflict or AlreadyExists, 410 has two reasons, 404 only one.
_BY_REASON: Mapping[str, type[ApiError]] = {
    "NotFound": NotFound,
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Gone": Gone,
    "Expired": Gone,
    "Invalid": Invalid,
    "BadRequest": Invalid,
    "Forbidden": Forbidden,
    "Unauthorized": Unauthorized,
}
_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def from_status(code: int, body: Mapping[str, Any] | None, *, retry_after: str | None = None) -> ApiError:
    """The error for an HTTP ``code`` and the ``metav1.Status`` in its body, if it had one.

    ``retry_after`` is the HTTP header, in seconds.
    """
    body = body or {}
    details = body.get("details") or {}
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or f"HTTP {code}")
    causes = [Cause(str(c.get("field") or ""), str(c.get("message") or "")) for c in details.get("causes") or ()]
    if code == 429:
        wait = _seconds(retry_after) or _seconds(details.get("retryAfterSeconds")) or 1.0
        return TooManyRequests(code, reason or "TooManyRequests", message, causes, retry_after=wait)
    error = _BY_REASON.get(reason) or _BY_CODE.get(code) or (ServerError if code >= 500 else ApiError)
    return error(code, reason, message, causes)


def _seconds(value: object) -> float | None:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None
