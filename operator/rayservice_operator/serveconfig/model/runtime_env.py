"""``runtime_env``: packages, files and environment variables of the processes that run the code.

Ray ignores keys that it does not know here (plug-ins may bring their own). What it refuses ends the deployment with
DEPLOY_FAILED, after minutes if it was to be installed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, StrictBool, StrictInt

from rayservice_operator.serveconfig.model.base import Deprecated, Fault, Part, Version
from rayservice_operator.serveconfig.model.values import is_archive_uri, refuse, shown, uri_complaint


def _installer(name: str) -> Any:
    """A validator of ``pip`` and ``uv``: a list of requirements, a file's name, or a mapping with ``packages``."""
    types: dict[str, tuple[type, str]] = {
        f"{name}_check": (bool, "true or false"),
        f"{name}_version": (str, "text, for example '==26.0'"),
        ("pip_install_options" if name == "pip" else "uv_pip_install_options"): (list, "a list of options"),
    }

    def validate(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, list):
            return _requirements(value)
        if not isinstance(value, dict):
            raise refuse(f"{shown(value)} is no list of packages", "Write a list, for example ['torch==2.9.0']")
        if "packages" not in value:
            raise refuse("has no packages", "List them below `packages`")
        for key, option in value.items():
            if key == "packages":
                if name == "uv" or not isinstance(option, str):
                    _requirements(option)
            elif key not in types:
                raise refuse(f"has {shown(key)}, which Ray refuses", f"Only packages, {', '.join(types)} are allowed")
            elif not isinstance(option, types[key][0]):
                raise refuse(f"has {key} {shown(option)}, which Ray refuses", f"Write {types[key][1]}")
            elif isinstance(option, list):
                _requirements(option)
        return value

    return validate


def _requirements(value: Any) -> Any:
    if not isinstance(value, list):
        raise refuse(f"{shown(value)} is no list of packages", "Write a list, for example ['torch==2.9.0']")
    for entry in value:
        if not isinstance(entry, str):
            raise refuse(f"{shown(entry)} in the list is no text", "Put it in quotes")
    return value


def _conda(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise refuse(f"{shown(value)} is no conda environment", "Write its name, or a mapping with `dependencies`")


def _variables(value: Any) -> Any:
    """Ray looks whether there are any before it looks at the type."""
    return {} if value in ([], "") else value


class RuntimeEnvConfig(Part):
    """``runtime_env.config``."""

    LABEL: ClassVar[str] = "runtime_env.config"
    VERBATIM: ClassVar[bool] = True

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
    VERBATIM: ClassVar[bool] = True

    working_dir: str | None = None
    py_modules: list[str] = []
    py_executable: Any = None
    java_jars: Any = None
    excludes: list[str] | None = None
    pip: Annotated[Any, BeforeValidator(_installer("pip"))] = None
    uv: Annotated[Any, BeforeValidator(_installer("uv"))] = None
    conda: Annotated[Any, BeforeValidator(_conda)] = None
    env_vars: Annotated[dict[str, str] | None, BeforeValidator(_variables)] = None
    image_uri: str | None = None
    container: Annotated[dict[str, Any] | None, Deprecated("Use image_uri")] = None
    worker_process_setup_hook: Any = None
    nsight: Any = None
    rocprof_sys: Any = None
    config: RuntimeEnvConfig | None = None

    def faults(self) -> Iterator[Fault]:
        for index, uri in enumerate(self.py_modules):
            yield from _uri_faults(("py_modules", index), uri)
        if self.working_dir is not None:
            yield from _uri_faults(("working_dir",), self.working_dir)
        yield from self.together()

    def set_values(self) -> dict[str, Any]:
        """What is set and not null."""
        return {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}

    def merged_with(self, child: RuntimeEnv) -> RuntimeEnv:
        """As Ray merges an application's (this) with a deployment's: key by key, the deployment's wins."""
        values = {**self.set_values(), **child.set_values()}
        return RuntimeEnv.model_construct(_fields_set=set(values), **values)

    def together(self) -> Iterator[Fault]:
        """Keys that exclude each other."""
        there = self.set_values()
        installers = [key for key in ("pip", "uv", "conda") if key in there]
        if len(installers) > 1:
            yield Fault((installers[1],), f"cannot be set together with {installers[0]}", "Keep one of them")
        for key in ("image_uri", "container"):
            others = sorted(there.keys() - {key, "config", "env_vars"})
            if there.get(key) and others:
                yield Fault((key,), f"cannot be set together with {', '.join(others)}", "Put that into the image")


def _uri_faults(path: tuple[str | int, ...], uri: str) -> Iterator[Fault]:
    complaint = uri_complaint(uri)
    if complaint:
        yield Fault(path, *complaint)
        return
    if uri.lower().startswith("local:"):
        yield Fault(path, f"{shown(uri)} needs Ray 2.60", "Put the code on PYTHONPATH", until=(2, 59))
        return
    if not is_archive_uri(uri):
        return
    for endings, since, until in _ARCHIVES[str(path[0])]:
        if not uri.partition("?")[0].endswith(endings):
            problem = f"{shown(uri)} does not end in {', '.join(endings)}"
            yield Fault(path, problem, "Name an archive of one of these kinds", since=since, until=until)


_ZIP_WHEEL: Final = (".zip", ".whl")
_TAR: Final = (".tar.gz", ".tgz")
_ARCHIVES: Final[Mapping[str, tuple[tuple[tuple[str, ...], Version, Version | None], ...]]] = {
    "working_dir": (
        (_ZIP_WHEEL, (0, 0), (2, 54)),
        ((*_ZIP_WHEEL, *_TAR), (2, 55), (2, 59)),
        ((".zip", *_TAR, ".tar.xz"), (2, 60), None),
    ),
    "py_modules": (
        (_ZIP_WHEEL, (0, 0), (2, 54)),
        ((*_ZIP_WHEEL, *_TAR), (2, 55), (2, 59)),
        ((*_ZIP_WHEEL, *_TAR, ".tar.xz"), (2, 60), None),
    ),
}
"""Archives that Ray takes: their endings, the first and the last version. When between 2.55 and 2.57 ``.tar.gz``
came was not looked up; it is given the benefit of the doubt."""
