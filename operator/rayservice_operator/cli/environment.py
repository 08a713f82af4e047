"""Settings from environment variables, under KubeRay's names where KubeRay has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rayservice_operator.admission.settings import AdmissionSettings, Certificates
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.engine.settings import Settings

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TRUE: Final = frozenset({"1", "t", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "f", "false", "no", "off", ""})


class BadSetting(Exception):  # noqa: N818
    """An environment variable whose value cannot be used; the message says which and what would do."""


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("use true or false")
    return word in _TRUE


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("use a whole number of 1 or more")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("use a whole number of 0 or more")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("use a number above 0")
    return number


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _certificates(text: str) -> Certificates:
    try:
        return Certificates(text.strip())
    except ValueError:
        raise ValueError(f"use one of {', '.join(Certificates)}") from None


_CONFIG: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "CLUSTER_DOMAIN": ("cluster_domain", str),
    "RAYCLUSTER_DELETION_DELAY_SECONDS": ("default_deletion_delay_s", _not_negative),
    "ENABLE_ZERO_DOWNTIME": ("zero_downtime", _bool),
    "ENABLE_PROBES_INJECTION": ("inject_probes", _bool),
    "ENABLE_INIT_CONTAINER_INJECTION": ("inject_init_container", _bool),
    "ENABLE_LOGIN_SHELL": ("login_shell", _bool),
    "ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE": ("head_cluster_ip_service", _bool),
    "CAPACITY_CHECK": ("capacity_check", _bool),
    "RAY_START_ULIMIT_OPEN_FILES": ("ulimit_open_files", _positive),
}
_SETTINGS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "WATCH_NAMESPACES": ("namespaces", _list),
    "RECONCILE_CONCURRENCY": ("workers", _positive),
    "KUBE_CLIENT_QPS": ("qps", _rate),
    "KUBE_CLIENT_BURST": ("burst", _positive),
    "HTTP_PORT": ("http_port", _not_negative),
    "LEADER_ELECT": ("leader_elect", _bool),
    "LEASE_NAMESPACE": ("lease_namespace", str),
    "LEASE_NAME": ("lease_name", str),
    "POD_NAME": ("identity", str),
    "STOP_GRACE_SECONDS": ("stop_grace_s", _rate),
}
_ADMISSION: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "ADMISSION_CERTIFICATES": ("certificates", _certificates),
    "ADMISSION_PORT": ("port", _not_negative),
    "ADMISSION_HOSTS": ("hosts", _list),
    "ADMISSION_SECRET": ("secret", str),
    "ADMISSION_CONFIGURATION": ("configuration", str),
    "ADMISSION_CERTIFICATE_FOLDER": ("folder", Path),
}
FILES_CHECK_S: Final = 10.0
"""How often certificate files are looked at: after the kubelet has renewed them nothing else tells of it."""

DEFAULT_ENV_PREFIX: Final = "RAY_DEFAULT_ENV_"
"""``RAY_DEFAULT_ENV_FOO=bar`` gives every Ray container ``FOO=bar``, unless its template has it."""


def operator_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("rayservice-operator")
    except PackageNotFoundError:
        return "dev"


def load_config(env: Mapping[str, str]) -> OperatorConfig:
    """What decisions depend on. Raises BadSetting."""
    default_env = tuple(
        sorted(
            (name.removeprefix(DEFAULT_ENV_PREFIX), value)
            for name, value in env.items()
            if name.startswith(DEFAULT_ENV_PREFIX)
        )
    )
    base = OperatorConfig(version=operator_version(), default_env=default_env)
    return replace(base, **_read(env, _CONFIG))


def load_settings(env: Mapping[str, str]) -> Settings:
    """How the process runs. In a pod the Lease lies in the pod's own namespace. Raises BadSetting."""
    here = env.get("POD_NAMESPACE") or (NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default")
    settings = replace(Settings(lease_namespace=here), **_read(env, _SETTINGS))
    switch = _read(env, {"ADMISSION": ("on", _bool)})
    return replace(settings, admission=_admission(env, here)) if switch.get("on") else settings


def _admission(env: Mapping[str, str], namespace: str) -> AdmissionSettings:
    """How the webhook runs. The operator's own user is the pod's service account, where that is told."""
    account = env.get("SERVICE_ACCOUNT")
    own = f"system:serviceaccount:{namespace}:{account}" if account else ""
    settings = replace(AdmissionSettings(namespace=namespace, own_user=own), **_read(env, _ADMISSION))
    if settings.certificates is Certificates.FILES:
        return replace(settings, check_every_s=FILES_CHECK_S)
    if not settings.hosts:
        raise BadSetting(
            "environment variable ADMISSION_HOSTS is not set: name what the API server calls the webhook by, "
            "for example rayservice-operator-admission.rayservice-system.svc"
        )
    return settings


def _read(env: Mapping[str, str], table: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    found = {}
    for name, (field, parse) in table.items():
        if name not in env or (not env[name] and parse is not _list):
            continue
        try:
            found[field] = parse(env[name])
        except ValueError as error:
            raise BadSetting(f"environment variable {name}={env[name]!r}: {error}") from error
    return found
