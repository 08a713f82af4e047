"""``runtime_env``: packages, files and environment variables of the processes that run the code.

Ray ignores keys that it does not know here (plug-ins may bring their own). What it refuses ends the deployment with
DEPLOY_FAILED, after minutes if it was to be installed first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, StrictBool, StrictInt

from rayservice_operator.serveconfig.model.base import Deprecated, Fault, Part
from rayservice_operator.serveconfig.model.values import LOCAL, refuse, shown, uri_complaint


def _packages(value: Any) -> Any:
    """A list of requirements, a file's name, or a mapping with ``packages``."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        for entry in value:
            if not isinstance(entry, str):
                raise refuse(f"{shown(entry)} in the list is no requirement", "Write text, for example 'torch==2.9.0'")
        return value
    if isinstance(value, dict):
        if "packages" not in value:
            raise refuse("has no packages", "List them below `packages`")
        return value
    raise refuse(f"{shown(value)} is no list of packages", "Write a list, for example ['torch==2.9.0']")


def _conda(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise refuse(f"{shown(value)} is no conda environment", "Write its name, or a mapping with `dependencies`")


class RuntimeEnvConfig(Part):
    """``runtime_env.config``."""

    LABEL: ClassVar[str] = "runtime_env.config"

    setup_timeout_seconds: StrictInt = 600
    eager_install: StrictBool = True
    log_files: list[str] | None = None

    def faults(self) -> Iterator[Fault]:
        if self.setup_timeout_seconds <= 0 and self.setup_timeout_seconds != -1:
            yield Fault(
                ("setup_timeout_seconds",),
                f"{self.setup_timeout_seconds} is neither above 0 nor -1",
                "Write seconds, or -1 for no limit",
            )


class RuntimeEnv(Part):
    """``runtime_env`` of an application or of a deployment's replicas."""

    LABEL: ClassVar[str] = "runtime_env"

    working_dir: str | None = None
    py_modules: list[str] = []
    py_executable: str | None = None
    java_jars: Any = None
    excludes: list[str] | None = None
    pip: Annotated[Any, BeforeValidator(_packages)] = None
    uv: Annotated[Any, BeforeValidator(_packages)] = None
    conda: Annotated[Any, BeforeValidator(_conda)] = None
    env_vars: dict[str, str] | None = None
    image_uri: str | None = None
    container: Annotated[dict[str, Any] | None, Deprecated("Use image_uri")] = None
    worker_process_setup_hook: str | None = None
    nsight: Any = None
    rocprof_sys: Any = None
    config: RuntimeEnvConfig | None = None

    def faults(self) -> Iterator[Fault]:
        uris = [(("py_modules", index), uri) for index, uri in enumerate(self.py_modules)]
        for path, uri in [*uris, *([(("working_dir",), self.working_dir)] if self.working_dir is not None else [])]:
            complaint = uri_complaint(uri)
            if complaint:
                yield Fault(path, *complaint)
            elif uri.lower().startswith(f"{LOCAL}:"):
                yield Fault(path, f"{shown(uri)} needs Ray 2.60", "Put the code on PYTHONPATH", until=(2, 59))
        yield from self._together()

    def _together(self) -> Iterator[Fault]:
        installers = [key for key in ("pip", "uv", "conda") if getattr(self, key) is not None]
        if len(installers) > 1:
            yield Fault((installers[1],), f"cannot be set together with {installers[0]}", "Keep one of them")
        for key in ("image_uri", "container"):
            allowed = {key, "config", "env_vars"} | ({"working_dir", "py_modules"} if key == "image_uri" else set())
            others = sorted(name for name in self.model_fields_set - allowed if getattr(self, name) is not None)
            if getattr(self, key) and others:
                yield Fault((key,), f"cannot be set together with {', '.join(others)}", "Put that into the image")
