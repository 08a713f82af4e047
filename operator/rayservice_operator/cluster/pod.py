"""Head and worker pods from the user's templates.

Everything in a template reaches the pod. Ray's container is ``containers[0]``; what is added to it yields to what
the user wrote there.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import autoscaler, connections, drain, env, gcs, init, services, volumes
from rayservice_operator.cluster.command import container_command, overwritten, ray_start, start_params
from rayservice_operator.cluster.probes import probes
from rayservice_operator.cluster.view import ClusterView, GroupView, digest
from rayservice_operator.core.objects import Manifest, owner_reference

HEAD_UID: Final = "rayservice.ray.io/head-uid"
"""Annotation of a worker: UID of the head pod in whose session it was started."""

ATTEMPT: Final = "rayservice.ray.io/attempt"
"""Annotation of a pod that replaces one that died young: how many did in a row."""

MAX_PREFIX: Final = 50


def head_name(view: ClusterView, slot: int) -> str:
    """Name of the head pod of that slot. One slot, one name: a repeated creation makes no second head."""
    return f"{view.name[:MAX_PREFIX]}-head-{names.short_hash(view.uid, str(slot))}"


def build_head(view: ClusterView, *, slot: int, attempt: int = 0) -> Manifest:
    """The head pod for the given slot."""
    pod = _build(view, view.head, attempt)
    pod["metadata"]["name"] = head_name(view, slot)
    return pod


def build_worker(view: ClusterView, group: GroupView, *, head_uid: str, attempt: int = 0) -> Manifest:
    """A worker pod of that group for the session of the head pod ``head_uid``."""
    pod = _build(view, group, attempt)
    prefix = f"{view.name[:MAX_PREFIX]}-{group.name}-worker".lower()
    pod["metadata"]["generateName"] = re.sub(r"[^a-z0-9.-]", "-", prefix)[:MAX_PREFIX].rstrip("-.") + "-"
    if head_uid:
        pod["metadata"]["annotations"][HEAD_UID] = head_uid
    return pod


def for_dry_run(view: ClusterView, group: GroupView) -> Manifest:
    """A pod of the group as the API server shall judge it: any name, no head yet."""
    pod = build_head(view, slot=0) if group.is_head else build_worker(view, group, head_uid="")
    pod["metadata"].setdefault("generateName", pod["metadata"].pop("name", "") + "-")
    return pod


def dry_run_key(pod: Manifest) -> str:
    """Key of the verdict on a pod: the same for every pod of one group, whatever its name, session or attempt."""
    meta = pod["metadata"]
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in {HEAD_UID, ATTEMPT}}
    rest = {k: v for k, v in meta.items() if k not in {"name", "generateName", "annotations"}}
    return digest([rest, annotations, pod["spec"]])


def _build(view: ClusterView, group: GroupView, attempt: int) -> Manifest:
    params = start_params(view, group)
    line = ray_start(params, head=group.is_head)
    spec: dict[str, Any] = copy.deepcopy(dict(group.pod_spec))
    ray = spec["containers"][0]

    ray.update(container_command(view, group, line, before=connections.export(view, group)))
    ray["env"] = env.merged(env.ray_env(view, group, line), ray.get("env") or (), view.config.default_env)
    ray.update(copy.deepcopy(probes(view, group, params)))
    ports = ray.setdefault("ports", [])
    if all(port.get("name") != "metrics" for port in ports):
        ports.append({"name": "metrics", "containerPort": names.DEFAULT_HEAD_PORTS["metrics"]})
    volumes.add_shared_memory(spec, params)

    for item in spec.get("initContainers") or ():
        item["env"] = env.merged(env.head_address(view), item.get("env") or ())
    if group.is_head and view.autoscaling:
        sidecar = autoscaler.container(view)
        volumes.add_shared_logs(spec, sidecar, params)
        spec["containers"].append(sidecar)
        spec["serviceAccountName"] = autoscaler.service_account(view)
    if not group.is_head and view.config.inject_init_container:
        waiting = init.container(view, copy.deepcopy(ray), params["address"])
        spec.setdefault("initContainers", []).append(waiting)
    drain.add_hook(view, group, spec, params.get("address", ""))
    connections.add_module(view, group, spec)
    if view.autoscaler_v2:
        spec["restartPolicy"] = "Never"  # v2 takes a restarted container for the dead instance that it was

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(view, group, attempt),
        "spec": spec,
    }


def _metadata(view: ClusterView, group: GroupView, attempt: int) -> dict[str, Any]:
    template: Mapping[str, Any] = group.template.get("metadata") or {}
    annotations = {
        **_kept(template.get("annotations")),
        **gcs.pod_annotations(view, group),
        **connections.pod_annotations(view, group),
        names.TEMPLATE_HASH: group.template_hash,
    }
    if overwritten(view, group):
        annotations[names.OVERWRITE_CONTAINER_CMD] = "true"
    if attempt:
        annotations[ATTEMPT] = str(attempt)
    return {
        "namespace": view.namespace,
        "labels": labels(view, group),
        "annotations": annotations,
        "ownerReferences": [owner_reference(view.obj)],
        **({"finalizers": list(template["finalizers"])} if template.get("finalizers") else {}),
    }


def labels(view: ClusterView, group: GroupView) -> dict[str, str]:
    """The labels that a pod of the group is born with."""
    template = _kept((group.template.get("metadata") or {}).get("labels"))
    node_type = names.HEAD if group.is_head else names.WORKER
    found = {
        names.APP_NAME: names.APP_NAME_VALUE,
        names.CREATED_BY: names.CREATED_BY_VALUE,
        **template,
        **group.spec.labels,
        names.CLUSTER: view.name,
        names.NODE_TYPE: node_type,
        names.NODE_GROUP: group.name,
        names.IS_RAY_NODE: "yes",
        names.IDENTIFIER: services.identifier(view.name, node_type),
    }
    if view.owned_by_service:
        found[names.SERVE] = "false"  # the RayService controller turns it when the pod's proxy answers
        if service := view.labels.get(names.ORIGIN_NAME):
            found[names.RAYSERVICE] = service
    elif view.wants_serve_service:
        # Nobody asks the proxies of a standalone cluster. The head has one whenever Serve runs, a worker only
        # while a replica is on it, so only the head is sure to answer; it passes requests on to every replica.
        found[names.SERVE] = "true" if group.is_head else "false"
    return found


def _kept(keys: Mapping[str, Any] | None) -> dict[str, str]:
    """Labels or annotations of a template without the marks of deployment tools.

    ``app.kubernetes.io/instance`` is one of these on an object that a tool applied; written into a template it is
    the user's own label, and their services may select on it.
    """
    return {
        str(key): str(value)
        for key, value in (keys or {}).items()
        if key == "app.kubernetes.io/instance" or not names.is_tracking_key(key)
    }
