"""Small builders of manifests and observations for tests of the RayService core."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.core.conditions import find
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Decision
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.observation import (
    ApplicationView,
    DeploymentView,
    PushResult,
    ReplicaView,
    ServeObservation,
)
from rayservice_operator.service import hashing, inplace
from rayservice_operator.service.context import load_config
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot

NOW = 1_800_000_000.0
CONFIG = OperatorConfig(version="test", capacity_check=False)

SERVE_CONFIG = """
applications:
  - name: greeter
    route_prefix: /
    import_path: serve_runtime.quickstart:app
    deployments:
      - name: Greeter
        user_config: {greeting: hello}
"""
OTHER_SERVE_CONFIG = SERVE_CONFIG.replace("hello", "good day")


def config_hash(text: str = SERVE_CONFIG) -> str:
    """Hash of a serve config text."""
    config = load_config(text)
    assert config is not None
    return config.hash


def pod_template(image: str) -> Manifest:
    """A pod template with one Ray container."""
    return {
        "spec": {
            "containers": [{"name": "ray", "image": image, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]
        }
    }


def cluster_spec(image: str = "ray:1", groups: tuple[str, ...] = ("small",), **changes: Any) -> Manifest:
    """A RayClusterSpec with a head and worker groups of two pods each."""
    return {
        "rayVersion": "2.60.0",
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pod_template(image)},
        "workerGroupSpecs": [
            {
                "groupName": group,
                "replicas": 2,
                "minReplicas": 0,
                "maxReplicas": 5,
                "rayStartParams": {},
                "template": pod_template(image),
            }
            for group in groups
        ],
        **changes,
    }


def rayservice(
    spec: Manifest | None = None, *, generation: int = 1, status: Manifest | None = None, **extra: Any
) -> Manifest:
    """A RayService named ``demo`` as stored."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "RayService",
        "metadata": {
            "name": "demo",
            "namespace": "default",
            "uid": "service-uid",
            "generation": generation,
            "resourceVersion": "1",
            **extra,
        },
        "spec": spec if spec is not None else {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec()},
        "status": status or {"observedGeneration": -1},
    }


def raycluster(name: str, spec: Manifest | None = None, **extra: Any) -> Manifest:
    """A RayCluster of ``demo`` as this operator builds it."""
    spec = spec or cluster_spec()
    annotations = {
        names.SPEC_HASH: hashing.cluster_hash(spec),
        names.NUM_WORKER_GROUPS: str(len(spec["workerGroupSpecs"])),
        names.IN_PLACE_APPLIED: inplace.applied_scale(spec),
        **extra.pop("annotations", {}),
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "RayCluster",
        "metadata": {"name": name, "namespace": "default", "uid": f"{name}-uid", "annotations": annotations, **extra},
        "spec": copy.deepcopy(spec),
        "status": {"state": "ready"},
    }


def pod(cluster: Manifest, node: str, ip: str, *, serve: bool = True, ready: bool = True) -> Manifest:
    """A pod of ``cluster``; ``node`` is head or the number of a worker."""
    name = f"{name_of(cluster)}-{node}"
    kind = names.HEAD if node == "head" else names.WORKER
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"{name}-uid",
            "labels": {
                names.CLUSTER: name_of(cluster),
                names.NODE_TYPE: kind,
                names.SERVE: "true" if serve else "false",
            },
        },
        "spec": copy.deepcopy(pod_template("ray:1")["spec"]),
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def application(
    status: str = "RUNNING",
    *,
    name: str = "greeter",
    running: int = 1,
    state: str = "RUNNING",
    text: str = SERVE_CONFIG,
) -> ApplicationView:
    """An application with one deployment of which ``running`` replicas of one are in that state."""
    config = load_config(text)
    assert config is not None
    declared = next((a for a in config.parsed.document["applications"] if a["name"] == name), {"name": name})
    deployment = DeploymentView(
        name="Greeter",
        status="HEALTHY" if status == "RUNNING" else "UPDATING",
        target_replicas=1,
        replicas=tuple(ReplicaView(f"r{i}", state, "10.0.0.2") for i in range(running)),
    )
    return ApplicationView(
        name=name, status=status, route_prefix="/", deployments={"Greeter": deployment}, config=declared
    )


def observation(
    cluster: Manifest,
    *applications: ApplicationView,
    seen_at: float | None = NOW - 0.5,
    proxies: dict[str, bool] | None = None,
    pushed: str | None = None,
    **changes: Any,
) -> ServeObservation:
    """What the observer of ``cluster`` saw half a second ago."""
    push = None if pushed is None else PushResult(pushed, "", "accepted", NOW - 20)
    values: dict[str, Any] = {
        "head_uid": f"{name_of(cluster)}-head-uid",
        "started_at": NOW - 60,
        "seen_at": seen_at,
        "session": "session-1",
        "applications": {a.name: a for a in applications},
        "proxies": {"10.0.0.1": True, "10.0.0.2": True} if proxies is None else proxies,
        "push": push,
        **changes,
    }
    return ServeObservation(**values)


def endpoint_slice(*pods: Manifest, service: str = "demo-serve-svc") -> Manifest:
    """The EndpointSlice of a Service with these pods ready."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-x",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": [
            {"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "uid": p["metadata"]["uid"]}} for p in pods
        ],
    }


def serving(
    name: str = "demo-one", *, spec: Manifest | None = None, pushed: str | None = None, **changes: Any
) -> ServiceSnapshot:
    """A snapshot of ``demo`` serving from one cluster, every part of it overridable."""
    cluster = raycluster(name)
    head, worker = pod(cluster, "head", "10.0.0.1"), pod(cluster, "1", "10.0.0.2")
    status = {
        "conditions": [],
        "activeServiceStatus": {"rayClusterName": name, "appliedConfigHash": config_hash()},
        "observedGeneration": 1,
    }
    values: dict[str, Any] = {
        "service": rayservice(spec, status=status),
        "config": CONFIG,
        "clusters": (cluster,),
        "pods": {name: (head, worker)},
        "endpoint_slices": (endpoint_slice(head, worker),),
        "observations": {name: observation(cluster, application(), pushed=pushed)},
    }
    return ServiceSnapshot(**{**values, **changes})


# --- from one snapshot to the next


def condition(decision: Decision, type_: str) -> tuple[str, str] | None:
    """Status and reason of a decided condition."""
    assert decision.status is not None
    found = find(decision.status["conditions"], type_)
    return None if found is None else (found["status"], found["reason"])


def message(decision: Decision, type_: str) -> str:
    """Message of a decided condition; empty for one that is not there."""
    assert decision.status is not None
    return str((find(decision.status["conditions"], type_) or {}).get("message", ""))


def after(snapshot: ServiceSnapshot, decision: Decision, **changes: Any) -> ServiceSnapshot:
    """The snapshot with the decided status stored, and ``changes`` of the rest."""
    service = copy.deepcopy(snapshot.service)
    service["status"] = decision.status
    return dataclasses.replace(snapshot, **{"service": service, **changes})


def edited(snapshot: ServiceSnapshot, **spec: Any) -> ServiceSnapshot:
    """The snapshot after somebody changed these fields of the spec."""
    service = copy.deepcopy(snapshot.service)
    service["spec"] |= spec
    service["metadata"]["generation"] += 1
    return dataclasses.replace(snapshot, service=service)


def unmoved(snapshot: ServiceSnapshot, seconds: float) -> ServiceSnapshot:
    """The snapshot with the progress remembered of that long ago, when all was as it is now."""
    then = decide(snapshot, NOW - seconds)
    assert then.status is not None
    service = copy.deepcopy(snapshot.service)
    service["status"].pop("progress", None)
    if record := then.status.get("progress"):
        service["status"]["progress"] = record
    return dataclasses.replace(snapshot, service=service)


def annotated(snapshot: ServiceSnapshot, **annotations: str) -> ServiceSnapshot:
    """The snapshot after somebody annotated the service with ``ray.io/<key>``."""
    service = copy.deepcopy(snapshot.service)
    service["metadata"]["annotations"] = {f"ray.io/{key}": value for key, value in annotations.items()}
    return dataclasses.replace(snapshot, service=service)
