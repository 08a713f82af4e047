"""The kinds that the operator reads and writes, and where the API server keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from rayservice_operator.core.objects import Ref


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: ``group`` is empty for the core API."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection (of all namespaces when None), an object or its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


_TABLE: tuple[tuple[str, str, str, str], ...] = (
    ("Pod", "", "v1", "pods"),
    ("Service", "", "v1", "services"),
    ("ServiceAccount", "", "v1", "serviceaccounts"),
    ("Secret", "", "v1", "secrets"),
    ("ConfigMap", "", "v1", "configmaps"),
    ("ResourceQuota", "", "v1", "resourcequotas"),
    ("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    ("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    ("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("Job", "batch", "v1", "jobs"),
    ("Ingress", "networking.k8s.io", "v1", "ingresses"),
    ("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    ("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    ("ControllerRevision", "apps", "v1", "controllerrevisions"),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    ("Gateway", "gateway.networking.k8s.io", "v1", "gateways"),
    ("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes"),
    ("RayService", "ray.io", "v1", "rayservices"),
    ("RayCluster", "ray.io", "v1", "rayclusters"),
    ("Lease", "coordination.k8s.io", "v1", "leases"),
    ("Event", "events.k8s.io", "v1", "events"),
)

RESOURCES: Final[Mapping[str, Resource]] = {
    "Node": Resource("Node", "", "v1", "nodes", namespaced=False),
    "ValidatingWebhookConfiguration": Resource(
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        namespaced=False,
    ),
    **{row[0]: Resource(*row) for row in _TABLE},
}
"""By kind. A kind is in here once: the operator uses one version of each."""


def resource(kind: str) -> Resource:
    """The table's row for ``kind``.

    Raises LookupError for a kind that the operator does not deal in: a mistake in a decision.
    """
    try:
        return RESOURCES[kind]
    except KeyError:
        raise LookupError(f"kind {kind!r} is not in kube.resources; add it there and to the chart's RBAC") from None


def reference(kind: str, namespace: str, name: str, uid: str = "") -> Ref:
    """A Ref with the table's ``apiVersion``."""
    return Ref(resource(kind).api_version, kind, namespace, name, uid)
