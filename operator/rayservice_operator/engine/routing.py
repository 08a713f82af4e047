"""Whose business a change is: from an object to the keys that look at it."""

from __future__ import annotations

from collections.abc import Iterator

from rayservice_operator.api import names
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, controller_uid, labels_of, metadata, name_of, uid_of
from rayservice_operator.engine.queue import Priority
from rayservice_operator.kube.store import SERVICE_NAME_LABEL, Change, Store

PRIMARY = frozenset({"RayService", "RayCluster"})


def route(store: Store, change: Change) -> dict[Key, Priority]:
    """Keys to mark dirty for ``change``, with how urgent each is."""
    keys: dict[Key, Priority] = {}
    for obj in (change.old, change.new):
        if obj is not None:
            for key in _concerned(store, obj):
                keys[key] = Priority.CHILD
    newest = change.new or change.old
    if newest is not None and newest["kind"] in PRIMARY and _edited(change):
        keys[Key(newest["kind"], metadata(newest).get("namespace", ""), name_of(newest))] = Priority.SPEC
    return keys


def _edited(change: Change) -> bool:
    """Whether a person's (or their tool's) change is in it: anything but status."""
    if change.old is None or change.new is None:
        return True
    watched = ("generation", "uid", "deletionTimestamp", "annotations", "labels")
    return any(metadata(change.old).get(field) != metadata(change.new).get(field) for field in watched)


def _concerned(store: Store, obj: Manifest) -> Iterator[Key]:
    """``obj`` itself if it has a key, and its owners up to the top."""
    kind, namespace = obj["kind"], metadata(obj).get("namespace", "")
    if kind in PRIMARY:
        yield Key(kind, namespace, name_of(obj))
    if kind == "EndpointSlice":
        yield from _of_slice(store, obj, namespace)
        return
    if kind == "PodDisruptionBudget" and controller_uid(obj) is None:
        # A user's own: whoever has pods that it may select.
        for cluster in store.within("RayCluster", namespace):
            yield Key("RayCluster", namespace, name_of(cluster))
    for owner in metadata(obj).get("ownerReferences") or ():
        if not owner.get("controller") or owner["kind"] not in PRIMARY:
            continue
        yield Key(owner["kind"], namespace, owner["name"])
        parent = store.get(owner["kind"], namespace, owner["name"])
        if kind not in PRIMARY and parent is not None and uid_of(parent) == owner["uid"]:
            yield from _concerned(store, parent)


def _of_slice(store: Store, obj: Manifest, namespace: str) -> Iterator[Key]:
    """By the Service it belongs to; by the labels it inherits where that is not in the store (yet, or any more)."""
    labels = labels_of(obj)
    service = store.get("Service", namespace, labels.get(SERVICE_NAME_LABEL, ""))
    if service is not None:
        yield from _concerned(store, service)
    elif labels.get(names.ORIGIN_KIND) == "RayService" and labels.get(names.ORIGIN_NAME):
        yield Key("RayService", namespace, labels[names.ORIGIN_NAME])
