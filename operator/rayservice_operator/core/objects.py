"""Kubernetes objects as plain JSON: references and the few accessors that everything else uses.

The core works on dictionaries as the API server sends them, so nothing is lost by a typed round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Manifest: TypeAlias = dict[str, Any]
"""One Kubernetes object, JSON as the API server speaks it. Treated as immutable by everyone who reads it."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one object. ``uid``, when set, is a precondition: another object of that name is not meant."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def ref(obj: Manifest, *, with_uid: bool = True) -> Ref:
    """The reference to ``obj``."""
    meta = metadata(obj)
    return Ref(
        api_version=obj["apiVersion"],
        kind=obj["kind"],
        namespace=meta.get("namespace", ""),
        name=meta.get("name", ""),
        uid=meta.get("uid", "") if with_uid else "",
    )


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """``.metadata`` or an empty mapping."""
    return obj.get("metadata") or {}


def name_of(obj: Mapping[str, Any]) -> str:
    """``.metadata.name``."""
    return str(metadata(obj).get("name", ""))


def uid_of(obj: Mapping[str, Any]) -> str:
    """``.metadata.uid``."""
    return str(metadata(obj).get("uid", ""))


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """``.metadata.labels`` or an empty mapping."""
    return metadata(obj).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """``.metadata.annotations`` or an empty mapping."""
    return metadata(obj).get("annotations") or {}


def generation_of(obj: Mapping[str, Any]) -> int:
    """``.metadata.generation``, 0 when absent."""
    return int(metadata(obj).get("generation") or 0)


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """Whether deletion has been asked for."""
    return bool(metadata(obj).get("deletionTimestamp"))


def controller_uid(obj: Mapping[str, Any]) -> str | None:
    """UID of the controlling owner, if any."""
    for owner in metadata(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return None


def owner_reference(obj: Manifest) -> dict[str, Any]:
    """A controlling owner reference to ``obj`` for its children."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": name_of(obj),
        "uid": uid_of(obj),
        "controller": True,
        "blockOwnerDeletion": True,
    }
