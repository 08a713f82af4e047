"""Whatever stands in a manifest or in a stored object, the answer is a preview, never a traceback."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rayservice_operator.core.objects import Manifest
from rayservice_operator.service.preview import Kind, preview
from tests.models.test_robustness import JSON, places
from tests.service.preview.scenarios import Scenario, scenarios

SCENARIOS = scenarios()
CASES = [name for name, scenario in SCENARIOS.items() if scenario.before is not None and "metadata" in scenario.after]


def _objects(name: str) -> dict[str, Manifest]:
    scenario = SCENARIOS[name]
    assert scenario.before is not None
    return {"before": scenario.before, "after": scenario.after}


# metadata and status are left alone: the API server has made sure of their shape.
PLACES = [
    (name, side, ("spec", *path))
    for name in CASES
    for side, manifest in _objects(name).items()
    for path in places(manifest["spec"])
]


def _with(manifest: Manifest, path: tuple[Any, ...], value: Any) -> Manifest:
    made = copy.deepcopy(manifest)
    here: Any = made
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return made


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere(place: tuple[str, str, tuple[Any, ...]], value: Any) -> None:
    name, side, path = place
    scenario: Scenario = SCENARIOS[name]
    made = _objects(name)
    made[side] = _with(made[side], path, value)
    told = preview(made["before"], made["after"], live=scenario.live)
    assert told.lines()
    json.dumps(told.as_dict())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON, st.sampled_from(CASES))
@example({}, "the same")
@example({"metadata": {"name": "demo"}, "spec": {}}, "the same")
@example({"metadata": {"name": "demo"}, "spec": {"rayClusterConfig": None}}, "the same")
@example({"metadata": {"name": 5}, "spec": {"rayClusterConfig": {}}}, "the same")
def test_anything_as_a_manifest(value: Any, name: str) -> None:
    made = _objects(name)
    refused = preview(made["before"], value)
    assert refused.kind is Kind.REFUSED
    assert refused.violations
    assert preview(None, value).kind is Kind.REFUSED
    assert preview(value, made["after"]).lines()


DEEP = "applications: [{name: a, import_path: 'a:a', args: " + "{a: " * 60 + "1" + "}" * 60 + "}]"


def test_deep_and_large_configs() -> None:
    made = _objects("the same")
    for text in (DEEP, "applications: []\n# " + "x" * 900_000, "\x00", "applications: [&a {name: a, x: *a}]"):
        assert preview(made["before"], _with(made["after"], ("spec", "serveConfigV2"), text)).lines()
        assert preview(_with(made["before"], ("spec", "serveConfigV2"), text), made["after"]).lines()
