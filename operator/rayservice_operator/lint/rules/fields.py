"""The rule about fields of a RayService or RayCluster that there are none of: typing errors, mostly.

Kubernetes' own parts (pod templates, services) are left to the API server, which knows its version.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from rayservice_operator.api.base import ApiModel
from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Subject

# Where people put a field too high or too low: its name -> where it belongs.
_MOVED: Final[Mapping[str, str]] = {
    "rayVersion": "Move it into rayClusterConfig",
    "headGroupSpec": "Move it into rayClusterConfig",
    "workerGroupSpecs": "Move it into rayClusterConfig",
    "enableInTreeAutoscaling": "Move it into rayClusterConfig",
    "autoscalerOptions": "Move it into rayClusterConfig",
    "serveConfigV2": "Move it up into spec of the RayService",
    "serveConfig": "Use serveConfigV2",
}


def _fields(subject: Subject) -> Iterator[Problem]:
    yield from _unknown(subject.manifest, type(subject.parsed), ())


def _unknown(value: Any, model: type[ApiModel], path: Path) -> Iterator[Problem]:
    """Keys of a mapping that the model has no field for, at any depth that is ours."""
    if not isinstance(value, dict):
        return
    known = _models(model)
    for key, child in value.items():
        if key not in known:
            yield Problem((*path, key), f"is no field of {_label(path)}, so it is dropped", _advice(str(key), known))
            continue
        below = known[key]
        if below is None or key == "status":
            continue
        if isinstance(child, list):
            for index, item in enumerate(child):
                yield from _unknown(item, below, (*path, key, index))
        else:
            yield from _unknown(child, below, (*path, key))


@functools.cache
def _models(model: type[ApiModel]) -> Mapping[str, type[ApiModel] | None]:
    """Fields as a manifest names them, each with the model of what is in it or its items; None for anything else."""
    return {info.alias or name: _model_in(info.annotation) for name, info in model.model_fields.items()}


def _model_in(annotation: Any) -> type[ApiModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _label(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    return names[-1] if names else "a manifest"


def _advice(key: str, known: Mapping[str, Any]) -> str:
    folded = {name.lower(): name for name in known}
    near = folded.get(key.replace("_", "").replace("-", "").lower())
    near = near or next(iter(difflib.get_close_matches(key, known, 1, 0.7)), None)
    return f"Did you mean {near}?" if near else _MOVED.get(key, "Remove it; docs/api.md lists the fields")


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "unknown-field",
        Severity.WARNING,
        "A field that a RayService or RayCluster does not have",
        "kubectl refuses it; other clients have it dropped without a word, and what it was to do is not done.",
        "Correct its name or its place.",
        "workerGroupSpecs:\n  - groupName: a\n    maxReplica: 4   # maxReplicas",
        _fields,
    ),
)
