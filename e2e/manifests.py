"""Manifests of the end-to-end tests, as small as real Ray allows: about 1 GiB for a head, 0.6 GiB for a worker."""

import copy
from typing import Any

import yaml

from e2e.images import full_name

RAY_VERSION = "2.60.0"
GREETER = "serve_runtime.quickstart:app"
GREETER_WITH_ARGS = "serve_runtime.quickstart:build"
AUTOSCALING = "serve_runtime.quickstart:autoscaling"
BROKEN = "serve_runtime.quickstart:broken"
PATIENT = "serve_runtime.quickstart:patient"

# Names of their deployments.
_DEPLOYMENTS = {
    GREETER: "Greeter",
    GREETER_WITH_ARGS: "Greeter",
    AUTOSCALING: "Sleeper",
    BROKEN: "Broken",
    PATIENT: "Patient",
}

Object = dict[str, Any]

# Requests are small since all of it shares two cores; Ray's own view of its CPUs is set apart from that. Workers have
# the larger share: they answer requests while a second cluster, whose start takes all the processor, comes up.
_HEAD = {"requests": {"cpu": "100m", "memory": "768Mi"}, "limits": {"memory": "3Gi"}}
_WORKER = {"requests": {"cpu": "250m", "memory": "384Mi"}, "limits": {"memory": "2Gi"}}
_STORE = "78643200"  # the smallest object store that Ray allows, in bytes

# Ray drains a node for 30 s when its pod ends; no test but that of the upgrade has anything to drain.
_GRACE_SECONDS = 3


def serve_config(
    greeting: str = "Hello", *, import_path: str = GREETER, args: Object | None = None, **options: Any
) -> str:
    """serveConfigV2 with one application at ``/``. ``options`` are fields of its deployment."""
    deployment = {"name": _DEPLOYMENTS[import_path], **options}
    if _DEPLOYMENTS[import_path] == "Greeter":
        deployment["user_config"] = {"greeting": greeting}
    application: Object = {"name": "app", "import_path": import_path, "route_prefix": "/", "deployments": [deployment]}
    if args is not None:
        application["args"] = args
    return str(yaml.safe_dump({"applications": [application]}, sort_keys=False))


def worker_group(
    name: str = "small", *, replicas: int = 1, minimum: int = 0, maximum: int = 4, cpus: int = 1
) -> Object:
    return {
        "groupName": name,
        "replicas": replicas,
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "rayStartParams": {"num-cpus": str(cpus), "object-store-memory": _STORE},
        "template": pod("ray-worker", _WORKER),
    }


def cluster_spec(*groups: Object, head_cpus: int = 0, **fields: Any) -> Object:
    """A RayClusterSpec. A head without CPUs takes no replica, so these are on workers, as Ray recommends."""
    return {
        "rayVersion": RAY_VERSION,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": str(head_cpus), "object-store-memory": _STORE},
            "template": pod("ray-head", _HEAD),
        },
        "workerGroupSpecs": list(groups),
        **fields,
    }


def pod(container: str, resources: Object) -> Object:
    """Pod template of a Ray pod with the project's runtime image."""
    image = {"image": full_name("runtime"), "imagePullPolicy": "IfNotPresent"}
    containers = [{"name": container, **image, "resources": copy.deepcopy(resources)}]
    return {"spec": {"terminationGracePeriodSeconds": _GRACE_SECONDS, "containers": containers}}


def rayservice(name: str, cluster: Object, config: str | None = None, **fields: Any) -> Object:
    """A RayService. ``fields`` are further fields of its spec."""
    spec = {"serveConfigV2": serve_config() if config is None else config, "rayClusterConfig": cluster, **fields}
    return {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": name}, "spec": spec}


def raycluster(name: str, cluster: Object) -> Object:
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name}, "spec": cluster}


def with_usual_grace(cluster: Object) -> Object:
    """The RayClusterSpec with pods that have Kubernetes' own time to end, so that requests under way end well."""
    changed = copy.deepcopy(cluster)
    for group in (changed["headGroupSpec"], *changed["workerGroupSpecs"]):
        del group["template"]["spec"]["terminationGracePeriodSeconds"]
    return changed


def with_env(cluster: Object, name: str, value: str) -> Object:
    """The RayClusterSpec with one more variable in every Ray container: a change that needs new pods."""
    changed = copy.deepcopy(cluster)
    for group in (changed["headGroupSpec"], *changed["workerGroupSpecs"]):
        group["template"]["spec"]["containers"][0].setdefault("env", []).append({"name": name, "value": value})
    return changed
