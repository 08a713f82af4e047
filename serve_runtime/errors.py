"""What an application answers instead of a result: raised by predictors and steps, turned into HTTP in one place.

A predictor may raise these to say whose fault it is; what else it raises is its own fault and becomes a 500 with a
request id. Nothing here needs Ray.
"""

from __future__ import annotations

import math
from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure of the program
    """An answer with a status.

    code: a word for programs, stable over releases. details: JSON for people who look closer (places in the input).
    retry_after_s: seconds after which asking again may help; None where it never does.
    """

    status = 500
    code = "refused"

    def __init__(self, message: str, *, details: Any = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, at least one, where there is a time."""
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}

    def body(self, request_id: str) -> dict[str, Any]:
        """``{"error": {"code", "message", "request_id", "details"?}}``."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.details is not None:
            error["details"] = self.details
        return {"error": error}


class MalformedInput(Refusal):
    """The body is not what its content type says."""

    status = 400
    code = "malformed_input"


class BadInput(Refusal):
    """The body is readable and yet not what the application takes."""

    status = 422
    code = "bad_input"


class UnsupportedInput(Refusal):
    """A content type that the application does not take."""

    status = 415
    code = "unsupported_content_type"


class NotAcceptable(Refusal):
    """No form that the caller accepts can be given."""

    status = 406
    code = "not_acceptable"


class TooLarge(Refusal):
    """The body is larger than ``max_body_bytes``."""

    status = 413
    code = "too_large"


class NoModelNamed(Refusal):
    """Several models, no default, and the request names none."""

    status = 400
    code = "no_model_named"


class UnknownModel(Refusal):
    """No model has this id; a predictor's constructor may raise it too."""

    status = 404
    code = "unknown_model"


class Unavailable(Refusal):
    """Not now: a model that cannot be loaded or is ill, a dependency that is away."""

    status = 503
    code = "unavailable"


class DeadlineExceeded(Unavailable):
    """``timeout_s`` has passed."""

    code = "deadline_exceeded"


class Failed(Refusal):
    """The application's own fault; the message says no more than that, the log has the rest under the request id."""

    status = 500
    code = "failed"
