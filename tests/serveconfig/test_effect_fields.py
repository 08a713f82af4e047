"""Every field that the installed Ray knows has a row that says what its change does."""

from __future__ import annotations

import json
import subprocess

import pytest

from rayservice_operator.serveconfig.fields import FIELDS
from tests.ray import real_ray

_FIELDS_OF_RAY = """
import json
from ray.serve import config, schema

PARTS = {
    "": schema.ServeDeploySchema,
    "http_options.": schema.HTTPOptionsSchema,
    "grpc_options.": schema.gRPCOptionsSchema,
    "controller_options.": config.ControllerOptions,
    "logging_config.": schema.LoggingConfig,
    "tracing_config.": schema.TracingConfig,
    "applications[].": schema.ServeApplicationSchema,
    "applications[].logging_config.": schema.LoggingConfig,
    "applications[].deployments[].": schema.DeploymentSchema,
    "applications[].deployments[].logging_config.": schema.LoggingConfig,
    "applications[].deployments[].backpressure_config.": config.BackpressureConfig,
    "applications[].deployments[].autoscaling_config.": config.AutoscalingConfig,
    "applications[].deployments[].autoscaling_config.policy.": config.AutoscalingPolicy,
    "applications[].deployments[].ray_actor_options.": schema.RayActorOptionsSchema,
    "applications[].deployments[].request_router_config.": config.RequestRouterConfig,
    "applications[].deployments[].gang_scheduling_config.": config.GangSchedulingConfig,
    "applications[].deployments[].deployment_actors[].": config.DeploymentActorConfig,
}
print(json.dumps([prefix + name for prefix, part in PARTS.items() for name in part.model_fields]))
"""


@pytest.mark.real_ray
def test_every_field_of_ray_has_a_row_and_no_row_is_without_a_field() -> None:
    done = subprocess.run(
        [str(real_ray.ray_python()), "-c", _FIELDS_OF_RAY], capture_output=True, text=True, check=True, timeout=120
    )
    of_ray = set(json.loads(done.stdout.splitlines()[-1]))
    assert of_ray - FIELDS.keys() == set()
    assert FIELDS.keys() - of_ray == set()
