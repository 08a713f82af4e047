"""Rules of ``serveConfigV2`` that Ray Serve enforces when the config is sent to it (Ray 2.60, ``ray.serve.schema``)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

from rayservice_operator.core.violations import Violation
from rayservice_operator.serveconfig.canonical import FIELD, ServeConfig, ServeConfigError, parse
from rayservice_operator.serveconfig.model.values import import_path_complaint, route_prefix_complaint

DEFAULT_ROUTE_PREFIX: Final = "/"


@functools.lru_cache(maxsize=512)
def violations(text: str) -> tuple[Violation, ...]:
    """What Ray would answer with an error to; an empty text is a service without applications.

    Remembered by text: reading YAML takes longer than all other rules together, and every decision asks.
    """
    return tuple(_violations(text))


@functools.lru_cache(maxsize=64)
def read(text: str) -> ServeConfig | ServeConfigError | None:
    """:func:`parse`, remembered by text, with the error as a value."""
    try:
        return parse(text)
    except ServeConfigError as error:
        return error


def _violations(text: str) -> Iterator[Violation]:
    config = read(text)
    if isinstance(config, ServeConfigError):
        yield config.violation
        return
    if config is None:
        return
    prefixes: dict[str, str] = {}
    for index, (name, application) in enumerate(config.applications()):
        path = f"{FIELD}.applications[{index}]"
        yield from _import_path(path, application)
        yield from _route_prefix(path, name, application, prefixes)
        for key in ("host", "port"):
            if key in application:
                fix = f"Move it to http_options.{key}, beside applications"
                yield Violation(f"{path}.{key}", "cannot be set for one application", fix)


def _import_path(path: str, application: dict[str, Any]) -> Iterator[Violation]:
    value = application.get("import_path")
    if value is None:
        yield Violation(f"{path}.import_path", "is missing", "Write module:application, for example my_package.app:app")
        return
    complaint = import_path_complaint(value)
    if complaint is not None:
        yield Violation(f"{path}.import_path", *complaint)


def _route_prefix(path: str, name: str, application: dict[str, Any], prefixes: dict[str, str]) -> Iterator[Violation]:
    """``prefixes``: application by prefix among those before this one; this one is added."""
    prefix = application.get("route_prefix", DEFAULT_ROUTE_PREFIX)
    path = f"{path}.route_prefix"
    complaint = route_prefix_complaint(prefix)
    if complaint is not None:
        yield Violation(path, *complaint)
    elif prefix is None:  # reachable only through handles
        return
    elif prefix in prefixes:
        written = "is" if "route_prefix" in application else "is not set and so is"
        yield Violation(
            path,
            f"{written} {prefix!r}, as that of the application {prefixes[prefix]!r}",
            "Give each application a prefix of its own, or null for one that is called only by others",
        )
    else:
        prefixes[prefix] = name
