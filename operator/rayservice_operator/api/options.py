"""Optional features of a Ray cluster that are one small object each."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field

from rayservice_operator.api.base import NULLABLE, ApiModel, Int32, OpenList, OpenObject


class AuthMode(enum.StrEnum):
    """How Ray authenticates callers of its control plane."""

    DISABLED = "disabled"
    TOKEN = "token"


class AuthOptions(ApiModel):
    """Authentication of Ray's own endpoints (dashboard, GCS, Serve REST API). Needs Ray 2.52 or newer."""

    mode: AuthMode | None = None
    """disabled or token."""
    secret_name: str = ""
    """Secret that holds the token under the key auth_token. Default: one named as the cluster, made if absent."""
    enable_k8s_token_auth: Annotated[bool, Field(alias="enableK8sTokenAuth")] = False
    """Checks Kubernetes tokens instead of one shared token. Not available in this version."""


class NetworkPolicyMode(enum.StrEnum):
    """What a network policy denies unless a rule allows it."""

    DENY_ALL = "DenyAll"
    DENY_ALL_INGRESS = "DenyAllIngress"
    DENY_ALL_EGRESS = "DenyAllEgress"


class NetworkPolicyOptions(ApiModel):
    """Network policies around the pods of a cluster."""

    mode: Annotated[NetworkPolicyMode | None, Field(json_schema_extra=NULLABLE)] = None
    """DenyAll, DenyAllIngress or DenyAllEgress. Default DenyAll."""
    head: OpenObject | None = None
    """Further ingressRules and egressRules of the head pod."""
    worker: OpenObject | None = None
    """Further ingressRules and egressRules of all workers."""
    worker_groups: OpenList = []
    """Further rules by worker group."""


class TlsOptions(ApiModel):
    """Mutual TLS between Ray's processes."""

    enabled: bool = False
    """Whether certificates are issued and used."""


class HistoryServerOptions(ApiModel):
    """Collection of Ray's events for the history server."""

    collector_options: OpenObject | None = None
    """Options of the collector container."""


class IdleTerminationPolicy(enum.StrEnum):
    """What happens to an idle cluster."""

    SUSPEND = "Suspend"
    DELETE = "Delete"


class IdleTerminationOptions(ApiModel):
    """Termination of a cluster without drivers, carried out by Ray's autoscaler."""

    timeout_seconds: Int32 | None = None
    """Seconds without a driver."""
    policy: IdleTerminationPolicy | None = None
    """Suspend or Delete. Default Suspend."""
