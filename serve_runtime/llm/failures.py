"""From what ray.serve.llm, vLLM and Ray raise to an answer in the shape of OpenAI's API. Importing it needs no vLLM."""

from __future__ import annotations

import json
from typing import Any, Final

from serve_runtime.errors import DeadlineExceeded, Failed, Refusal, Unavailable, UnknownModel

_BY_NAME: Final[dict[str, str]] = {
    "EngineDeadError": "the engine of this replica has died; a new one is on its way",
    "EngineGenerateError": "the engine failed at this request",
    "BackPressureError": "too many requests wait already",
    "DeploymentUnavailableError": "no replica can be started now",
    "ReplicaUnavailableError": "the replica is gone",
    "RayActorError": "the replica is gone",
    "ActorDiedError": "the replica is gone",
    "ActorUnavailableError": "the replica cannot be reached",
    "NodeDiedError": "the replica's node is gone",
    "OwnerDiedError": "the replica's node is gone",
}
"""Errors that pass, by the names of their classes: they come from packages that need not be there, and across
processes as classes made on the spot. Those of parents count too."""
_CLIENT: Final = "VLLMClientError"
_TYPES: Final = {404: "NotFoundError", 503: "ServiceUnavailableError"}


class BadRequest(Refusal):
    """What the engine does not take: too long a prompt, parameters that contradict each other."""

    status = 400
    code = "invalid_request"


class BadAdapter(Refusal):
    """An adapter that is there and does not fit the model or its settings."""

    status = 422
    code = "bad_adapter"


class Answered(Refusal):
    """A status that ray.serve.llm or the engine chose."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = "invalid_request" if status < 500 else "failed"


def as_refusal(error: Exception, retry_after_s: float) -> Refusal:
    """What the caller is told. Failed is what no other case covers: its text says nothing of what went wrong."""
    error = cause_of(error)
    if isinstance(error, Refusal):
        if isinstance(error, Unavailable) and error.retry_after_s is None:
            error.retry_after_s = retry_after_s
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    if _CLIENT in names:
        return BadRequest(str(error))
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _by_status(status, str(getattr(error, "detail", "") or getattr(error, "message", "") or error))
    for name in names & _BY_NAME.keys():
        return Unavailable(_BY_NAME[name], retry_after_s=retry_after_s)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the answer took too long", retry_after_s=retry_after_s)
    return Failed("the request failed; the log has the reason under this request id")


def _by_status(status: int, message: str) -> Refusal:
    if status == 404:
        return UnknownModel(message)
    if status == 400:
        return BadRequest(message)
    return Answered(status, message)


def cause_of(error: Exception) -> Exception:
    """What was raised in the other process, out of Ray's wrappers."""
    seen: list[BaseException] = []
    while isinstance(inner := getattr(error, "cause", None), Exception) and inner not in seen:
        seen.append(error)
        error = inner
    return error


def body(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code", "request_id"}}``; OpenAI's clients read the first four."""
    kind = _TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "InternalServerError")
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": None,
            "code": refusal.code,
            "request_id": request_id,
        }
    }


def event(refusal: Refusal, request_id: str) -> str:
    """The same as the last event of a stream that has begun, whose status is said already."""
    return f"data: {json.dumps(body(refusal, request_id))}\n\n"
