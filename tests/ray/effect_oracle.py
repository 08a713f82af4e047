"""Runs inside Ray's interpreter: what Ray's own functions say that a change of the config does. No cluster is started.

Reads a JSON list of ``[before, after]`` documents from standard input; writes, for each, the reach by deployment (the
words of ``serveconfig.fields.Reach``) or the complaint of Ray's schema. The build of an application is stood in for by
two deployments ``D`` (the ingress) and ``E`` with Ray's defaults.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.serve._private.application_state import override_deployment_info
from ray.serve._private.config import DeploymentConfig, ReplicaConfig
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve._private.deployment_state import DeploymentTargetState
from ray.serve.schema import ServeDeploySchema


class Thing:
    """A deployment's class."""


def target(document: dict[str, Any]) -> dict[str, DeploymentTargetState]:
    """What ``ApplicationState`` hands to the deployments, and the target state they make of it."""
    config = ServeDeploySchema.model_validate(document)
    app = config.applications[0]
    if app.logging_config is None and config.logging_config:
        app.logging_config = config.logging_config
    built = {
        name: DeploymentInfo(
            # By way of the wire, as the build task hands them over.
            deployment_config=DeploymentConfig.from_proto_bytes(DeploymentConfig().to_proto_bytes()),
            replica_config=ReplicaConfig.from_proto_bytes(ReplicaConfig.create(Thing).to_proto_bytes()),
            start_time_ms=0,
            deployer_job_id="",
            version=get_app_code_version(app),
            route_prefix="/" if name == "D" else None,
        )
        for name in ("D", "E")
    }
    states = {}
    for name, info in override_deployment_info(built, app).items():
        info.set_target_capacity(config.target_capacity, None)
        if app.logging_config and info.deployment_config.logging_config is None:
            info.deployment_config.logging_config = app.logging_config.model_dump()
        states[name] = DeploymentTargetState.create(info, 1)
    return states


def reach(old: DeploymentTargetState, new: DeploymentTargetState) -> str:
    """The decision of ``DeploymentState.deploy`` and of the rolling update after it."""
    before, after = old.info, new.info
    if before.version != after.version:
        return "application rebuilt"
    changed = (
        before.deployment_config != after.deployment_config
        or before.replica_config.ray_actor_options != after.replica_config.ray_actor_options
        or before.route_prefix != after.route_prefix
        or before.target_capacity != after.target_capacity
    )
    if not changed:
        return "unchanged"
    if old.version.requires_actor_restart(new.version):
        return "rolling restart"
    if old.version.requires_actor_reconfigure(new.version):
        return "reconfigure() called"
    return "controller only" if old.version == new.version else "replica object updated"


def main() -> None:
    """Answers every pair."""
    answers: list[dict[str, str]] = []
    for before, after in json.load(sys.stdin):
        try:
            old, new = target(before), target(after)
        except Exception as error:
            answers.append({"error": f"{type(error).__name__}: {error}"})
        else:
            answers.append({name: reach(old[name], new[name]) for name in old})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
