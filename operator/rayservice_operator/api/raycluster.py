"""RayCluster: the head, groups of workers and what they share."""

from __future__ import annotations

import enum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from rayservice_operator.api.autoscaler import AutoscalerOptions
from rayservice_operator.api.base import (
    DEFAULT_KEY,
    MAX_REPLICAS,
    NULLABLE,
    ApiModel,
    Int32,
    OpenList,
    OpenObject,
    StringList,
    StringMap,
    cel,
    rules,
)
from rayservice_operator.api.gcs import GcsFaultToleranceOptions
from rayservice_operator.api.options import (
    AuthOptions,
    HistoryServerOptions,
    IdleTerminationOptions,
    NetworkPolicyOptions,
    TlsOptions,
)
from rayservice_operator.api.raycluster_status import RayClusterStatus, lenient_status
from rayservice_operator.api.specerror import SpecError, from_pydantic
from rayservice_operator.core.objects import Manifest

MANAGED_BY_RULES = rules(
    cel("self == oldSelf", "managedBy is immutable"),
    cel(
        "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']",
        "managedBy must be ray.io/kuberay-operator or kueue.x-k8s.io/multikueue",
    ),
)


class IngressOptions(ApiModel):
    """Shape of the Ingress in front of the dashboard."""

    host: str = ""
    """Host name of the rule. Empty: every host."""
    path: Annotated[str, Field(json_schema_extra=NULLABLE)] = ""
    """HTTP path of the rule. Default /."""
    path_type: Annotated[str, Field(json_schema_extra=NULLABLE)] = ""
    """How the path matches. Default Prefix."""
    tls: OpenList = []
    """TLS entries of the Ingress."""


class HeadGroupSpec(ApiModel):
    """The head pod."""

    template: OpenObject
    """Pod template of the head. The first container runs Ray."""
    ray_start_params: StringMap = {}
    """Flags of ray start on the head, without the leading dashes; every value is a string."""
    resources: StringMap = {}
    """Ray resources of the head; they replace those derived from the container."""
    labels: StringMap = {}
    """Ray node labels of the head."""
    service_type: str = ""
    """Type of the head service and of a RayService's services. Default ClusterIP."""
    head_service: OpenObject | None = None
    """Template of the head service."""
    enable_ingress: bool = False
    """Whether an Ingress for the dashboard is made."""
    ingress_options: IngressOptions | None = None
    """Shape of that Ingress."""


class ScaleStrategy(ApiModel):
    """Which workers go when the group shrinks."""

    workers_to_delete: StringList = []
    """Names of the pods to delete. The Ray autoscaler writes and clears this list."""


class WorkerGroupSpec(ApiModel):
    """A group of like workers."""

    group_name: Annotated[str, Field(json_schema_extra={"maxLength": 253})]
    """Name of the group, unique in the cluster."""
    template: OpenObject
    """Pod template of the workers. The first container runs Ray."""
    replicas: Annotated[Int32, Field(json_schema_extra={DEFAULT_KEY: 0})] = 0
    """Wanted number of workers. With autoscaling the Ray autoscaler writes it."""
    min_replicas: Annotated[Int32, Field(json_schema_extra={DEFAULT_KEY: 0})] = 0
    """Fewest workers."""
    max_replicas: Annotated[Int32, Field(json_schema_extra={DEFAULT_KEY: MAX_REPLICAS})] = MAX_REPLICAS
    """Most workers."""
    num_of_hosts: Annotated[Int32, Field(json_schema_extra={DEFAULT_KEY: 1})] = 1
    """Pods that make up one replica (multi-host accelerators). This version takes 1 only."""
    idle_timeout_seconds: Annotated[Int32 | None, Field(json_schema_extra={"minimum": 0})] = None
    """Seconds a worker of this group without work is kept. Needs autoscaler v2."""
    priority: Int32 | None = None
    """Groups with a higher priority are scaled up first. Needs autoscaler v2 and Ray 2.56 or newer."""
    ray_start_params: StringMap = {}
    """Flags of ray start on the workers, without the leading dashes; every value is a string."""
    resources: StringMap = {}
    """Ray resources of each worker; they replace those derived from the container."""
    labels: StringMap = {}
    """Ray node labels of each worker."""
    scale_strategy: Annotated[ScaleStrategy, Field(json_schema_extra={DEFAULT_KEY: {}})] = Field(
        default_factory=ScaleStrategy
    )
    """Which workers go when the group shrinks."""
    suspend: bool = False
    """Whether the group has no pods. Internal to RayJob."""


class ClusterUpgradeType(enum.StrEnum):
    """What a change of a standalone RayCluster's pod templates does."""

    RECREATE = "Recreate"
    NONE = "None"


class ClusterUpgradeStrategy(ApiModel):
    """What a change of a standalone RayCluster's pod templates does to its pods."""

    type: ClusterUpgradeType | None = None
    """Recreate replaces all pods (not available in this version), None leaves them. Default None."""


# KubeRay asks this of groups that it scales itself; with autoscaling it leaves the bounds to Ray.
_BOUNDS_RULE = cel(
    "(has(self.enableInTreeAutoscaling) && self.enableInTreeAutoscaling) || !has(self.workerGroupSpecs) || "
    "self.workerGroupSpecs.all(g, !has(g.minReplicas) || !has(g.maxReplicas) || g.minReplicas <= g.maxReplicas)",
    "minReplicas must not be larger than maxReplicas; correct one of them in each workerGroupSpecs entry",
    fieldPath=".workerGroupSpecs",
)


class RayClusterSpec(ApiModel):
    """A Ray cluster: one head and any number of worker groups."""

    model_config = ConfigDict(json_schema_extra=rules(_BOUNDS_RULE))

    head_group_spec: HeadGroupSpec
    """The head pod."""
    worker_group_specs: Annotated[
        list[WorkerGroupSpec],
        Field(
            json_schema_extra={
                "maxItems": 250,  # bounds the estimated cost of the rule below
                **rules(
                    cel(
                        "self.all(g, self.exists_one(h, h.groupName == g.groupName))",
                        "groupName must be unique among workerGroupSpecs; rename one of the groups",
                    )
                ),
            }
        ),
    ] = []
    """Groups of workers. Their order is fixed: the Ray autoscaler addresses a group by its position."""
    ray_version: str = ""
    """Version of Ray in the image, for example 2.60.0. Decides on probes and on the autoscaler's version."""
    enable_in_tree_autoscaling: bool = False
    """Whether Ray's autoscaler runs beside the head and scales the worker groups."""
    autoscaler_options: AutoscalerOptions | None = None
    """Options of the Ray autoscaler."""
    head_service_annotations: StringMap = {}
    """Annotations of the head service."""
    gcs_fault_tolerance_options: GcsFaultToleranceOptions | None = None
    """Keeps the state of Ray's control store outside the head pod."""
    auth_options: AuthOptions | None = None
    """Authentication of Ray's own endpoints."""
    suspend: bool = False
    """Whether all pods are removed. Kueue writes it."""
    managed_by: Annotated[str, Field(json_schema_extra=MANAGED_BY_RULES)] = ""
    """Which controller looks after this object. Unset: this operator. Immutable."""
    upgrade_strategy: ClusterUpgradeStrategy | None = None
    """What a change of the pod templates does; for standalone RayClusters only."""
    network_policy: NetworkPolicyOptions | None = None
    """Network policies around the pods. Not available in this version."""
    tls_options: TlsOptions | None = None
    """Mutual TLS between Ray's processes. Not available in this version."""
    history_server_options: HistoryServerOptions | None = None
    """Collection of Ray's events for the history server. Not available in this version."""
    idle_termination_options: IdleTerminationOptions | None = None
    """Termination of an idle cluster by Ray's autoscaler. Not available in this version."""
    idle_suspend: bool = False
    """Set by Ray's autoscaler when it suspends an idle cluster."""


class RayCluster(ApiModel):
    """One Ray cluster: a head pod, groups of workers and the services in front of them."""

    api_version: str = ""
    kind: str = ""
    metadata: OpenObject = {}
    spec: RayClusterSpec
    """Wanted state."""
    status: RayClusterStatus = Field(default_factory=RayClusterStatus)
    """Observed state."""

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.metadata.get("name", ""))


def parse_raycluster(manifest: Manifest) -> RayCluster:
    """The typed form of a RayCluster manifest.

    :raises SpecError: naming every field whose shape is wrong. Rules are checked by ``api.validation``.
    """
    try:
        return RayCluster.model_validate(lenient_status(manifest, RayClusterStatus))
    except ValidationError as error:
        raise SpecError(from_pydantic(error)) from None


def parse_raycluster_spec(spec: Any, path: tuple[str | int, ...] = ("spec",)) -> RayClusterSpec:
    """The typed form of a RayCluster's ``spec``, or of a RayService's ``spec.rayClusterConfig``.

    ``path`` is where it stands in the manifest, for messages.

    :raises SpecError: naming every field whose shape is wrong.
    """
    try:
        return RayClusterSpec.model_validate(spec)
    except ValidationError as error:
        raise SpecError(from_pydantic(error, path)) from None
