"""The whole config: the applications, and what all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from rayservice_operator.serveconfig.model.application import DEFAULT_NAME, DEFAULT_ROUTE_PREFIX, Application
from rayservice_operator.serveconfig.model.base import Fault, Part, Since, Version
from rayservice_operator.serveconfig.model.logs import LoggingConfig, TracingConfig
from rayservice_operator.serveconfig.model.values import refuse, route_prefix_complaint, shown


class HttpOptions(Part):
    """``http_options``. Changes have no effect until Serve is started anew."""

    LABEL: ClassVar[str] = "http_options"
    MOVED: ClassVar[Mapping[str, str]] = {
        "location": "Use proxy_location, beside http_options",
        "proxy_location": "Move it to the top, beside http_options",
        "middlewares": "Serve no longer has it; use FastAPI in the ingress deployment",
        "num_cpus": "Serve no longer has it; remove it",
        "root_url": "It cannot be set in a config; remove it",
    }

    host: str = "0.0.0.0"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    ssl_keyfile: Annotated[str | None, Since(2, 50)] = None
    ssl_certfile: Annotated[str | None, Since(2, 50)] = None
    ssl_keyfile_password: Annotated[str | None, Since(2, 50)] = None
    ssl_ca_certs: Annotated[str | None, Since(2, 50)] = None

    def faults(self) -> Iterator[Fault]:
        if bool(self.ssl_certfile) == bool(self.ssl_keyfile):
            return
        there, lacking = ("ssl_certfile", "ssl_keyfile") if self.ssl_certfile else ("ssl_keyfile", "ssl_certfile")
        # Ray looks at the certificate only; with a key alone it serves plain HTTP without a word.
        severe: Literal["error", "warning"] = "error" if "ssl_certfile" in self.model_fields_set else "warning"
        yield Fault((there,), f"is set without {lacking}", f"Set {lacking} too, or HTTPS stays off", severity=severe)


class GrpcOptions(Part):
    """``grpc_options``. Changes have no effect until Serve is started anew."""

    LABEL: ClassVar[str] = "grpc_options"

    port: int = 9000
    grpc_servicer_functions: list[str] = []
    request_timeout_s: float | None = None
    enable_reflection: Annotated[bool, Since(2, 60)] = True


def _environment(value: Any) -> Any:
    """Only variables, and nothing but text in them; Ray looks at the types itself."""
    if not isinstance(value, dict):
        return value
    others = sorted(str(key) for key in value if key != "env_vars")
    if others:
        raise refuse(f"has {', '.join(others)}, but the controller takes env_vars only", "Move that to a deployment")
    variables = value.get("env_vars", {})
    if not isinstance(variables, dict):
        raise refuse(f"has env_vars {shown(variables)}, which is no mapping", "Write names and values below it")
    for name, text in variables.items():
        if not name or not isinstance(text, str):
            raise refuse(f"has the variable {name!r} with {shown(text)}, which is no text", "Put it in quotes")
    return value


class ControllerOptions(Part):
    """``controller_options``. They have no effect once the controller runs."""

    LABEL: ClassVar[str] = "controller_options"
    STRICT_SINCE: ClassVar[Version | None] = (2, 56)

    runtime_env: Annotated[dict[str, Any] | None, BeforeValidator(_environment)] = None


class Deploy(Part):
    """The body of ``PUT /api/serve/applications/``."""

    LABEL: ClassVar[str] = "the serve config"
    MOVED: ClassVar[Mapping[str, str]] = {
        "import_path": "Move it into an entry of applications",
        "runtime_env": "Move it into an entry of applications",
        "deployments": "Move it into an entry of applications",
        "host": "Move it into http_options",
        "port": "Move it into http_options",
    }

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "EveryNode"
    http_options: HttpOptions = HttpOptions()
    grpc_options: GrpcOptions = GrpcOptions()
    controller_options: Annotated[ControllerOptions | None, Since(2, 56)] = None
    logging_config: LoggingConfig | None = None
    tracing_config: Annotated[TracingConfig | None, Since(2, 59)] = None
    applications: list[Application]
    target_capacity: Annotated[float | None, Field(ge=0, le=100)] = None

    @classmethod
    def plain_faults(cls, value: Mapping[str, Any]) -> Iterator[Fault]:
        """Names and routes that more than one application has."""
        applications = value.get("applications")
        names: set[str] = set()
        prefixes: dict[str, str] = {}
        for index, application in enumerate(applications if isinstance(applications, list) else []):
            if not isinstance(application, Mapping):
                continue
            name = application.get("name", DEFAULT_NAME)
            if isinstance(name, str) and name in names:
                yield Fault(
                    ("applications", index, "name"),
                    f"the name {name!r} is used by more than one application",
                    "Give each application a name of its own",
                )
            names.add(str(name))
            prefix = application.get("route_prefix", DEFAULT_ROUTE_PREFIX)
            if not isinstance(prefix, str) or route_prefix_complaint(prefix) is not None:
                continue
            if prefix in prefixes:
                written = "is" if "route_prefix" in application else "is not set and so is"
                yield Fault(
                    ("applications", index, "route_prefix"),
                    f"{written} {prefix!r}, as that of the application {prefixes[prefix]!r}",
                    "Give each application a prefix of its own, or null for one that is called only by others",
                )
            prefixes.setdefault(prefix, str(name))
