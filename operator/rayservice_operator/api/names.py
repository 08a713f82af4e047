"""Labels, annotations, finalizers and object names: the part of the contract that other tools select on.

Names, labels and ports are KubeRay's (v1.7), so that its manifests, dashboards and the Ray autoscaler work
unchanged; keys under ``rayservice.ray.io/`` are this operator's own.
"""

from __future__ import annotations

import hashlib
from typing import Final

GROUP: Final = "ray.io"
VERSION: Final = "v1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

FIELD_MANAGER: Final = "rayservice-operator"

# Labels.
CLUSTER: Final = "ray.io/cluster"
NODE_TYPE: Final = "ray.io/node-type"
NODE_GROUP: Final = "ray.io/group"
IS_RAY_NODE: Final = "ray.io/is-ray-node"
IDENTIFIER: Final = "ray.io/identifier"
SERVE: Final = "ray.io/serve"
ORIGIN_NAME: Final = "ray.io/originated-from-cr-name"
ORIGIN_KIND: Final = "ray.io/originated-from-crd"
APP_NAME: Final = "app.kubernetes.io/name"
CREATED_BY: Final = "app.kubernetes.io/created-by"
APP_NAME_VALUE: Final = "kuberay"
CREATED_BY_VALUE: Final = "kuberay-operator"

HEAD: Final = "head"
WORKER: Final = "worker"
REDIS_CLEANUP: Final = "redis-cleanup"
HEAD_GROUP: Final = "headgroup"

# Annotations that users set.
INITIALIZING_TIMEOUT: Final = "ray.io/initializing-timeout"
FT_ENABLED: Final = "ray.io/ft-enabled"
EXTERNAL_STORAGE_NAMESPACE: Final = "ray.io/external-storage-namespace"
OVERWRITE_CONTAINER_CMD: Final = "ray.io/overwrite-container-cmd"
ENABLE_SERVE_SERVICE: Final = "ray.io/enable-serve-service"
FT_DELETION_TIMEOUT: Final = "ray.io/gcs-ft-deletion-timeout"

ROLLBACK: Final = "ray.io/rollback"  # "false": a serve config that fails stays
DRAIN: Final = "ray.io/drain"  # "false": pods leave as Ray alone lets them
DISRUPTION_BUDGET: Final = "ray.io/disruption-budget"  # all, workers or none: which pods may not be evicted at will
RETRY: Final = "ray.io/retry"  # any new value: what failed is tried once more
PAUSE: Final = "ray.io/pause"  # "true": upgrades are held where they are
PROMOTE: Final = "ray.io/promote"  # name of a RayCluster: passes over what holds it back
ABORT: Final = "ray.io/abort"  # a RayCluster, or a revision in place: the upgrade to it is given up
UNDO: Final = "ray.io/undo"  # number of a revision: it is in force instead of the present spec

AUTO_RECOVERY: Final = "ray.io/auto-recovery"  # "true": trouble is answered: the config again, then another cluster

VERBS: Final = frozenset({AUTO_RECOVERY, ROLLBACK, RETRY, PAUSE, PROMOTE, ABORT, UNDO})
"""Said to a RayService about its upgrades; they mean nothing on its children."""

# Annotations on this operator's own children (never on the user's object).
SPEC_HASH: Final = "ray.io/hash-without-replicas-and-workers-to-delete"
NUM_WORKER_GROUPS: Final = "ray.io/num-worker-groups"
OPERATOR_VERSION: Final = "ray.io/kuberay-version"
DELETE_AFTER: Final = "rayservice.ray.io/delete-after"
IN_PLACE_APPLIED: Final = "rayservice.ray.io/applied-in-place"
DRAINING: Final = "rayservice.ray.io/draining"  # of a pod that is to be left: since when
PROXY_MODULE: Final = "rayservice.ray.io/proxy-module"  # of a pod: text of what its HTTP proxies load
SUSPEND_APPLIED: Final = "rayservice.ray.io/applied-suspend"
TEMPLATE_HASH: Final = "rayservice.ray.io/template-hash"
ROLL: Final = "rayservice.ray.io/roll"

# Label on this operator's own pods: name of the RayService, by which a service can select pods of two clusters.
RAYSERVICE: Final = "rayservice.ray.io/name"

REDIS_CLEANUP_FINALIZER: Final = "ray.io/gcs-ft-redis-cleanup-finalizer"

# Annotations and labels of deployment tools that must not be copied to children: a tool that finds its own
# tracking key on an object that is not in Git prunes that object (argo-cd#8683).
TRACKING_PREFIXES: Final = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/")
TRACKING_KEYS: Final = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "app.kubernetes.io/instance", "meta.helm.sh/release-name"}
)

# Ports of a head pod: name -> number.
DEFAULT_HEAD_PORTS: Final = {"client": 10001, "gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}
AGENT_PORT: Final = 52365

MAX_SERVICE_NAME: Final = 47
MAX_CLUSTER_NAME: Final = 53


def short_hash(*parts: str, length: int = 5) -> str:
    """``length`` characters of a DNS-safe digest of ``parts``; the same parts give the same characters."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    alphabet = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words by accident (as Kubernetes' own suffixes)
    return "".join(alphabet[byte % len(alphabet)] for byte in digest[:length])


def head_service_name(cluster: str) -> str:
    """Name of a RayCluster's head service, also ``<rayservice>-head-svc`` when given a RayService's name."""
    return f"{cluster}-head-svc"


def serve_service_name(owner: str) -> str:
    """Name of the service in front of Ray Serve's HTTP proxies."""
    return f"{owner}-serve-svc"


def is_tracking_key(key: str) -> bool:
    """Whether a label or annotation belongs to a deployment tool and stays on the user's object only."""
    return key in TRACKING_KEYS or key.startswith(TRACKING_PREFIXES)
