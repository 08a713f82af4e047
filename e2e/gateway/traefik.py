"""Traefik in the cluster, the way its documentation has it: a Deployment, a Service, rights, and a GatewayClass.

On the local cluster its image is made of the program that was built from the Go module; elsewhere it is the public one.
"""

from typing import Any, Final

import yaml

from e2e.cluster import Kind, Target
from e2e.localkube import images, versions
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State
from e2e.localkube.progress import Steps

NAMESPACE: Final = "e2e-gateway"
CLASS: Final = "traefik"
CONTROLLER: Final = "traefik.io/gateway-controller"

_NAME = "traefik"
_LOCAL_IMAGE = f"docker.io/rayservice-operator/traefik:{versions.TRAEFIK}"
_PUBLIC_IMAGE = f"docker.io/library/traefik:{versions.TRAEFIK}"
_GROUP = "gateway.networking.k8s.io"
_LABELS = {"app.kubernetes.io/name": _NAME}

# The port of a Gateway's listener must be that of an entry point.
_PORT = 80
_HEALTH_PORT = 8080
_ARGS = (
    f"--entryPoints.web.address=:{_PORT}",
    f"--entryPoints.traefik.address=:{_HEALTH_PORT}",
    "--ping",
    "--log.level=INFO",
    "--providers.kubernetesGateway",
    # What Gateways say their address is; with a load balancer it would be that one's.
    f"--providers.kubernetesGateway.statusAddress.hostname={_NAME}.{NAMESPACE}.svc.cluster.local",
    # It asks nobody for newer versions.
    "--global.checkNewVersion=false",
    "--global.sendAnonymousUsage=false",
)

_READ = ["get", "list", "watch"]
_RULES = (
    {"apiGroups": [""], "resources": ["namespaces", "services", "secrets", "configmaps"], "verbs": _READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
    {"apiGroups": [_GROUP], "resources": ["*"], "verbs": _READ},
    {
        "apiGroups": [_GROUP],
        "resources": [
            f"{kind}/status"
            for kind in ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "backendtlspolicies")
        ],
        "verbs": ["update"],
    },
)

Object = dict[str, Any]


def install(target: Target, steps: Steps) -> None:
    """Make it run and wait until it has taken its GatewayClass; nothing changes when it is there already."""
    image = _PUBLIC_IMAGE
    if target.kind is Kind.LOCAL:
        image = _LOCAL_IMAGE
        images.ensure_program(State.named(), image, "traefik", steps)
    with steps.step(f"Traefik {versions.TRAEFIK}"):
        target.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_objects(image)))
        try:
            target.kubectl("rollout", "status", "-n", NAMESPACE, f"deployment/{_NAME}", "--timeout=90s")
            target.kubectl("wait", "--for=condition=Accepted", f"gatewayclass/{CLASS}", "--timeout=30s")
        except LocalKubeError as error:
            msg = f"Traefik does not serve GatewayClass {CLASS}: {error}\n{diagnose(target)}"
            raise LocalKubeError(msg) from error


def diagnose(target: Target) -> str:
    """Its pods, their events and its log, for an error message."""
    looks = (
        ("get", "pods", "-n", NAMESPACE, "-o", "wide"),
        ("get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"),
        ("logs", "-n", NAMESPACE, f"deployment/{_NAME}", "--tail=40"),
    )
    parts = []
    for args in looks:
        try:
            parts.append(f"$ kubectl {' '.join(args)}\n" + "\n".join(target.kubectl(*args).splitlines()[-40:]))
        except LocalKubeError as error:
            parts.append(str(error))
    return "\n".join(parts)


def _objects(image: str) -> list[Object]:
    inside: Object = {"name": _NAME, "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{NAMESPACE}-traefik"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role["name"]},
            "rules": list(_RULES),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role["name"]},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **inside}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": inside,
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod(image)},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": inside,
            "spec": {"selector": _LABELS, "ports": [{"name": "web", "port": _PORT}]},
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER},
        },
    ]


def _pod(image: str) -> Object:
    return {
        "serviceAccountName": _NAME,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [
            {
                "name": _NAME,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": list(_ARGS),
                "ports": [{"name": "web", "containerPort": _PORT}],
                "readinessProbe": {"httpGet": {"path": "/ping", "port": _HEALTH_PORT}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
