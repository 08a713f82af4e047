"""Requests as the API server makes them."""

from __future__ import annotations

from typing import Any

from rayservice_operator.admission.review import ReviewRequest
from rayservice_operator.core.objects import Manifest


def request(obj: Manifest, old: Manifest | None = None, **others: Any) -> ReviewRequest:
    """A create of ``obj``, or its update from ``old``, by somebody."""
    values: dict[str, Any] = {
        "uid": "u",
        "kind": obj["kind"],
        "namespace": obj["metadata"].get("namespace", "default"),
        "operation": "CREATE" if old is None else "UPDATE",
        "user": "somebody",
        "obj": obj,
        "old": old,
    }
    return ReviewRequest(**{**values, **others})
