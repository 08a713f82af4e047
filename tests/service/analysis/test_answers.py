"""Whether an answer is the expected one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.measurements import SmokeRequest
from rayservice_operator.service.analysis.answers import mismatch, problem


def request(status: int | None = None, expected: Any = None) -> SmokeRequest:
    text = None if expected is None else json.dumps(expected)
    return SmokeRequest("GET", "/", "demo", status=status, json=text)


@pytest.mark.parametrize(
    ("wanted", "status", "body", "says"),
    [
        (request(), 200, b"anything", ""),
        (request(), 204, b"", ""),
        (request(), 500, b"it  broke\n", "HTTP 500 instead of 200 to 299: it broke"),
        (request(), 302, b"", "HTTP 302 instead of 200 to 299"),
        (request(418), 418, b"", ""),
        (request(418), 200, b"", "HTTP 200 instead of 418"),
        (request(None, {"a": 1}), 200, b'{"a": 1, "b": 2}', ""),
        (request(None, {"a": 1}), 200, b"<html>", "the answer is no JSON: <html>"),
        (request(None, {"a": 1}), 200, b"\xff\xfe", "the answer is no JSON"),
        (request(None, {"a": {"b": []}}), 200, b'{"a": {"b": [1]}}', "$.a.b has 1 items, not 0"),
        (request(None, {"a": 1}), 200, b"{}", "$.a is missing"),
        (request(None, {"a": 1}), 200, b"[]", "$ is [], not an object"),
        (request(None, [1]), 200, b'{"a": 1}', '$ is {"a": 1}, not a list'),
        (request(None, {"a": True}), 200, b'{"a": 1}', "$.a is 1, not true"),
        (request(None, {"a": 1}), 200, b'{"a": 1.0}', ""),
        (request(None, {"a": None}), 200, b'{"a": null}', ""),
    ],
)
def test_answers(wanted: SmokeRequest, status: int, body: bytes, says: str) -> None:
    found = problem(wanted, status, body)
    assert found.startswith(says)
    assert bool(found) == bool(says)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_everything_matches_itself(value: Any) -> None:
    assert mismatch(value, value) == ""


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4), st.dictionaries(st.text(), json_values))
def test_more_fields_are_no_mismatch(expected: dict[str, Any], more: dict[str, Any]) -> None:
    assert mismatch(expected, {**more, **expected}) == ""


@given(json_values, json_values)
def test_a_mismatch_says_where(expected: Any, actual: Any) -> None:
    found = mismatch(expected, actual)
    assert not found or found.startswith("$")
