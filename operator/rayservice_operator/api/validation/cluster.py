"""Rules of a cluster as a whole: autoscaler, GCS fault tolerance, authentication, services."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.api.autoscaler import AutoscalerOptions, AutoscalerVersion
from rayservice_operator.api.gcs import GcsBackend, RedisCredential
from rayservice_operator.api.options import AuthMode
from rayservice_operator.api.specerror import field_path
from rayservice_operator.api.validation.subject import ClusterSubject
from rayservice_operator.core.violations import Violation

Check = Callable[[ClusterSubject], Iterator[Violation]]

AUTOSCALER_V2_ENV: Final = "RAY_enable_autoscaler_v2"
AUTOSCALER_COMMAND_ENV: Final = "KUBERAY_GEN_AUTOSCALER_START_CMD"
REDIS_ADDRESS_ENV: Final = "RAY_REDIS_ADDRESS"
TOKEN_AUTH_SINCE: Final = (2, 52)
SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")

# Redis credential -> the other two places where it could stand: an env variable and a flag of ray start.
_REDIS_CREDENTIALS: Final = {
    "redisUsername": ("REDIS_USERNAME", "redis-username"),
    "redisPassword": ("REDIS_PASSWORD", "redis-password"),
}


def violations(subject: ClusterSubject) -> Iterator[Violation]:
    """Every rule of the table below."""
    for check in CHECKS:
        yield from check(subject)


def _head_env(subject: ClusterSubject) -> frozenset[str]:
    container = subject.head.ray_container
    return container.env_names if container else frozenset()


def _head_env_path(subject: ClusterSubject, name: str) -> str:
    return subject.head.at("template", "spec", "containers", 0, "env", name)


def _options(subject: ClusterSubject) -> AutoscalerOptions:
    return subject.spec.autoscaler_options or AutoscalerOptions()


def _autoscaler_version_once(subject: ClusterSubject) -> Iterator[Violation]:
    if not subject.spec.enable_in_tree_autoscaling or _options(subject).version is None:
        return
    if AUTOSCALER_V2_ENV in _head_env(subject):
        path = _head_env_path(subject, AUTOSCALER_V2_ENV)
        yield Violation(path, "is set beside autoscalerOptions.version", "Remove the environment variable")


def _autoscaler_v2_restarts_nothing(subject: ClusterSubject) -> Iterator[Violation]:
    """Autoscaler v2 takes a pod for one Ray node for life: a restarted container would be a node it does not know."""
    if not subject.spec.enable_in_tree_autoscaling or _options(subject).version is not AutoscalerVersion.V2:
        return
    for group in subject.groups:
        policy = group.template.spec.restart_policy if group.template else ""
        if policy not in ("", "Never"):
            path = group.at("template", "spec", "restartPolicy")
            yield Violation(path, f"is {policy}, which autoscaler v2 does not work with", "Remove it or set Never")


def _autoscaler_reserved_env(subject: ClusterSubject) -> Iterator[Violation]:
    for index, item in enumerate(_options(subject).env):
        if item.get("name") == AUTOSCALER_COMMAND_ENV:
            path = subject.at("autoscalerOptions", "env", index, "name")
            yield Violation(path, f"{AUTOSCALER_COMMAND_ENV} is set by the operator", "Remove it")


def _fault_tolerance_in_one_place(subject: ClusterSubject) -> Iterator[Violation]:
    annotation = subject.annotations.get(names.FT_ENABLED)
    options = subject.spec.gcs_fault_tolerance_options
    path = field_path(("metadata", "annotations", names.FT_ENABLED))
    if annotation and options is not None:
        yield Violation(path, "is set beside gcsFaultToleranceOptions", "Remove the annotation")
    if annotation != "true" and REDIS_ADDRESS_ENV in _head_env(subject):
        fix = "Remove it and set gcsFaultToleranceOptions.redisAddress"
        problem = "would turn on GCS fault tolerance without the operator knowing"
        yield Violation(_head_env_path(subject, REDIS_ADDRESS_ENV), problem, fix)


def _redis_address(subject: ClusterSubject) -> Iterator[Violation]:
    options = subject.spec.gcs_fault_tolerance_options
    if options is None or options.backend is GcsBackend.ROCKSDB or options.redis_address:
        return
    path = subject.at("gcsFaultToleranceOptions", "redisAddress")
    yield Violation(path, "is missing", "Set host:port of the Redis that keeps the state")


def _redis_credentials(subject: ClusterSubject) -> Iterator[Violation]:
    options = subject.spec.gcs_fault_tolerance_options
    if options is None:
        return
    env, params = _head_env(subject), subject.spec.head_group_spec.ray_start_params
    given: dict[str, RedisCredential | None] = {
        "redisUsername": options.redis_username,
        "redisPassword": options.redis_password,
    }
    for field, (variable, param) in _REDIS_CREDENTIALS.items():
        path = subject.at("gcsFaultToleranceOptions", field)
        credential = given[field]
        if variable in env:
            yield Violation(_head_env_path(subject, variable), "is not allowed here", f"Move it to {path}")
        if param in params:
            yield Violation(subject.head.at("rayStartParams", param), "is not allowed here", f"Move it to {path}")
        if credential is not None and credential.value and credential.value_from is not None:
            yield Violation(path, "has both value and valueFrom", "Keep one of the two")


def _auth(subject: ClusterSubject) -> Iterator[Violation]:
    options = subject.spec.auth_options
    if options is None or options.mode is not AuthMode.TOKEN:
        return
    found = re.match(r"v?(\d+)\.(\d+)", subject.spec.ray_version)
    if found is None or (int(found[1]), int(found[2])) < TOKEN_AUTH_SINCE:
        problem = f"is {subject.spec.ray_version!r}, but token authentication needs Ray 2.52 or newer"
        yield Violation(subject.at("rayVersion"), problem, "Set the version of Ray in the image, or remove authOptions")


def _service_type(subject: ClusterSubject) -> Iterator[Violation]:
    wanted = subject.spec.head_group_spec.service_type
    if wanted and wanted not in SERVICE_TYPES:
        path = subject.head.at("serviceType")
        yield Violation(path, f"{wanted!r} is no type for these services", f"Use one of {', '.join(SERVICE_TYPES)}")


def _head_service_name(subject: ClusterSubject) -> Iterator[Violation]:
    metadata = (subject.spec.head_group_spec.head_service or {}).get("metadata") or {}
    if subject.from_service and isinstance(metadata, dict) and metadata.get("name"):
        path = subject.head.at("headService", "metadata", "name")
        problem = "is not allowed in a RayService: during an upgrade two clusters would want the same name"
        yield Violation(path, problem, "Remove the name")


def _no_cluster_upgrade_strategy(subject: ClusterSubject) -> Iterator[Violation]:
    if subject.from_service and subject.spec.upgrade_strategy is not None:
        problem = "is for standalone RayClusters, not for the cluster of a RayService"
        yield Violation(
            subject.at("upgradeStrategy"), problem, "Remove it and set spec.upgradeStrategy of the RayService"
        )


CHECKS: Final[tuple[Check, ...]] = (
    _autoscaler_version_once,
    _autoscaler_v2_restarts_nothing,
    _autoscaler_reserved_env,
    _fault_tolerance_in_one_place,
    _redis_address,
    _redis_credentials,
    _auth,
    _service_type,
    _head_service_name,
    _no_cluster_upgrade_strategy,
)
