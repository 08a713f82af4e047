"""Answers over HTTP (Starlette, which comes with ``ray[serve]``): results, refusals, streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_runtime.errors import BadInput, DeadlineExceeded, Failed, NotAcceptable, Refusal, TooLarge, Unavailable
from serve_runtime.web.bodies import Reader, write_event, write_json

_LOG = logging.getLogger("ray.serve")
REQUEST_ID: Final = "x-request-id"
LARGE: Final = 256 * 1024
"""Bytes of a body that take about a millisecond to read."""
Form: TypeAlias = Literal["sse", "lines", "raw"]


def request_id(request: Request) -> str:
    """The caller's id, or the one that Ray Serve's proxy gave; the same is in the answer's header and in the logs."""
    return str(request.headers.get(REQUEST_ID, ""))


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be."""
    too_large = TooLarge(f"the body has more than {limit} bytes", details={"max_body_bytes": limit})
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


async def read_item(request: Request, reader: Reader, limit: int) -> Any:
    """What the body means. Large ones are read in a thread, since others' requests wait for the event loop meanwhile.

    Raises TooLarge and what :meth:`Reader.read` raises.
    """
    raw = await read_body(request, limit)
    content_type = request.headers.get("content-type", "")
    if len(raw) <= LARGE:
        return reader.read(content_type, raw)
    return await asyncio.to_thread(reader.read, content_type, raw)


def result(value: Any, media_type: str) -> Response:
    """Bytes as ``media_type``, everything else as JSON. Raises Failed for what cannot be written."""
    if isinstance(value, bytes):
        return Response(value, media_type=media_type)
    try:
        return Response(write_json(value), media_type="application/json")
    except ValueError as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from error


def refusal(error: Refusal, request: Request) -> Response:
    """The answer that a refusal is."""
    return Response(
        write_json(error.body(request_id(request))),
        status_code=error.status,
        headers=error.headers(),
        media_type="application/json",
    )


def refusals_are_answers(app: Starlette) -> None:
    """From now on a Refusal that a route raises is what it answers."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return refusal(error, request)

    app.add_exception_handler(Refusal, refused)


def log_failure(error: BaseException, what: str) -> None:
    """One record with the traceback; Ray Serve's filters add request id, route, application and replica."""
    _LOG.error("%s failed: %s", what, type(error).__name__, exc_info=error)


def form_of(accept: str) -> Form:
    """How a stream is wanted, by ``Accept``: server-sent events unless said otherwise. Raises NotAcceptable."""
    wanted = [each.partition(";")[0].strip().lower() for each in accept.split(",")]
    for each in wanted:
        if each in {"", "*/*", "text/*", "text/event-stream"}:
            return "sse"
        if each in {"application/x-ndjson", "application/jsonl"}:
            return "lines"
        if each in {"application/octet-stream", "text/plain"}:
            return "raw"
    raise NotAcceptable("streams come as text/event-stream, application/x-ndjson or application/octet-stream")


class StreamedAnswer(StreamingResponse):  # type: ignore[misc] # an Any where Ray is not installed
    """A stream that tells ``ended`` once, whether it came to its end, failed, or the client went away."""

    def __init__(self, items: AsyncIterator[bytes], ended: Callable[[], Any], media_type: str) -> None:
        super().__init__(items, media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def encode(item: Any, form: Form) -> bytes:
    """One part of a stream. Raises Failed for bytes where text is wanted, and for what has no JSON form."""
    try:
        if form == "raw":
            return item if isinstance(item, bytes) else item.encode() if isinstance(item, str) else write_json(item)
        return write_event(item) if form == "sse" else write_json(item) + b"\n"
    except ValueError as error:
        raise Failed(f"an item of the stream cannot be written: {error}") from error


def encode_end(form: Form) -> bytes:
    """What says that a stream is whole."""
    return write_event({}, "end") if form == "sse" else b""


def encode_error(error: Refusal, form: Form, request: Request) -> bytes:
    """What says that a stream is not. A raw one has no room for it: raises the error, which cuts the connection."""
    if form == "raw":
        raise error
    body = error.body(request_id(request))
    return write_event(body, "error") if form == "sse" else write_json(body) + b"\n"


def as_refusal(
    error: Exception, caller_errors: tuple[type[Exception], ...], retry_after_s: float, what: str
) -> Refusal:
    """What the caller is told of an exception; what is not the caller's mistake is logged."""
    if isinstance(error, Refusal):
        if isinstance(error, Unavailable):
            # No traceback: it was said with intent, and as often as there are requests.
            _LOG.warning("%s is not available: %s", what, error.message)
            if error.retry_after_s is None:
                error.retry_after_s = retry_after_s
        elif error.status >= 500:
            log_failure(error, what)
        return error
    if isinstance(error, caller_errors):
        return BadInput(str(error) or type(error).__name__)
    if isinstance(error, TimeoutError):
        log_failure(error, what)
        return DeadlineExceeded(f"{what} took too long", retry_after_s=retry_after_s)
    log_failure(error, what)
    return Failed(f"{what} failed; the log has the reason under this request id")
