"""What the work queue holds: the name of one object that has a ``decide`` of its own."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One RayService or RayCluster to reconcile. Two objects of one name in turn share a key; UIDs tell them apart."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
