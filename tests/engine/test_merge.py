"""Merge patches: applying what was computed gives what was wanted."""

from __future__ import annotations

import enum
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from rayservice_operator.engine.merge import merge_diff, without_nulls

scalars = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b"]))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner))
)
wanted_values = st.recursive(
    st.one_of(scalars, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner)),
)
stored_objects = st.dictionaries(st.sampled_from("abc"), values)
wanted_objects = st.dictionaries(st.sampled_from("abc"), wanted_values)


def apply(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@given(stored_objects, wanted_objects)
@example({"b": [{"x": False}]}, {"b": [{"x": 0}]})
def test_applied_to_the_stored_it_gives_the_wanted(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    patched = apply(stored, merge_diff(stored, wanted))
    clean = without_nulls(wanted)
    assert patched == clean
    assert _types(patched) == _types(clean)


@given(stored_objects)
def test_equal_means_no_patch(stored: dict[str, Any]) -> None:
    assert merge_diff(stored, stored) == {}


def test_only_what_differs_is_sent() -> None:
    stored = {"a": {"x": 1, "y": 2}, "b": [1], "c": "old"}
    wanted = {"a": {"x": 1, "y": 3}, "b": [1], "d": None}
    assert merge_diff(stored, wanted) == {"a": {"y": 3}, "c": None}


def _types(value: Any) -> Any:
    """True and 1 are equal to Python but not to JSON."""
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_types(inner) for inner in value]
    return type(value)


def test_a_word_is_the_text_it_is_stored_as() -> None:
    """What the API server gives back is plain text; comparing kinds of text would write it again and again."""

    class Word(enum.StrEnum):
        ONE = "One"

    assert merge_diff({"phase": "One"}, {"phase": Word.ONE}) == {}
    patch = merge_diff({}, {"phase": Word.ONE, "list": [Word.ONE]})
    assert [type(patch["phase"]), type(patch["list"][0])] == [str, str]
