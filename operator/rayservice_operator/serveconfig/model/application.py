"""One application: code to import, a route, and what its deployments have set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from rayservice_operator.serveconfig.model.autoscaling import AutoscalingPolicy
from rayservice_operator.serveconfig.model.base import Fault, Part, Since
from rayservice_operator.serveconfig.model.deployment import AUTO, Deployment
from rayservice_operator.serveconfig.model.logs import LoggingConfig
from rayservice_operator.serveconfig.model.runtime_env import RuntimeEnv
from rayservice_operator.serveconfig.model.values import import_path_complaint, refuse, route_prefix_complaint

DEFAULT_NAME: Final = "default"
DEFAULT_ROUTE_PREFIX: Final = "/"


def _import_path(value: str) -> str:
    complaint = import_path_complaint(value)
    if complaint:
        raise refuse(*complaint)
    return value


def _route_prefix(value: str | None) -> str | None:
    complaint = route_prefix_complaint(value)
    if complaint:
        raise refuse(*complaint)
    return value


class Application(Part):
    """An entry of ``applications``."""

    LABEL: ClassVar[str] = "an application"
    MOVED: ClassVar[Mapping[str, str]] = {
        "http_options": "Move it to the top, beside applications",
        "grpc_options": "Move it to the top, beside applications",
        "proxy_location": "Move it to the top, beside applications",
        "num_replicas": "Move it to an entry of deployments",
        "ray_actor_options": "Move it to an entry of deployments",
        "autoscaling_config": "Move it to an entry of deployments",
        "user_config": "Move it to an entry of deployments",
    }

    name: Annotated[str, Field(min_length=1)] = DEFAULT_NAME
    route_prefix: Annotated[str | None, AfterValidator(_route_prefix)] = DEFAULT_ROUTE_PREFIX
    import_path: Annotated[str, AfterValidator(_import_path)]
    runtime_env: RuntimeEnv = RuntimeEnv()
    host: str = "0.0.0.0"
    port: int = 8000
    deployments: list[Deployment] = []
    autoscaling_policy: Annotated[AutoscalingPolicy | None, Since(2, 51)] = None
    args: dict[Any, Any] = {}
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: Annotated[bool, Since(2, 53)] = False

    @classmethod
    def plain_faults(cls, value: Mapping[str, Any]) -> Iterator[Fault]:
        for key in ("host", "port"):
            if key in value:
                fix = f"Move it to http_options.{key}, beside applications"
                yield Fault((key,), "cannot be set for one application", fix)

    def faults(self) -> Iterator[Fault]:
        yield from self._environments()
        seen: set[str] = set()
        for index, deployment in enumerate(self.deployments):
            if deployment.name in seen:
                yield Fault(
                    ("deployments", index, "name"),
                    f"the name {deployment.name!r} is used more than once; the entries are applied one after the other",
                    "Merge them into one entry",
                    severity="warning",
                )
            seen.add(deployment.name)
            if self.external_scaler_enabled and deployment.is_autoscaled:
                key = "num_replicas" if deployment.num_replicas == AUTO else "autoscaling_config"
                yield Fault(
                    ("deployments", index, key),
                    "asks for Serve's autoscaler, but the application has external_scaler_enabled",
                    "Remove one of them",
                )

    def _environments(self) -> Iterator[Fault]:
        """Ray merges the application's runtime_env with that of each deployment that is listed."""
        own = self.runtime_env
        alone = {fault.problem for fault in own.together()}
        if self.deployments and _has_null_variables(own):
            yield Fault(("runtime_env", "env_vars"), *_NULL_VARIABLES)
        for index, deployment in enumerate(self.deployments):
            child = deployment.ray_actor_options.runtime_env
            path = ("deployments", index, "ray_actor_options", "runtime_env")
            if _has_null_variables(child):
                yield Fault((*path, "env_vars"), *_NULL_VARIABLES)
            known = alone | {fault.problem for fault in child.together()}
            for fault in own.merged_with(child).together():
                if fault.problem not in known:
                    problem = f"{fault.path[0]} {fault.problem} once the application's runtime_env is merged into it"
                    yield Fault(path, problem, fault.fix)


_NULL_VARIABLES: Final = ("is null, which Ray cannot merge", "Remove it, or write {}")


def _has_null_variables(environment: RuntimeEnv) -> bool:
    return "env_vars" in environment.model_fields_set and environment.env_vars is None
