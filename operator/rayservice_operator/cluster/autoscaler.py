"""Ray's autoscaler: a sidecar of the head and the rights it needs.

It writes ``replicas`` and ``scaleStrategy.workersToDelete`` of the RayCluster itself; this operator carries them out.
"""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import auth
from rayservice_operator.cluster.env import from_field, merged, variable
from rayservice_operator.cluster.view import ClusterView
from rayservice_operator.core.objects import Manifest, owner_reference

CONTAINER: Final = "autoscaler"
COMMAND: Final = (
    "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)"
)
_RESOURCES: Final = {"cpu": "500m", "memory": "512Mi"}

RULES: Final[list[dict[str, Any]]] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
    {"apiGroups": [names.GROUP], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
]


def service_account(view: ClusterView) -> str:
    """Service account of the head: the user's, which must then exist, else one named as the cluster."""
    return str(view.head.pod_spec.get("serviceAccountName") or view.name)


def container(view: ClusterView) -> dict[str, Any]:
    """The sidecar, with the user's overrides of ``autoscalerOptions``."""
    options = view.autoscaler_options
    env = [
        from_field("RAY_CLUSTER_NAME", f"metadata.labels['{names.CLUSTER}']"),
        from_field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
        from_field("RAY_HEAD_POD_NAME", "metadata.name"),
        variable("KUBERAY_CRD_VER", names.VERSION),
        variable("KUBERAY_GEN_AUTOSCALER_START_CMD", COMMAND),
        *auth.env(view),
    ]
    result: dict[str, Any] = {
        "name": CONTAINER,
        "image": options.image or view.head.ray_container.get("image"),
        "imagePullPolicy": options.image_pull_policy or "IfNotPresent",
        "command": list(options.command) or ["/bin/bash", "-lc" if view.config.login_shell else "-c", "--"],
        "args": list(options.args) or [COMMAND],
        "env": merged(env, options.env),
        "resources": options.resources or {"requests": dict(_RESOURCES), "limits": dict(_RESOURCES)},
    }
    optional = {
        "envFrom": options.env_from,
        "volumeMounts": [dict(mount) for mount in options.volume_mounts],
        "securityContext": options.security_context,
    }
    return result | {key: value for key, value in optional.items() if value}


def rbac(view: ClusterView) -> list[Manifest]:
    """ServiceAccount (unless the user has one), Role and RoleBinding."""
    if not view.autoscaling:
        return []
    meta = {
        "name": view.name,
        "namespace": view.namespace,
        "labels": {
            names.CLUSTER: view.name,
            names.APP_NAME: names.APP_NAME_VALUE,
            names.CREATED_BY: names.CREATED_BY_VALUE,
        },
        "ownerReferences": [owner_reference(view.obj)],
    }
    group = "rbac.authorization.k8s.io"
    account = service_account(view)
    role: Manifest = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": RULES}
    binding: Manifest = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": view.namespace}],
        "roleRef": {"apiGroup": group, "kind": "Role", "name": view.name},
    }
    own: list[Manifest] = (
        [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}] if account == view.name else []
    )
    return [*own, role, binding]
