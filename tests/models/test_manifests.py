"""Manifests as KubeRay's users write them are read whole and pass every rule."""

from __future__ import annotations

from typing import Any

import pytest

from rayservice_operator.api.raycluster import RayClusterSpec, parse_raycluster
from rayservice_operator.api.rayservice import RayServiceSpec, parse_rayservice
from rayservice_operator.api.validation import validate_raycluster, validate_rayservice
from tests.models.manifests import documents

SERVICES = documents("RayService")
CLUSTERS = documents("RayCluster")


def test_there_are_enough_of_them() -> None:
    assert len(SERVICES) >= 10


@pytest.mark.parametrize("manifest", [m for _, m in SERVICES], ids=[m["metadata"]["name"] for _, m in SERVICES])
def test_rayservice_is_accepted(manifest: dict[str, Any]) -> None:
    parsed = parse_rayservice(manifest)
    assert validate_rayservice(manifest, parsed) == []
    dumped = parsed.spec.model_dump(by_alias=True, mode="json")
    assert list(missing(without_nulls(manifest["spec"]), dumped)) == []


@pytest.mark.parametrize("manifest", [m for _, m in CLUSTERS], ids=[m["metadata"]["name"] for _, m in CLUSTERS])
def test_raycluster_is_accepted(manifest: dict[str, Any]) -> None:
    parsed = parse_raycluster(manifest)
    assert validate_raycluster(manifest, parsed, from_service=False) == []
    dumped = parsed.spec.model_dump(by_alias=True, mode="json")
    assert list(missing(without_nulls(manifest["spec"]), dumped)) == []


def test_every_field_of_the_models_is_used_by_some_manifest() -> None:
    """So that "every field family" stays true: a new field needs a manifest that has it."""
    used = {key for _, manifest in SERVICES + CLUSTERS for key in keys(manifest["spec"])}
    used |= {key for _, m in documents("RayService", "unavailable") for key in keys(m["spec"])}
    used |= {key for _, m in documents("RayCluster", "unavailable") for key in keys(m["spec"])}
    declared = {info.alias for model in (RayServiceSpec, RayClusterSpec) for info in model.model_fields.values()}
    # idleSuspend is written by Ray, not by people.
    assert declared - used == {"idleSuspend"}


def without_nulls(value: Any) -> Any:
    """``value`` as the API server stores it in structural fields."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def missing(expected: Any, actual: Any, path: str = "") -> Any:
    """Paths of what is in ``expected`` and not, or otherwise, in ``actual``."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key not in actual:
                yield f"{path}.{key}"
            else:
                yield from missing(value, actual[key], f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from missing(one, other, f"{path}[{index}]")
    elif expected != without_nulls(actual):
        yield f"{path}: {expected!r} became {actual!r}"


def keys(value: Any) -> Any:
    """All keys at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item)
