"""Services of a RayCluster: in front of the head and, for a standalone cluster that asks for it, of Ray Serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.cluster.view import ClusterView
from rayservice_operator.core.objects import Manifest, owner_reference


def head_labels(view: ClusterView) -> dict[str, str]:
    """The labels by which a head pod is known; a template may set the two of the app otherwise."""
    template = {**((view.head.template.get("metadata") or {}).get("labels") or {}), **view.head.spec.labels}
    return {
        names.CLUSTER: view.name,
        names.NODE_TYPE: names.HEAD,
        names.IDENTIFIER: identifier(view.name, names.HEAD),
        names.APP_NAME: template.get(names.APP_NAME, names.APP_NAME_VALUE),
        names.CREATED_BY: template.get(names.CREATED_BY, names.CREATED_BY_VALUE),
    }


def identifier(cluster: str, node_type: str) -> str:
    """Value of ``ray.io/identifier``, held to a label's 63 characters."""
    return f"{cluster}-{node_type}"[-63:].lstrip("-.")


def head_ports(view: ClusterView) -> dict[str, int]:
    """Port name -> number: those of the head container, else Ray's five; ``metrics`` always."""
    declared: dict[str, int] = {}
    for port in view.head.ray_container.get("ports") or ():
        number = int(port.get("containerPort") or 0)
        declared[str(port.get("name") or f"{number}-port")] = number
    ports = declared or dict(names.DEFAULT_HEAD_PORTS)
    ports.setdefault("metrics", names.DEFAULT_HEAD_PORTS["metrics"])
    return ports


def serve_ports(view: ClusterView) -> dict[str, int]:
    """Ports of the head container named ``serve`` or ``serve-*``, else 8000."""
    found = {name: port for name, port in head_ports(view).items() if name == "serve" or name.startswith("serve-")}
    return found or {"serve": names.DEFAULT_HEAD_PORTS["serve"]}


def head_service(view: ClusterView) -> Manifest:
    """``<cluster>-head-svc``.

    Headless and with addresses before readiness, because workers and the GCS must find each other while the head
    starts. Not headless where the user gives a type or a service of their own, or the operator is set to ClusterIP.
    """
    head = view.spec.head_group_spec
    user: Mapping[str, Any] = head.head_service or {}
    user_spec: Mapping[str, Any] = user.get("spec") or {}
    spec: dict[str, Any] = {
        **user_spec,
        "selector": {**(user_spec.get("selector") or {}), **head_labels(view)},
        "ports": merged_ports(head_ports(view), user_spec.get("ports") or ()),
    }
    if head.service_type:
        spec.setdefault("type", head.service_type)
    plain = head.service_type in {"", "ClusterIP"} and not user
    if plain and not head.service_type and not view.config.head_cluster_ip_service:
        spec.update(type="ClusterIP", clusterIP="None", publishNotReadyAddresses=True)
    spec.setdefault("type", "ClusterIP")
    meta: Mapping[str, Any] = user.get("metadata") or {}
    labels = {**_clean(meta.get("labels")), **head_labels(view)}
    annotations = {**_clean(meta.get("annotations")), **_clean(view.spec.head_service_annotations)}
    return _service(view, view.head_service_name, labels, annotations, spec)


def serve_service(view: ClusterView) -> Manifest | None:
    """``<cluster>-serve-svc`` of a standalone cluster annotated ``ray.io/enable-serve-service``."""
    if not view.wants_serve_service:
        return None
    name = names.serve_service_name(view.name)
    spec = {
        "type": view.spec.head_group_spec.service_type or "ClusterIP",
        "selector": {names.CLUSTER: view.name, names.SERVE: "true"},
        "ports": merged_ports(serve_ports(view), ()),
    }
    return _service(view, name, {names.CLUSTER: view.name, names.SERVE: name[:63]}, {}, spec)


def _service(
    view: ClusterView, name: str, labels: Mapping[str, str], annotations: Mapping[str, str], spec: Mapping[str, Any]
) -> Manifest:
    meta: dict[str, Any] = {
        "name": name,
        "namespace": view.namespace,
        "labels": {**labels, names.CREATED_BY: names.CREATED_BY_VALUE},  # by which the operator watches Services
        "ownerReferences": [owner_reference(view.obj)],
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": dict(spec)}


def merged_ports(ports: Mapping[str, int], user: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ours by name, each completed or replaced by the user's of that name (a nodePort, say), then the user's others."""
    theirs = {str(port.get("name", "")): dict(port) for port in user}
    ours = [
        {"name": name, "port": number, "targetPort": number, "protocol": "TCP", "appProtocol": "tcp"}
        | theirs.pop(name, {})
        for name, number in sorted(ports.items())
    ]
    return [*ours, *({"protocol": "TCP", **port} for port in theirs.values())]


def _clean(keys: Mapping[str, str] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (keys or {}).items() if not names.is_tracking_key(key)}
