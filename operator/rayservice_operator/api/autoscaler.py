"""Options of the Ray autoscaler that runs beside the head."""

from __future__ import annotations

import enum

from rayservice_operator.api.base import ApiModel, Int32, OpenList, OpenObject, StringList


class AutoscalerVersion(enum.StrEnum):
    """Generations of Ray's autoscaler."""

    V1 = "v1"
    V2 = "v2"


class UpscalingMode(enum.StrEnum):
    """How fast the autoscaler adds workers."""

    DEFAULT = "Default"
    AGGRESSIVE = "Aggressive"
    CONSERVATIVE = "Conservative"


class AutoscalerOptions(ApiModel):
    """Options of the Ray autoscaler container on the head pod; used when `enableInTreeAutoscaling` is true."""

    version: AutoscalerVersion | None = None
    """v1 or v2. Unset: v2 from Ray 2.47 on, else v1."""
    idle_timeout_seconds: Int32 | None = None
    """Seconds a worker without work is kept. Ray's default is 60."""
    upscaling_mode: UpscalingMode | None = None
    """Default and Aggressive add workers without a limit on the rate, Conservative adds as many as already run."""
    resources: OpenObject | None = None
    """Resource requests and limits of the autoscaler container. Default 500m CPU and 512Mi memory for both."""
    image: str = ""
    """Image of the autoscaler container. Default: the head's image."""
    image_pull_policy: str = ""
    """Pull policy of the autoscaler image."""
    security_context: OpenObject | None = None
    """Security context of the autoscaler container."""
    env: OpenList = []
    """Environment variables of the autoscaler container."""
    env_from: OpenList = []
    """Sources of environment variables of the autoscaler container."""
    volume_mounts: OpenList = []
    """Volume mounts of the autoscaler container."""
    command: StringList = []
    """Replaces the command of the autoscaler container."""
    args: StringList = []
    """Replaces the arguments of the autoscaler container."""
