"""Status of a RayCluster, and what the status of both kinds is read with."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from rayservice_operator.api.base import ApiModel, Int32, Int64, Quantity, StringMap, Time
from rayservice_operator.core.objects import Manifest


class StatusCondition(ApiModel):
    """One aspect of the state, as metav1.Condition."""

    type: str
    """Name of the aspect."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""
    reason: str = ""
    """Why, as one word in CamelCase."""
    message: str = ""
    """Why, for people."""
    last_transition_time: Time | None = None
    """When status changed last."""
    observed_generation: Int64 | None = None
    """Generation of the object that this was observed for."""


Conditions = Annotated[
    list[StatusCondition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class HeadInfo(ApiModel):
    """Where the head is."""

    pod_ip: Annotated[str, Field(alias="podIP")] = ""
    """Address of the head pod."""
    pod_name: str = ""
    """Name of the head pod."""
    service_ip: Annotated[str, Field(alias="serviceIP")] = ""
    """Address of the head service."""
    service_name: str = ""
    """Name of the head service."""


class RayClusterStatus(ApiModel):
    """Observed state of a Ray cluster."""

    conditions: Conditions = []
    """Aspects of the state: RayClusterProvisioned, HeadPodReady, ReplicaFailure and others."""
    state: str = ""
    """ready, suspended or failed. Kept for older tools; read the conditions."""
    reason: str = ""
    """Why the state is failed."""
    desired_cpu: Annotated[Quantity, Field(alias="desiredCPU")] = ""
    """CPU requested by all wanted pods."""
    desired_memory: Quantity = ""
    """Memory requested by all wanted pods."""
    desired_gpu: Annotated[Quantity, Field(alias="desiredGPU")] = ""
    """GPUs requested by all wanted pods."""
    desired_tpu: Annotated[Quantity, Field(alias="desiredTPU")] = ""
    """TPUs requested by all wanted pods."""
    ready_worker_replicas: Int32 = 0
    """Worker pods that are ready."""
    available_worker_replicas: Int32 = 0
    """Worker pods that run."""
    desired_worker_replicas: Int32 = 0
    """Worker pods wanted."""
    min_worker_replicas: Int32 = 0
    """Sum of minReplicas."""
    max_worker_replicas: Int32 = 0
    """Sum of maxReplicas."""
    endpoints: StringMap = {}
    """Ports of the head service by name."""
    head: HeadInfo | None = None
    """Where the head is."""
    state_transition_times: StringMap = {}
    """When each state was entered last."""
    last_update_time: Time | None = None
    """When the status changed last."""
    observed_generation: Int64 = -1
    """Generation of the spec that this status is about; -1 before the operator has seen the object."""


def lenient_status(manifest: Manifest, model: type[BaseModel]) -> dict[str, Any]:
    """``manifest`` with every status field that ``model`` cannot read left out.

    Status may have been written by another version or another operator; a field that cannot be read is a field
    that is not known, never a reason to stop looking after the object.
    """
    status = manifest.get("status")
    if not isinstance(status, dict):
        return {key: value for key, value in manifest.items() if key != "status"}
    try:
        model.model_validate(status)
    except ValidationError as error:
        bad = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]}
        return {**manifest, "status": {key: value for key, value in status.items() if key not in bad}}
    return manifest
