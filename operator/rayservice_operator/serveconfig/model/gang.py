"""Replicas that start together or not at all, and actors beside the replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from rayservice_operator.serveconfig.model.base import Fault, Part
from rayservice_operator.serveconfig.model.values import code_path


class GangSchedulingConfig(Part):
    """``gang_scheduling_config`` of a deployment."""

    LABEL: ClassVar[str] = "gang_scheduling_config"

    gang_size: Annotated[int, Field(ge=1)]
    gang_placement_strategy: Literal["PACK", "SPREAD"] = "PACK"
    runtime_failure_policy: Literal["RESTART_GANG", "RESTART_REPLICA"] = "RESTART_GANG"

    def faults(self) -> Iterator[Fault]:
        if self.runtime_failure_policy == "RESTART_REPLICA":
            yield Fault(
                ("runtime_failure_policy",), "RESTART_REPLICA is named by Ray but not implemented", "Use RESTART_GANG"
            )


class DeploymentActor(Part):
    """An entry of ``deployment_actors``: an actor that all replicas of the deployment share."""

    LABEL: ClassVar[str] = "a deployment actor"

    name: str
    actor_class: Annotated[str, AfterValidator(code_path("an actor class", "module:Class"))]
    init_args: list[Any] = []
    init_kwargs: dict[str, Any] = {}
    actor_options: dict[str, Any] = {}
