"""ServeConfigV2 as our own pydantic models, one module a concern, without importing Ray.

The field lists, types and bounds are those of ``ray.serve.schema`` and ``ray.serve.config``; ``tests/serveconfig``
compares them with real Ray. :mod:`rayservice_operator.serveconfig.check` is what judges a document by them.
"""

from rayservice_operator.serveconfig.model.actor import RayActorOptions
from rayservice_operator.serveconfig.model.application import Application
from rayservice_operator.serveconfig.model.autoscaling import AutoscalingConfig, AutoscalingPolicy
from rayservice_operator.serveconfig.model.base import Deprecated, Fault, Part, Shape, Since, fields_of, minor_version
from rayservice_operator.serveconfig.model.deploy import ControllerOptions, Deploy, GrpcOptions, HttpOptions
from rayservice_operator.serveconfig.model.deployment import Deployment
from rayservice_operator.serveconfig.model.gang import DeploymentActor, GangSchedulingConfig
from rayservice_operator.serveconfig.model.logs import LoggingConfig, TracingConfig
from rayservice_operator.serveconfig.model.routing import BackpressureConfig, RequestRouterConfig
from rayservice_operator.serveconfig.model.runtime_env import RuntimeEnv, RuntimeEnvConfig

__all__ = [
    "Application",
    "AutoscalingConfig",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "ControllerOptions",
    "Deploy",
    "Deployment",
    "DeploymentActor",
    "Deprecated",
    "Fault",
    "GangSchedulingConfig",
    "GrpcOptions",
    "HttpOptions",
    "LoggingConfig",
    "Part",
    "RayActorOptions",
    "RequestRouterConfig",
    "RuntimeEnv",
    "RuntimeEnvConfig",
    "Shape",
    "Since",
    "TracingConfig",
    "fields_of",
    "minor_version",
]
