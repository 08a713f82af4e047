"""How a RayService goes from one cluster spec to the next."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import ConfigDict, Field

from rayservice_operator.api.analysis import Analysis
from rayservice_operator.api.base import NULLABLE, ApiModel, Int32, cel, rules


class UpgradeType(enum.StrEnum):
    """Strategies for a change of ``rayClusterConfig`` that cannot be applied in place."""

    NEW_CLUSTER = "NewCluster"
    INCREMENTAL = "NewClusterWithIncrementalUpgrade"
    IN_PLACE = "InPlace"
    RECREATE = "Recreate"
    NONE = "None"


class ClusterUpgradeOptions(ApiModel):
    """Pace of NewClusterWithIncrementalUpgrade."""

    max_surge_percent: Annotated[Int32, Field(json_schema_extra=NULLABLE)] = 100
    """Share of Serve's capacity, in percent, that the new cluster may add at a time. Default 100."""
    step_size_percent: Int32 | None = None
    """Share of traffic, in percent, moved in one step."""
    interval_seconds: Int32 | None = None
    """Seconds between two steps."""
    gateway_class_name: str = ""
    """Class of the Gateway that splits the traffic by weights. Unset: it is split by the share of ready endpoints."""


class InPlaceOptions(ApiModel):
    """Pace of InPlace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.maxUnavailable) || self.maxUnavailable > 0 || (has(self.maxSurge) && self.maxSurge > 0)",
                "maxUnavailable and maxSurge must not both be 0, because no pod could ever be replaced",
                fieldPath=".maxUnavailable",
            ),
        )
    )

    max_unavailable: Annotated[Int32 | None, Field(json_schema_extra={"minimum": 0})] = None
    """Workers of a group that may be away at a time. Default 1, with maxSurge 0."""
    max_surge: Annotated[Int32 | None, Field(json_schema_extra={"minimum": 0})] = None
    """Workers that a group may have beyond its replicas meanwhile; these come before the old ones go. Default 0."""


_OTHER_TYPE = "!has(self.type) || self.type != 'NewClusterWithIncrementalUpgrade' || "
_NO_OPTIONS = _OTHER_TYPE + "!has(self.clusterUpgradeOptions) || "
_SURGE = "(has(self.clusterUpgradeOptions.maxSurgePercent) ? self.clusterUpgradeOptions.maxSurgePercent : 100)"
_OPTIONS = ".clusterUpgradeOptions"

# What KubeRay's operator refuses when it reads the object. It looks at the options of this one type only, so do we.
_INCREMENTAL_RULES = rules(
    cel(
        _OTHER_TYPE + "has(self.clusterUpgradeOptions)",
        "clusterUpgradeOptions is required with type NewClusterWithIncrementalUpgrade; "
        "set stepSizePercent and intervalSeconds there",
    ),
    cel(
        f"{_NO_OPTIONS}({_SURGE} >= 0 && {_SURGE} <= 100)",
        "maxSurgePercent must be from 0 to 100",
        fieldPath=f"{_OPTIONS}.maxSurgePercent",
    ),
    cel(
        f"{_NO_OPTIONS}(has(self.clusterUpgradeOptions.stepSizePercent) && "
        f"self.clusterUpgradeOptions.stepSizePercent >= 0 && self.clusterUpgradeOptions.stepSizePercent <= {_SURGE})",
        "stepSizePercent is required and must be from 0 to maxSurgePercent (100 when unset)",
        fieldPath=_OPTIONS,
    ),
    cel(
        f"{_NO_OPTIONS}(has(self.clusterUpgradeOptions.intervalSeconds) && "
        "self.clusterUpgradeOptions.intervalSeconds > 0)",
        "intervalSeconds is required and must be at least 1",
        fieldPath=_OPTIONS,
    ),
)


class UpgradeStrategy(ApiModel):
    """How a change of rayClusterConfig that cannot be applied in place is carried out."""

    model_config = ConfigDict(json_schema_extra=_INCREMENTAL_RULES)

    type: UpgradeType | None = None
    """NewCluster (default): a second cluster takes over when it is proven ready. NewClusterWithIncrementalUpgrade:
    capacity and traffic move in steps. InPlace: workers are rolled inside the cluster. Recreate: the old cluster goes
    first. None: the cluster spec is frozen."""
    cluster_upgrade_options: ClusterUpgradeOptions | None = None
    """Pace of NewClusterWithIncrementalUpgrade."""
    in_place: InPlaceOptions | None = None
    """Pace of InPlace."""
    progress_deadline_seconds: Annotated[Int32 | None, Field(json_schema_extra={"minimum": 1})] = None
    """Seconds that an upgrade may take as a whole before it is aborted and the old cluster stays, or a hot update
    before the serve config of before is put back. Unset: no limit."""
    paused: bool = False
    """Holds an upgrade where it is: none is begun, none takes over, and no deadline counts."""
    analysis: Analysis | None = None
    """Checks of the new cluster before it takes over: smoke requests and conditions on metrics."""
