"""Fault tolerance of the GCS: where the head's state is kept when the head goes.

Two ways to ask for it, as in KubeRay: ``spec.gcsFaultToleranceOptions``, or the older annotation
``ray.io/ft-enabled`` with Redis' address in the head's own environment.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.gcs import GcsBackend, RedisCredential
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core.objects import annotations_of

STORAGE_NAMESPACE_ENV: Final = "RAY_external_storage_namespace"
REDIS_ADDRESS_ENV: Final = "RAY_REDIS_ADDRESS"
REDIS_USERNAME_ENV: Final = "REDIS_USERNAME"
REDIS_PASSWORD_ENV: Final = "REDIS_PASSWORD"

WORKER_RECONNECT_S: Final = "600"
"""How long a raylet waits for its GCS to come back when the state survives. Ray's own default is 60 s, too short
for a head pod that moves to another node and pulls its image."""


class FaultTolerance(enum.Enum):
    """Where the GCS keeps its tables."""

    OFF = "memory"
    REDIS = "redis"
    ROCKSDB = "rocksdb"


def fault_tolerance(view: ClusterView) -> FaultTolerance:
    """What the spec asks for."""
    options = view.spec.gcs_fault_tolerance_options
    if options is not None:
        return FaultTolerance.ROCKSDB if options.backend is GcsBackend.ROCKSDB else FaultTolerance.REDIS
    enabled = view.annotations.get(names.FT_ENABLED, "").lower() == "true"
    return FaultTolerance.REDIS if enabled else FaultTolerance.OFF


def storage_namespace(view: ClusterView) -> str:
    """Prefix of the cluster's keys in Redis; the RayCluster's UID unless the user names one."""
    options = view.spec.gcs_fault_tolerance_options
    named = options.external_storage_namespace if options else ""
    return named or view.annotations.get(names.EXTERNAL_STORAGE_NAMESPACE, "") or view.uid


def env(view: ClusterView, group: GroupView) -> list[dict[str, Any]]:
    """Variables of the Ray container; only the head talks to Redis."""
    backend = fault_tolerance(view)
    if backend is FaultTolerance.OFF:
        return []
    if not group.is_head:
        return [{"name": "RAY_gcs_rpc_server_reconnect_timeout_s", "value": WORKER_RECONNECT_S}]
    if backend is not FaultTolerance.REDIS:
        return []
    result: list[dict[str, Any]] = [{"name": STORAGE_NAMESPACE_ENV, "value": storage_namespace(view)}]
    options = view.spec.gcs_fault_tolerance_options
    if options is None:
        # Older style: the cleanup job needs the password that the user gave as a parameter of `ray start`.
        password = group.spec.ray_start_params.get("redis-password")
        return [*result, {"name": REDIS_PASSWORD_ENV, "value": password}] if password else result
    result.append({"name": REDIS_ADDRESS_ENV, "value": options.redis_address})
    for name, credential in _credentials(view).items():
        result.append({"name": name, **_source(credential)})
    return result


def start_params(view: ClusterView, group: GroupView) -> dict[str, str]:
    """Parameters of ``ray start`` on the head. The shell replaces the variables, so no secret is in the pod spec."""
    if not group.is_head:
        return {}
    flags = {REDIS_USERNAME_ENV: "redis-username", REDIS_PASSWORD_ENV: "redis-password"}
    return {flags[name]: f"${name}" for name in _credentials(view)}


def pod_annotations(view: ClusterView, group: GroupView) -> dict[str, str]:
    """Annotations that tools and the upgrade of an operator read from the head pod."""
    if not group.is_head:
        return {}
    backend = fault_tolerance(view)
    result = {names.FT_ENABLED: "false" if backend is FaultTolerance.OFF else "true"}
    if backend is FaultTolerance.REDIS:
        result[names.EXTERNAL_STORAGE_NAMESPACE] = storage_namespace(view)
    return result


def head_state_survives(view: ClusterView, head_pod: Mapping[str, Any]) -> bool:
    """Whether the session of this very head pod outlives it.

    Read from the pod, because an edit of the spec does not change pods that run.
    """
    told = annotations_of(head_pod).get(names.FT_ENABLED)
    return told == "true" if told is not None else fault_tolerance(view) is not FaultTolerance.OFF


def _credentials(view: ClusterView) -> dict[str, RedisCredential]:
    options = view.spec.gcs_fault_tolerance_options
    if options is None or fault_tolerance(view) is not FaultTolerance.REDIS:
        return {}
    found = {REDIS_USERNAME_ENV: options.redis_username, REDIS_PASSWORD_ENV: options.redis_password}
    return {name: credential for name, credential in found.items() if credential is not None}


def _source(credential: RedisCredential) -> dict[str, Any]:
    return {"valueFrom": credential.value_from} if credential.value_from else {"value": credential.value}
