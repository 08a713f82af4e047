"""Fault tolerance of Ray's global control store (GCS)."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field

from rayservice_operator.api.base import NULLABLE, ApiModel, OpenObject, Quantity, StringList, cel, rules


class GcsBackend(enum.StrEnum):
    """Where the GCS keeps its tables."""

    REDIS = "redis"
    ROCKSDB = "rocksdb"


class StorageDeletionPolicy(enum.StrEnum):
    """What becomes of the volume when the cluster goes."""

    DELETE_WITH_CLUSTER = "DeleteWithCluster"
    RETAIN = "Retain"


class RedisCredential(ApiModel):
    """A user name or password for Redis: a literal value or a reference."""

    value: str = ""
    """The value itself. Prefer valueFrom for anything secret."""
    value_from: OpenObject | None = None
    """Where the value comes from, as in a container's environment variable (for example a secretKeyRef)."""


class GcsStorage(ApiModel):
    """A volume for the embedded backend."""

    claim_name: str = ""
    """An existing PersistentVolumeClaim to use."""
    size: Annotated[Quantity, Field(json_schema_extra=NULLABLE)] = ""
    """Size of the volume to claim. Default 1Gi."""
    storage_class_name: str = ""
    """Storage class of the volume to claim."""
    access_modes: StringList = []
    """Access modes of the volume to claim. Default ReadWriteOnce."""
    sub_path: str = ""
    """Path inside the volume."""
    deletion_policy: StorageDeletionPolicy | None = None
    """DeleteWithCluster or Retain."""


class GcsFaultToleranceOptions(ApiModel):
    """Keeps the state of Ray's control store outside the head pod, so that workers and Serve survive its loss."""

    backend: Annotated[
        GcsBackend | None,
        Field(json_schema_extra=rules(cel("self == oldSelf", "backend is immutable; create a new cluster instead"))),
    ] = None
    """Where the control store keeps its state. Unset: redis. This version has no rocksdb."""
    redis_address: str = ""
    """Address of Redis, host:port; may carry redis:// or rediss://."""
    redis_username: RedisCredential | None = None
    """User name for Redis."""
    redis_password: RedisCredential | None = None
    """Password for Redis."""
    external_storage_namespace: str = ""
    """Key prefix in Redis. Default: the UID of the RayCluster."""
    storage: GcsStorage | None = None
    """Volume of the rocksdb backend."""
