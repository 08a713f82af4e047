"""Which manager owns which field, as far as server-side apply with one applying manager needs it.

An object is a set of leaf paths. A path's element is a map key, or for lists that the API merges by key the tuple of
``(key, value)`` pairs of the item. Everything else that is a list counts as one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.sim.schema import clone

Element = str | tuple[tuple[str, Any], ...]
Path = tuple[Element, ...]

_ANY_LISTS: Mapping[str, tuple[str, ...]] = {
    "metadata.ownerReferences": ("uid",),
    "status.conditions": ("type",),
}
_LISTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Service": {"spec.ports": ("port", "protocol")},
    "Pod": {
        "spec.containers": ("name",),
        "spec.initContainers": ("name",),
        "spec.volumes": ("name",),
        "spec.containers.env": ("name",),
        "spec.initContainers.env": ("name",),
        "spec.containers.ports": ("containerPort", "protocol"),
        "spec.containers.volumeMounts": ("mountPath",),
    },
}
_ATOMIC: Mapping[str, frozenset[str]] = {"Service": frozenset({"spec.selector"})}
_NOT_OWNED = frozenset(
    {
        "apiVersion",
        "kind",
        "metadata.name",
        "metadata.generateName",
        "metadata.namespace",
        "metadata.uid",
        "metadata.resourceVersion",
        "metadata.generation",
        "metadata.creationTimestamp",
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
    }
)


def _keys(kind: str, dotted: str) -> tuple[str, ...] | None:
    return _ANY_LISTS.get(dotted) or _LISTS.get(kind, {}).get(dotted)


def leaves(obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Every leaf with its value."""
    found: dict[Path, Any] = {}
    _collect(found, obj, str(obj["kind"]), (), "")
    return found


def _collect(found: dict[Path, Any], value: Any, kind: str, path: Path, dotted: str) -> None:
    if dotted in _NOT_OWNED:
        return
    if isinstance(value, dict) and value and dotted not in _ATOMIC.get(kind, ()):
        for key, inner in value.items():
            _collect(found, inner, kind, (*path, key), f"{dotted}.{key}" if dotted else key)
        return
    keys = _keys(kind, dotted) if isinstance(value, list) and value else None
    if keys is None:
        found[path] = value
        return
    for item in value:
        element = tuple((key, item.get(key, "TCP" if key == "protocol" else None)) for key in keys)
        for key, inner in item.items():
            _collect(found, inner, kind, (*path, element, key), f"{dotted}.{key}")


def merge(live: Mapping[str, Any], applied: Mapping[Path, Any], dropped: set[Path]) -> dict[str, Any]:
    """``live`` with ``applied`` put in and the ``dropped`` leaves taken out."""
    result: dict[str, Any] = clone(live)
    for path in dropped:
        _remove(result, path)
    for path, value in applied.items():
        _put(result, path, clone(value))
    return result


def _put(target: Any, path: Path, value: Any) -> None:
    head, rest = path[0], path[1:]
    if isinstance(head, tuple):
        item = _item(target, head)
        if item is None:
            item = dict(head)
            target.append(item)
        _put(item, rest, value)
    elif not rest:
        target[head] = value
    else:
        inner = target.get(head)
        wanted = list if isinstance(rest[0], tuple) else dict
        if not isinstance(inner, wanted):
            inner = target[head] = wanted()
        _put(inner, rest, value)


def _remove(target: Any, path: Path) -> None:
    head, rest = path[0], path[1:]
    if isinstance(head, tuple):
        item = _item(target, head) if isinstance(target, list) else None
        if item is None:
            return
        if len(rest) == 1 and rest[0] in dict(head):
            target.remove(item)  # nobody wants the item any more; what was filled in goes with it
        else:
            _remove(item, rest)
    elif not rest:
        target.pop(head, None)
    elif isinstance(target.get(head), dict | list):
        _remove(target[head], rest)
        if not target[head]:
            del target[head]


def _item(items: Any, element: tuple[tuple[str, Any], ...]) -> Any:
    for item in items:
        if all(item.get(key, "TCP" if key == "protocol" else None) == value for key, value in element):
            return item
    return None
