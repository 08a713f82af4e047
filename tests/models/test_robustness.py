"""Whatever stands in a manifest, the answer is a list of violations, never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayservice_operator.api.raycluster import parse_raycluster
from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import validate_raycluster, validate_rayservice
from tests.models.manifests import documents

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
MANIFESTS = [m for folder in ("", "unavailable") for k in ("RayService", "RayCluster") for _, m in documents(k, folder)]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


# metadata is left alone: the API server has made sure of its shape.
PLACES = [(m, ("spec", *p)) for m in MANIFESTS for p in places(m["spec"])]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere(place: tuple[dict[str, Any], tuple[Any, ...]], value: Any) -> None:
    manifest, path = copy.deepcopy(place[0]), place[1]
    here: Any = manifest
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    try:
        if manifest["kind"] == "RayService":
            found = validate_rayservice(manifest, parse_rayservice(manifest))
        else:
            found = validate_raycluster(manifest, parse_raycluster(manifest), from_service=False)
    except SpecError as error:
        found = list(error.violations)
        assert found
    assert all(v.field and v.problem and v.fix for v in found)
