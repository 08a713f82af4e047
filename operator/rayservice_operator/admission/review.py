"""``admission.k8s.io/v1`` AdmissionReview: what the API server asks, and how it wants to be answered.

The shapes are those of the Kubernetes page "Dynamic Admission Control". Of the request only what a review needs is
kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rayservice_operator.admission import messages
from rayservice_operator.admission.messages import Problem
from rayservice_operator.core.objects import Manifest, name_of

API_VERSION: Final = "admission.k8s.io/v1"
REFUSED: Final = 422


class BadReview(ValueError):  # noqa: N818
    """A body that is no AdmissionReview; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """One write that somebody asks for. ``operation`` is CREATE or UPDATE; ``old`` is None for the former.

    ``user`` is the name that the API server authenticated; ``subresource`` is empty for the object itself.
    """

    uid: str
    kind: str
    namespace: str
    operation: str
    user: str
    obj: Manifest
    old: Manifest | None = None
    subresource: str = ""

    def __str__(self) -> str:
        name = name_of(self.obj)
        return f"{self.kind} {self.namespace}/{name}" if self.namespace else f"{self.kind} {name}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Any ``errors`` refuse the write. ``warnings`` are shown to the client either way, the most important first."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


Reviewer: TypeAlias = Callable[[ReviewRequest], Verdict]
"""A pure function, called in a thread of its own. What it raises is a mistake in the operator."""


def read(body: bytes) -> ReviewRequest:
    """The request in the body of a POST. Raises BadReview."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadReview(f"the body is no JSON: {error}") from error
    if not isinstance(review, dict) or review.get("apiVersion") != API_VERSION:
        raise BadReview(f"the body is no AdmissionReview of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise BadReview("the AdmissionReview has no request with a uid")
    obj, old = request.get("object"), request.get("oldObject")
    return ReviewRequest(
        uid=request["uid"],
        kind=_text(_mapping(request.get("kind")).get("kind")),
        namespace=_text(request.get("namespace")),
        operation=_text(request.get("operation")),
        user=_text(_mapping(request.get("userInfo")).get("username")),
        obj=_mapping(obj),
        old=old if isinstance(old, dict) else None,
        subresource=_text(request.get("subResource")),
    )


def answer(request: ReviewRequest, verdict: Verdict) -> bytes:
    """The body of the answer."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": not verdict.errors}
    if verdict.errors:
        response["status"] = _status(request, verdict)
    if verdict.warnings:
        response["warnings"] = messages.fitted(verdict.warnings)
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return json.dumps(review, separators=(",", ":")).encode()


def _status(request: ReviewRequest, verdict: Verdict) -> dict[str, Any]:
    """A ``metav1.Status`` as the API server itself makes for an invalid object.

    kubectl prints ``details.causes``, one a line, and leaves ``message`` out when there are any; everybody else
    (controllers of GitOps tools, client libraries) shows ``message``.
    """
    return {
        "status": "Failure",
        "code": REFUSED,
        "reason": "Invalid",
        "message": messages.refusal(verdict.errors),
        "details": {
            "group": "ray.io",
            "kind": request.kind,
            "name": name_of(request.obj),
            "causes": messages.causes(verdict.errors),
        },
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
