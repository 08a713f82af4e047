"""What ``kubectl apply`` makes of an object: its three-way merge, for kinds without a patch strategy of their own.

Source: kubectl's apply (``jsonmergepatch.CreateThreeWayJSONMergePatch``): maps are merged key by key, lists and plain
values replaced; what the manifest applied last had and this one has not is removed; what others have set stays.
"""

from __future__ import annotations

import json
from typing import Any, Final

from rayservice_operator.core.objects import Manifest, annotations_of, metadata

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def applied(live: Manifest, file: Manifest) -> Manifest:
    """The object after ``kubectl apply`` of ``file``, as far as labels, annotations and spec go.

    Where nothing says what was applied last, the whole spec of the file counts, and its labels and annotations are
    added to those that are there.
    """
    last = _last(live)
    meta = dict(metadata(live))
    for key in ("labels", "annotations"):
        merged = _merged(
            meta.get(key) or {}, (metadata(last) if last else {}).get(key) or {}, metadata(file).get(key) or {}
        )
        if merged or key in meta:
            meta[key] = merged
    before = live.get("spec") or {}
    return {
        **live,
        "metadata": meta,
        "spec": _merged(before, last.get("spec") or {} if last else before, file.get("spec") or {}),
    }


def _last(live: Manifest) -> Manifest | None:
    try:
        found = json.loads(annotations_of(live)[LAST_APPLIED])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _merged(live: Any, last: Any, file: Any) -> Any:
    if not isinstance(file, dict) or not isinstance(live, dict):
        return _without_nulls(file)
    before = last if isinstance(last, dict) else {}
    kept = {key: value for key, value in live.items() if key in file or key not in before}
    for key, value in file.items():
        if value is None:
            kept.pop(key, None)
        elif key in live:
            kept[key] = _merged(live[key], before.get(key), value)
        else:
            kept[key] = _without_nulls(value)
    return kept


def _without_nulls(value: Any) -> Any:
    """A null in a map that is added is nothing (RFC 7386); lists stay as they are."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def patch(before: Any, after: Any) -> Manifest:
    """The JSON merge patch (RFC 7386) from one map to another."""
    changed: Manifest = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            changed[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            if inside := patch(before[key], value):
                changed[key] = inside
        elif value != before[key]:
            changed[key] = value
    return changed
