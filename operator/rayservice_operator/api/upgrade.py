"""How a RayService goes from one cluster spec to the next."""

from __future__ import annotations

import enum

from rayservice_operator.api.base import ApiModel, Int32, OpenObject


class UpgradeType(enum.StrEnum):
    """Strategies for a change of ``rayClusterConfig`` that cannot be applied in place."""

    NEW_CLUSTER = "NewCluster"
    INCREMENTAL = "NewClusterWithIncrementalUpgrade"
    IN_PLACE = "InPlace"
    RECREATE = "Recreate"
    NONE = "None"


class ClusterUpgradeOptions(ApiModel):
    """Pace of NewClusterWithIncrementalUpgrade."""

    max_surge_percent: Int32 = 100
    """Share of Serve's capacity, in percent, that the new cluster may add at a time. Default 100."""
    step_size_percent: Int32 | None = None
    """Share of traffic, in percent, moved in one step."""
    interval_seconds: Int32 | None = None
    """Seconds between two steps."""
    gateway_class_name: str = ""
    """Class of the Gateway that splits the traffic."""


class UpgradeStrategy(ApiModel):
    """How a change of rayClusterConfig that cannot be applied in place is carried out."""

    type: UpgradeType | None = None
    """NewCluster (default): a second cluster takes over when it is proven ready. NewClusterWithIncrementalUpgrade:
    capacity and traffic move in steps. InPlace: workers are rolled inside the cluster. Recreate: the old cluster goes
    first. None: the cluster spec is frozen."""
    cluster_upgrade_options: ClusterUpgradeOptions | None = None
    """Pace of NewClusterWithIncrementalUpgrade."""
    progress_deadline_seconds: Int32 | None = None
    """Seconds an upgrade may take without progress before it is aborted and the old cluster stays."""
    paused: bool = False
    """Holds an upgrade where it is."""
    analysis: OpenObject | None = None
    """Checks of the new cluster before it takes over."""
