"""``spec.serveConfigV2``: from YAML text to one canonical form and its hash.

The text is written by people and stored by the API server unread, so everything that is wrong with it is found
here, with line and column. Scalars are read as KubeRay reads them (YAML 1.1 booleans, ``1e9`` is a number, a date
is a string), because the same manifest must mean the same thing; keys become strings as they do in JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from rayservice_operator.core.findings import Path, Position
from rayservice_operator.core.violations import Violation
from rayservice_operator.serveconfig.yamltext import YamlError, compose, position_of
from rayservice_operator.serveconfig.yamlvalues import construct

FIELD: Final = "spec.serveConfigV2"

MAX_BYTES: Final = 1 << 20
"""Longest text, in bytes of UTF-8. etcd refuses objects of 1.5 MiB, so nothing longer could be stored anyway."""

DEFAULT_APP_NAME: Final = "default"
"""Name of an application that has none (Ray 2.60, ``ServeApplicationSchema.name``)."""

_HASH_LENGTH: Final = 16
_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class ServeConfigError(ValueError):
    """``serveConfigV2`` cannot be used; ``violation`` says where, why and what to do.

    ``path`` leads from the config's root to what is wrong; ``position`` is the place in its text if that is no YAML.
    """

    def __init__(self, problem: str, fix: str, *, path: Path = (), position: Position | None = None) -> None:
        where = f" (line {position.line}, column {position.column})" if position is not None else ""
        field = field_text(path)
        self.problem = problem
        self.fix = fix
        self.path = path
        self.position = position
        self.violation = Violation(field=field, problem=f"{problem}{where}", fix=fix)
        super().__init__(str(self.violation))


def field_text(path: Path) -> str:
    """A path from the config's root as kubectl writes it: ``spec.serveConfigV2.applications[0].name``."""
    return FIELD + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A serve config that was read. ``document`` is plain JSON and is not to be changed.

    ``app_names`` are the declared applications in the order of the file.
    """

    document: dict[str, Any]
    app_names: tuple[str, ...]

    def applications(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each declared application: its name and its part of the document."""
        yield from zip(self.app_names, self.document["applications"], strict=True)


def parse(text: str | None) -> ServeConfig | None:
    """Reads ``serveConfigV2``; None for a text without any content (a RayService may have no applications).

    Raises :class:`ServeConfigError` for what is no YAML, is too large, repeats a key, or lacks the shape that
    makes applications recognisable. Values inside an application are not judged here.
    """
    if text is None or not text.strip():
        return None
    try:
        node = compose(text, MAX_BYTES)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            raise YamlError(
                "must be a mapping with the key `applications`",
                "Write `applications:` and a list of applications below it",
                position_of(node.start_mark),
            )
        document = construct(node)
    except YamlError as error:
        raise ServeConfigError(error.problem, error.fix, position=error.position) from None
    return ServeConfig(document=document, app_names=_app_names(document))


def canonical_json(config: ServeConfig) -> str:
    """The body to PUT: keys sorted, lists in the order written, nothing added.

    Ray restarts replicas when the text of ``ray_actor_options`` changes or the list of deployments is reordered
    (facts: Ray 2.60 ``deploy_utils.get_app_code_version``), so defaults are never filled in.
    """
    return document_json(config.document)


def document_json(document: Mapping[str, Any]) -> str:
    """:func:`canonical_json` of a config that is plain JSON already."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Readable by :func:`parse` again: YAML takes neither these characters raw nor escaped surrogate pairs.
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def config_hash(config: ServeConfig) -> str:
    """16 hexadecimal characters; texts that mean the same have the same."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:_HASH_LENGTH]


def _app_names(document: dict[str, Any]) -> tuple[str, ...]:
    """Names of the declared applications; raises for shapes that Ray refuses with HTTP 400 in any version."""
    applications = document.get("applications")
    if not isinstance(applications, list):
        problem = "is missing" if "applications" not in document else "must be a list"
        fix = "List the applications there, each with `name` and `import_path`"
        if "import_path" in document:
            fix = "Move `import_path` and what belongs to it into an entry of `applications`"
        raise ServeConfigError(problem, fix, path=("applications",))
    names: list[str] = []
    for index, application in enumerate(applications):
        path: Path = ("applications", index)
        if not isinstance(application, dict):
            raise ServeConfigError("must be a mapping", "Write `name: …` and `import_path: …`", path=path)
        name = application.get("name", DEFAULT_APP_NAME)
        if not isinstance(name, str) or not name:
            raise ServeConfigError(
                "must be a string that is not empty", "Give each application a name of its own", path=(*path, "name")
            )
        if name in names:
            raise ServeConfigError(
                f"the name {name!r} is used by more than one application",
                "Give each application a name of its own",
                path=(*path, "name"),
            )
        names.append(name)
    return tuple(names)
