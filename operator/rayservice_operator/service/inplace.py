"""Edits of ``rayClusterConfig`` that a running RayCluster takes over without being replaced.

JSON patches with ``test`` operations, because the Ray autoscaler writes ``replicas`` and ``scaleStrategy`` of
the same object (ray-project/ray, kuberay node provider): a merge patch of the list would undo its work.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.core.decision import JsonPatch
from rayservice_operator.core.objects import Manifest, annotations_of, ref
from rayservice_operator.service import hashing

Operation = dict[str, Any]
MISSING = object()
AUTOSCALED_FIELDS = frozenset({"replicas", "scaleStrategy"})


def applied_scale(cluster_spec: Manifest) -> str:
    """What the user asked for in the fields shared with the autoscaler, as stored in an annotation.

    With it a user's edit is told from the autoscaler's: only a value that differs from this one is an edit.
    """
    scale = {
        group["groupName"]: [group.get("replicas"), (group.get("scaleStrategy") or {}).get("workersToDelete") or []]
        for group in cluster_spec.get("workerGroupSpecs") or []
    }
    return json.dumps(scale, sort_keys=True, separators=(",", ":"))


def patch(cluster: Manifest, wanted: Manifest) -> JsonPatch | None:
    """The patch that brings ``cluster`` to the in-place fields of the RayClusterSpec ``wanted``; None if it is there.

    Call it only when :func:`hashing.matches` holds.
    """
    operations = [*spec_operations(cluster, wanted), *annotate(cluster, bookkeeping(wanted))]
    return JsonPatch(ref(cluster), tuple(operations)) if operations else None


def suspension(cluster: Manifest, wanted: Manifest) -> JsonPatch | None:
    """The patch that takes an edit of ``rayClusterConfig.suspend`` over to ``cluster``; None where there was none.

    Only an edit: a queue writes the field of the RayCluster itself (Kueue holds a new cluster back by it until there
    is quota), and what it wrote stays. Pods come and go without another cluster, so this is asked of each live one.
    """
    asked = bool(wanted.get("suspend"))
    if asked == (annotations_of(cluster).get(names.SUSPEND_APPLIED) == "true"):
        return None
    operations = [
        {"op": "add", "path": "/spec/suspend", "value": asked},
        *annotate(cluster, applied_suspend(wanted) or {names.SUSPEND_APPLIED: None}),
    ]
    return JsonPatch(ref(cluster), tuple(operations))


def applied_suspend(wanted: Manifest) -> dict[str, str]:
    """The annotation of a RayCluster that says which ``suspend`` it was given; none for false."""
    return {names.SUSPEND_APPLIED: "true"} if wanted.get("suspend") else {}


def spec_operations(cluster: Manifest, wanted: Manifest, anew: Collection[str] = ()) -> list[Operation]:
    """Operations that bring the spec of ``cluster`` to the in-place fields of the RayClusterSpec ``wanted``.

    anew: groups (``headgroup`` is the head) that take over all that their pods are made from as well.
    """
    spec = cluster["spec"]
    head, wanted_head = spec["headGroupSpec"], wanted["headGroupSpec"]
    operations: list[Operation] = []
    operations += _fields(spec, wanted, [f for f in hashing.CLUSTER_FIELDS if f != "suspend"], "/spec")
    operations += _autoscaler(spec, wanted)
    operations += _fields(head, wanted_head, hashing.HEAD_FIELDS, "/spec/headGroupSpec")
    operations += _pod(head, wanted_head, "/spec/headGroupSpec", anew=names.HEAD_GROUP in anew)
    groups = spec.get("workerGroupSpecs") or []
    wanted_groups = wanted.get("workerGroupSpecs") or []
    edited = _edited_scale(cluster, wanted)
    for index, (group, wanted_group) in enumerate(zip(groups, wanted_groups, strict=False)):
        base = f"/spec/workerGroupSpecs/{index}"
        changes = [
            *_scale(group, wanted_group, base, edited=group["groupName"] in edited, shared=_autoscaled(wanted)),
            *_fields(
                group,
                wanted_group,
                [f for f in hashing.GROUP_FIELDS if f not in AUTOSCALED_FIELDS],
                base,
                keep_defaults=True,
            ),
            *_pod(group, wanted_group, base, anew=group["groupName"] in anew),
        ]
        if changes:
            operations.append({"op": "test", "path": f"{base}/groupName", "value": group["groupName"]})
            operations += changes
    appended = wanted_groups[len(groups) :]
    if appended and not groups:
        operations.append({"op": "add", "path": "/spec/workerGroupSpecs", "value": []})
    operations += [{"op": "add", "path": "/spec/workerGroupSpecs/-", "value": group} for group in appended]
    return operations


def _autoscaled(spec: Manifest) -> bool:
    return bool(spec.get("enableInTreeAutoscaling"))


def _edited_scale(cluster: Manifest, wanted: Manifest) -> set[str]:
    """Names of the groups whose replicas or workersToDelete the user changed since they were last applied."""
    recorded = json.loads(annotations_of(cluster).get(names.IN_PLACE_APPLIED) or "{}")
    current = json.loads(applied_scale(wanted))
    return {name for name, scale in current.items() if recorded.get(name) != scale}


def _scale(group: Manifest, wanted: Manifest, base: str, *, edited: bool, shared: bool) -> Iterator[Operation]:
    if shared and not edited:
        return  # the autoscaler's numbers are newer than the manifest's
    replicas = wanted.get("replicas")
    if replicas is not None and replicas != group.get("replicas"):
        yield {"op": "add", "path": f"{base}/replicas", "value": replicas}
    to_delete = (wanted.get("scaleStrategy") or {}).get("workersToDelete") or []
    if edited and to_delete:
        yield {"op": "add", "path": f"{base}/scaleStrategy", "value": {"workersToDelete": to_delete}}


def _autoscaler(spec: Manifest, wanted: Manifest) -> Iterator[Operation]:
    options = wanted.get("autoscalerOptions") or {}
    stored = spec.get("autoscalerOptions")
    if stored is None:
        if any(options.get(field) is not None for field in hashing.AUTOSCALER_FIELDS):
            yield {"op": "add", "path": "/spec/autoscalerOptions", "value": options}
        return
    yield from _fields(stored, options, hashing.AUTOSCALER_FIELDS, "/spec/autoscalerOptions")


def _pod(group: Manifest, wanted: Manifest, base: str, *, anew: bool) -> Iterator[Operation]:
    if anew:
        yield from _fields(group, wanted, hashing.MADE_FROM, base)
        return
    pod_spec = (group.get("template") or {}).get("spec")
    wanted_spec = (wanted.get("template") or {}).get("spec") or {}
    if pod_spec is not None:
        yield from _fields(pod_spec, wanted_spec, hashing.POD_FIELDS, f"{base}/template/spec")


def _fields(
    stored: Manifest, wanted: Manifest, fields: Any, base: str, *, keep_defaults: bool = False
) -> Iterator[Operation]:
    """Operations that make ``fields`` of ``stored`` those of ``wanted``; ``keep_defaults``: absent leaves them."""
    for field in fields:
        old, new = stored.get(field, MISSING), wanted.get(field, MISSING)
        if old == new or (keep_defaults and new is MISSING) or field in ("upgradeStrategy", "managedBy"):
            continue
        if new is MISSING or new is None:
            if old is not MISSING:
                yield {"op": "remove", "path": f"{base}/{field}"}
        else:
            yield {"op": "add", "path": f"{base}/{field}", "value": new}


def bookkeeping(wanted: Manifest) -> dict[str, str]:
    """Annotations of a RayCluster that has become ``wanted``."""
    return {
        names.IN_PLACE_APPLIED: applied_scale(wanted),
        names.SPEC_HASH: hashing.cluster_hash(wanted),
        names.NUM_WORKER_GROUPS: str(len(wanted.get("workerGroupSpecs") or [])),
    }


def annotate(cluster: Manifest, values: Mapping[str, str | None]) -> Iterator[Operation]:
    """Operations that give the annotations of ``cluster`` these values, where they differ; None takes one away."""
    stored = annotations_of(cluster)
    for key, value in values.items():
        path = f"/metadata/annotations/{key.replace('~', '~0').replace('/', '~1')}"
        if value is None and key in stored:
            yield {"op": "remove", "path": path}
        elif value is not None and stored.get(key) != value:
            yield {"op": "add", "path": path, "value": value}
