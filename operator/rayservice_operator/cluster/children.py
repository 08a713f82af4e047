"""Children that are applied: written only when what is stored is not what is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rayservice_operator.cluster.view import digest
from rayservice_operator.core.decision import Apply
from rayservice_operator.core.diff import covers
from rayservice_operator.core.objects import Manifest, annotations_of, is_terminating, name_of

DIGEST: Final = "rayservice.ray.io/digest"
"""Annotation with the digest of what was applied: shows that something was taken *out* of the wanted object, which
a comparison of the wanted fields alone cannot."""


def find(children: Iterable[Manifest], kind: str, name: str) -> Manifest | None:
    """The child of that kind and name."""
    return next((child for child in children if child.get("kind") == kind and name_of(child) == name), None)


def changes(children: Iterable[Manifest], wanted: Iterable[Manifest]) -> list[Apply]:
    """An Apply for each wanted object that is absent, was changed by somebody, or is to be otherwise than before."""
    stored = list(children)
    result = []
    for obj in wanted:
        meta = obj["metadata"]
        marked = {
            **obj,
            "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), DIGEST: digest(obj, length=16)}},
        }
        present = find(stored, obj["kind"], name_of(obj))
        if present is not None and is_terminating(present):
            continue  # applying to it would be lost with it; its end is the next event
        if (
            present is None
            or annotations_of(present).get(DIGEST) != digest(obj, length=16)
            or not covers(present, marked)
        ):
            result.append(Apply(marked))
    return result
