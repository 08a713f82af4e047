"""What one look at a text tells about its nesting and its aliases, compared with what the YAML parser finds."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rayservice_operator.serveconfig import yamltext
from rayservice_operator.serveconfig.yamltext import MAX_DEPTH, YamlError, compose

_PIECES = (
    "- ",
    "-\n",
    "? ",
    ": ",
    "a: ",
    "b:\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    " ",
    "  ",
    "\t",
    "a",
    '"',
    "'",
    "|\n",
    "#",
)
_TORN = st.lists(st.sampled_from((*_PIECES, "*a", "&a ", "!t ", "--- ", "...\n", "\r", "\u2028")), max_size=40).map(
    "".join
)
_NESTED = (
    st.integers(0, 30)
    .flatmap(
        lambda depth: st.lists(
            st.sampled_from(("- ", "? ", "a: ", "a:\n", "-\n", "[", "{a: ")), min_size=depth, max_size=depth
        )
    )
    .map(
        lambda openers: "".join(
            f"{opener}{' ' * (2 * i) if opener.endswith(chr(10)) else ''}" for i, opener in enumerate(openers)
        )
    )
)


def _seen(text: str) -> tuple[int, int, bool]:
    """Deepest nesting, values and whether there is an alias, up to where the text stops being YAML."""
    depth = deepest = values = 0
    aliased = False
    try:
        for event in yaml.parse(text, Loader=yamltext._Loader):
            values += isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            deepest = max(deepest, depth)
            aliased = aliased or isinstance(event, yaml.AliasEvent)
    except yaml.YAMLError:
        pass
    return deepest, values, aliased


@given(st.one_of(_TORN, _NESTED))
@example("a: [? [? ")
@example("[a: [b: [c: d]]]")
@settings(max_examples=1500, deadline=None)
def test_a_tame_text_has_no_alias_and_is_no_deeper_and_no_larger(text: str) -> None:
    if not yamltext._WILD.search(text):
        depth, values, aliased = _seen(text)
        assert not aliased
        assert depth <= yamltext.deepest(text)
        assert values <= 2 * len(text) + 1


def test_what_people_write_is_tame() -> None:
    text = "applications:\n- name: a\n  deployments:\n  - name: b\n    user_config: {stop: ['#', \"x\"]}\n"
    assert yamltext._is_tame(text)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300, 5000])
@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "a:\n"])
def test_too_deep_is_refused_on_either_way(levels: int, opener: str) -> None:
    if opener.endswith("\n"):
        text = "".join(f"{' ' * i}a:\n" for i in range(levels)) + " " * levels + "b"
    else:
        closers = {"[": "]", "{a: ": "}"}.get(opener, "")
        text = opener * levels + "b" + closers * levels
    with pytest.raises(YamlError) as refusal:
        compose(text, 50_000_000)
    assert "nested more than" in str(refusal.value)
