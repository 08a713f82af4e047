"""A GatewayClass for the end-to-end tests: Traefik's, or with ``GATEWAY_CLASS`` one that the cluster has already."""

import os
from dataclasses import dataclass
from typing import Any, cast

from e2e.cluster import Kind, Target
from e2e.gateway import crds, traefik
from e2e.localkube.progress import Steps
from e2e.support import Kube, Object

_GROUP, _VERSION = "gateway.networking.k8s.io", "v1"


class NoGatewayClassError(Exception):
    """There is none, and none is installed in a cluster of the user's own; the message says what to do."""


@dataclass(frozen=True)
class GatewayClass:
    """A class whose Gateways are served. ``name`` is what a RayService's ``gatewayClassName`` says."""

    kube: Kube
    name: str

    def gateway(self, namespace: str, name: str) -> Object:
        return self._get(namespace, "gateways", name)

    def route(self, namespace: str, name: str) -> Object:
        return self._get(namespace, "httproutes", name)

    def url(self, namespace: str, name: str) -> str:
        """Where pods reach a Gateway's first listener, one for HTTP; empty until the Gateway has an address."""
        gateway = self.gateway(namespace, name)
        addresses = gateway.get("status", {}).get("addresses", [])
        return f"http://{addresses[0]['value']}:{gateway['spec']['listeners'][0]['port']}/" if addresses else ""

    def _get(self, namespace: str, plural: str, name: str) -> Object:
        found = self.kube.custom.get_namespaced_custom_object(_GROUP, _VERSION, namespace, plural, name)
        return cast("Object", found)


def provide(target: Target, steps: Steps) -> GatewayClass:
    """Make sure that there is a GatewayClass which is served.

    :raises NoGatewayClassError: the cluster is the user's, who has named none.
    """
    if name := os.environ.get("GATEWAY_CLASS"):
        return GatewayClass(Kube(target), name)
    if target.kind is Kind.CURRENT:
        msg = "CLUSTER=current: set GATEWAY_CLASS to a GatewayClass of that cluster; none is installed there"
        raise NoGatewayClassError(msg)
    crds.install(target, steps)
    traefik.install(target, steps)
    return GatewayClass(Kube(target), traefik.CLASS)


def current(obj: dict[str, Any], kind: str) -> bool:
    """Whether a condition is True of the newest generation: of a Gateway, or of a route's one parent."""
    status = obj.get("status", {})
    conditions = status.get("conditions") or [c for parent in status.get("parents", []) for c in parent["conditions"]]
    return any(
        c["type"] == kind and c["status"] == "True" and c.get("observedGeneration") == obj["metadata"]["generation"]
        for c in conditions
    )
