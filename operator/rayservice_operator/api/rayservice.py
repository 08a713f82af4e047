"""RayService: a Ray cluster that serves the applications of a Serve config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError

from rayservice_operator.api.base import ApiModel, Int32, OpenObject
from rayservice_operator.api.raycluster import MANAGED_BY_RULES, RayClusterSpec
from rayservice_operator.api.raycluster_status import lenient_status
from rayservice_operator.api.rayservice_status import RayServiceStatus
from rayservice_operator.api.specerror import SpecError, from_pydantic
from rayservice_operator.api.upgrade import UpgradeStrategy, UpgradeType
from rayservice_operator.core.objects import Manifest


class RayServiceSpec(ApiModel):
    """What is served, and the cluster that serves it."""

    ray_cluster_config: RayClusterSpec
    """The Ray cluster that serves. Changes that cannot be applied in place go the way of upgradeStrategy."""
    serve_config_v2: Annotated[str, Field(alias="serveConfigV2")] = ""
    """Ray Serve's declarative config as YAML text. A change of it alone is a hot update: no pod restarts."""
    upgrade_strategy: UpgradeStrategy | None = None
    """How a change of rayClusterConfig is carried out."""
    serve_service: OpenObject | None = None
    """Template of the service in front of Serve; its selector is ignored."""
    exclude_head_pod_from_serve_svc: bool = False
    """Whether the head pod is kept out of the service in front of Serve."""
    ray_cluster_deletion_delay_seconds: Annotated[Int32 | None, Field(json_schema_extra={"minimum": 0})] = None
    """Seconds the old cluster is kept after the new one has taken over. Default 60."""
    suspend: bool = False
    """Whether clusters and services are removed until it is false again."""
    managed_by: Annotated[str, Field(json_schema_extra=MANAGED_BY_RULES)] = ""
    """Which controller looks after this object. Unset: this operator. Immutable."""
    service_unhealthy_second_threshold: Int32 | None = None
    """Seconds that a service which was ready once may be without a Serve API or endpoints, with nothing moving, before
    that is reported, and recovered from with the annotation ray.io/auto-recovery. Default 900."""
    deployment_unhealthy_second_threshold: Int32 | None = None
    """Seconds that an application may stay failed, with nothing moving. Then a hot update goes back to the last good
    config, an upgrade is aborted, and else it is reported, and recovered from with the annotation
    ray.io/auto-recovery. Default 300."""

    @property
    def upgrade_type(self) -> UpgradeType | None:
        """``upgradeStrategy.type``; None when unset."""
        return self.upgrade_strategy.type if self.upgrade_strategy else None


class RayService(ApiModel):
    """A Ray cluster that serves Ray Serve applications, and replaces itself without losing a request."""

    api_version: str = ""
    kind: str = ""
    metadata: OpenObject = {}
    spec: RayServiceSpec
    """Wanted state."""
    status: RayServiceStatus = Field(default_factory=RayServiceStatus)
    """Observed state."""

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self.metadata.get("name", ""))


def parse_rayservice(manifest: Manifest) -> RayService:
    """The typed form of a RayService manifest.

    :raises SpecError: naming every field whose shape is wrong. Rules are checked by ``api.validation``.
    """
    try:
        return RayService.model_validate(lenient_status(manifest, RayServiceStatus))
    except ValidationError as error:
        raise SpecError(from_pydantic(error)) from None
