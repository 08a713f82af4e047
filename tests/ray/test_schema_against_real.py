"""Our model of the serve config against real Ray of several versions: what Ray refuses we refuse, and nothing else.

Configs are made from our own models (``tests/serveconfig/configs.py``), so a field that we do not have is found by
comparing the lists of fields, in :func:`test_every_field_of_ray_is_in_the_model_with_its_version`.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.serveconfig.check import ROOT, check
from rayservice_operator.serveconfig.model import (
    Application,
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    ControllerOptions,
    Deploy,
    Deployment,
    DeploymentActor,
    GangSchedulingConfig,
    GrpcOptions,
    HttpOptions,
    LoggingConfig,
    Part,
    RayActorOptions,
    RequestRouterConfig,
    TracingConfig,
    fields_of,
    minor_version,
)  # fmt: skip
from rayservice_operator.serveconfig.model.base import Since
from tests.ray.ray_versions import MATRIX, Oracle
from tests.serveconfig.configs import GOOD, JUNK, NEVER_JUNK, WRONG, documents

MORE = os.environ.get("RAY_CONFORMANCE_EXAMPLES")
EXAMPLES = int(MORE or 150)
"""Configs for each version, the same ones in every run, so that CI does not flake. More are other ones, too."""

RAY_NAMES: dict[type[Part], str] = {
    Application: "ServeApplicationSchema",
    AutoscalingConfig: "AutoscalingConfig",
    AutoscalingPolicy: "AutoscalingPolicy",
    BackpressureConfig: "BackpressureConfig",
    ControllerOptions: "ControllerOptions",
    Deploy: "ServeDeploySchema",
    Deployment: "DeploymentSchema",
    DeploymentActor: "DeploymentActorConfig",
    GangSchedulingConfig: "GangSchedulingConfig",
    GrpcOptions: "gRPCOptionsSchema",
    HttpOptions: "HTTPOptionsSchema",
    LoggingConfig: "LoggingConfig",
    RayActorOptions: "RayActorOptionsSchema",
    RequestRouterConfig: "RequestRouterConfig",
    TracingConfig: "TracingConfig",
}
"""Ray's class for each of ours."""

MINIMAL: dict[type[Part], dict[str, Any]] = {
    Application: {"import_path": "m:a"},
    Deploy: {"applications": []},
    Deployment: {"name": "A"},
    DeploymentActor: {"name": "a", "actor_class": GOOD["DeploymentActor", "actor_class"][0]},
    GangSchedulingConfig: {"gang_size": 1},
}
"""What has to be there."""

STRICTER = {
    ("RuntimeEnv", "container"),
    ("RuntimeEnv", "image_uri"),
    ("RuntimeEnvConfig", "setup_timeout_seconds"),
}
"""Fields whose types Ray does not look at before the process with that runtime_env is to start."""

UNLESS = "unless the code"
"""In warnings about what Ray refuses for nearly every code; an error would be too much."""


@pytest.fixture(scope="module", params=MATRIX)
def ray(request: pytest.FixtureRequest) -> Iterator[Oracle]:
    """Each version in turn."""
    oracle = Oracle(request.param)
    yield oracle
    oracle.close()


def refused_by_us(document: Any, version: str, *, late: bool) -> list[Finding]:
    """What we call an error; ``late``: or what we say that only particular code can prevent."""
    return [
        finding
        for finding in check(document, version)
        if finding.severity is Severity.ERROR or (late and UNLESS in finding.problem)
    ]


def has_place(path: Path, document: Any) -> Path:
    """The part of one of pydantic's paths that leads through the document: a field that is missing is not there, and
    Ray leaves out ``gang_scheduling_config`` in front of ``gang_size``.
    """
    place: list[str | int] = []
    at = document
    for step in path:
        if isinstance(at, dict) and step in at:
            at = at.get(step)
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        else:
            break
        place.append(step)
    return tuple(place)


def test_what_ray_refuses_we_refuse_at_the_same_place_and_nothing_else(ray: Oracle) -> None:
    counts = {True: 0, False: 0}

    @settings(
        max_examples=EXAMPLES,
        derandomize=MORE is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        # Making a failure small takes minutes; it is for those who ask for more.
        phases=[Phase.generate, *([Phase.shrink] if MORE else [])],
    )
    @given(documents)
    def compare(document: Any) -> None:
        refusal = ray.refusal(document)
        if refusal is not None and refusal["by"] == "import":
            return
        late = refusal is not None and refusal["by"] == "deploy"
        ours = refused_by_us(document, ray.version, late=late)
        text = json.dumps(document)
        if refusal is None:
            assert not ours, f"Ray {ray.version} takes what we refuse: {ours[0]}\n{text}"
        else:
            assert ours, f"Ray {ray.version} refuses what we take: {refusal['said']}\n{text}"
        if refusal is not None and refusal["by"] == "schema":
            places = [finding.path[len(ROOT) :] for finding in ours]
            for path in refusal["paths"]:
                place = has_place(tuple(path), document)
                near = any(place[: len(own)] == own or own[: len(place)] == place for own in places)
                assert near, f"Ray {ray.version} refuses {place}, we only {places}: {refusal['said']}\n{text}"
        counts[refusal is None] += 1
        event("taken" if refusal is None else refusal["by"])

    compare()
    # Or the comparison would prove little.
    assert min(counts.values()) >= EXAMPLES // 5, counts


def test_each_value_of_each_field_by_itself(ray: Oracle) -> None:
    """Some 4,000 configs, right but for one value at the most: nothing else can be what is refused."""
    differences = []
    for part, wrap in _paths_to_parts(Deploy, lambda value: value):
        for name in fields_of(part):
            key = (part.__name__, name)
            for value in [*GOOD.get(key, []), *WRONG.get(key, []), *([] if key in NEVER_JUNK else JUNK)]:
                document = wrap({**MINIMAL.get(part, {}), name: value})
                refusal = ray.refusal(document)
                if refusal is not None and refusal["by"] == "import":
                    continue
                ours = refused_by_us(document, ray.version, late=refusal is not None and refusal["by"] == "deploy")
                if ours and refusal is None and key in STRICTER:
                    continue
                if bool(ours) != (refusal is not None):
                    differences.append((*key, value, refusal and refusal["said"][:200], ours))
    assert not differences, differences[:10]


def test_every_field_of_ray_is_in_the_model_with_its_version(ray: Oracle) -> None:
    theirs = ray.fields(sorted(RAY_NAMES.values()))
    version = minor_version(ray.version)
    assert version is not None
    for part, name in RAY_NAMES.items():
        ours = {field.name for field in fields_of(part).values() if field.since <= version}
        if name not in theirs:
            assert not any(_reached(part, version)), f"Ray {ray.version} has no {name} yet"
        else:
            assert ours == set(theirs[name]), f"{name} of Ray {ray.version}"


def _reached(part: type[Part], version: tuple[int, int]) -> Iterator[bool]:
    """Whether a field that is there in this version holds this part."""
    for other in RAY_NAMES:
        for field in fields_of(other).values():
            shape = field.shape.item or field.shape
            if shape.part is part:
                yield field.since <= version


def test_unknown_keys_are_refused_exactly_where_ray_refuses_them(ray: Oracle) -> None:
    """One document for each kind of mapping, right but for a key that nobody knows."""
    seen = set()
    for document, part in _with_unknown_keys():
        if part not in RAY_NAMES:
            continue  # runtime_env, where plug-ins may bring their own
        refused = ray.refusal(document) is not None
        assert bool(refused_by_us(document, ray.version, late=False)) == refused, (part, ray.version, document)
        seen.add(refused)
    assert seen == {True, False}


def _with_unknown_keys() -> Iterator[tuple[Any, type[Part]]]:
    for part, wrap in _paths_to_parts(Deploy, lambda value: value):
        yield wrap({**MINIMAL.get(part, {}), "nobody_knows": 1}), part


def _paths_to_parts(part: type[Part], wrap: Any) -> Iterator[tuple[type[Part], Any]]:
    yield part, wrap
    base: dict[str, Any] = (
        {"name": "A"} if part is Deployment else {"import_path": "m:a"} if part is Application else {}
    )
    base = {"applications": []} if part is Deploy else base
    for field in fields_of(part).values():
        shape = field.shape.item or field.shape
        if shape.part is not None:
            put = functools.partial(_put, wrap, base, field.name, in_list=field.shape.item is not None)
            yield from _paths_to_parts(shape.part, put)


def _put(wrap: Any, base: dict[str, Any], name: str, value: Any, *, in_list: bool) -> Any:
    return wrap({**base, name: [value] if in_list else value})


def test_since_is_never_newer_than_the_newest() -> None:
    newest = minor_version(MATRIX[-1])
    for part in RAY_NAMES:
        for info in part.model_fields.values():
            assert all(item.version <= newest for item in info.metadata if isinstance(item, Since))
