"""The Ingress in front of a head's dashboard (``headGroupSpec.enableIngress``)."""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.raycluster import IngressOptions
from rayservice_operator.cluster import services
from rayservice_operator.cluster.view import ClusterView
from rayservice_operator.core.objects import Manifest, owner_reference

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
"""Annotation of the RayCluster that names the ingress class."""


def ingress(view: ClusterView) -> Manifest | None:
    """``<cluster>-head-ingress``, None unless asked for.

    The RayCluster's annotations come along, because that is where people configure their ingress controller; those
    of Ray and of deployment tools do not.
    """
    if not view.spec.head_group_spec.enable_ingress:
        return None
    options = view.spec.head_group_spec.ingress_options or IngressOptions()
    port = services.head_ports(view).get("dashboard", names.DEFAULT_HEAD_PORTS["dashboard"])
    path = {
        "path": options.path or "/",
        "pathType": options.path_type or "Prefix",
        "backend": {"service": {"name": view.head_service_name, "port": {"number": port}}},
    }
    rule: dict[str, Any] = {"http": {"paths": [path]}}
    if options.host:
        rule["host"] = options.host
    spec: dict[str, Any] = {"rules": [rule]}
    if options.tls:
        spec["tls"] = options.tls
    if view.annotations.get(CLASS_ANNOTATION):
        spec["ingressClassName"] = view.annotations[CLASS_ANNOTATION]
    annotations = {
        key: value
        for key, value in view.annotations.items()
        if key != CLASS_ANNOTATION and not names.is_tracking_key(key) and f"{names.GROUP}/" not in key
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": f"{view.name}-head-ingress",
            "namespace": view.namespace,
            "labels": {names.CLUSTER: view.name, names.CREATED_BY: names.CREATED_BY_VALUE},
            "ownerReferences": [owner_reference(view.obj)],
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": spec,
    }
