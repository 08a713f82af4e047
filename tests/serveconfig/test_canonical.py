"""serveConfigV2: what is read, what is refused, and that only meaning changes the hash."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.serveconfig import canonical
from rayservice_operator.serveconfig.canonical import ServeConfig, ServeConfigError, canonical_json, config_hash, parse

TEXT = """
# two applications
applications:
  - name: translate
    route_prefix: /translate
    import_path: app:translate
    runtime_env:
      env_vars: {A: "1"}
    deployments:
      - name: B
        num_replicas: 2
      - name: A
        ray_actor_options: {num_cpus: 0.5}
  - import_path: app:other
    route_prefix: /other
"""


def read(text: str) -> ServeConfig:
    """A config that must be there."""
    config = parse(text)
    assert config is not None
    return config


def refusal(text: str) -> str:
    """The refusal's text; there must be one."""
    with pytest.raises(ServeConfigError) as caught:
        parse(text)
    assert caught.value.violation.fix
    return str(caught.value)


@pytest.mark.parametrize("text", [None, "", "  \n", "# only a comment\n"])
def test_nothing_is_no_config(text: str | None) -> None:
    assert parse(text) is None


def test_names_and_document() -> None:
    config = read(TEXT)
    assert config.app_names == ("translate", "default")
    assert [name for name, _ in config.applications()] == ["translate", "default"]
    assert config.document["applications"][0]["deployments"][1] == {
        "name": "A",
        "ray_actor_options": {"num_cpus": 0.5},
    }


def test_canonical_json_keeps_lists_sorts_keys_and_adds_nothing() -> None:
    text = canonical_json(read("applications: [{name: a, import_path: 'm:a', deployments: [{name: Z}, {name: A}]}]"))
    assert text == ('{"applications":[{"deployments":[{"name":"Z"},{"name":"A"}],"import_path":"m:a","name":"a"}]}')


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace("# two applications", "# 2"),
        TEXT.replace("name: translate", '"name": "translate"'),
        json.dumps(yaml.safe_load(TEXT)),
        "# JSON is YAML\n" + json.dumps(yaml.safe_load(TEXT), sort_keys=True, indent=2),
        TEXT.replace("num_replicas: 2", "num_replicas: 0x2"),
    ],
)
def test_same_meaning_same_hash(same: str) -> None:
    assert same != TEXT
    assert config_hash(read(same)) == config_hash(read(TEXT))


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace('{A: "1"}', "{A: 1}"),
        TEXT.replace("num_replicas: 2", "num_replicas: 3"),
        TEXT.replace("name: B", "name: C"),
    ],
)
def test_another_meaning_another_hash(other: str) -> None:
    assert config_hash(read(other)) != config_hash(read(TEXT))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("n", "n"),
        ("~", None),
        ("", None),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("-1_000", -1000),
        ("08", 8.0),
        ("1e9", 1e9),
        (".5", 0.5),
        ("1.", 1.0),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("=", "="),
        ("'yes'", "yes"),
        ("!!str 5", "5"),
        ("-", "-"),
    ],
)
def test_scalars_as_kuberay_reads_them(scalar: str, value: Any) -> None:
    if scalar == "-":
        scalar = "'-'"
    got = read(f"applications: []\nx: {scalar}").document["x"]
    assert got == value
    assert type(got) is type(value)


def test_keys_become_strings() -> None:
    assert read("applications: []\n1: a\ntrue: b\n2.5: c").document == {
        "applications": [],
        "1": "a",
        "true": "b",
        "2.5": "c",
    }


def test_anchors_and_merges() -> None:
    document = read(
        "base: &base {num_cpus: 1, num_gpus: 2}\n"
        "more: &more {num_cpus: 9, x: 1}\n"
        "applications: []\n"
        "a: {<<: *base, num_cpus: 3}\n"
        "b: {<<: [*base, *more]}\n"
        "c: *base\n"
    ).document
    assert document["a"] == {"num_cpus": 3, "num_gpus": 2}
    assert document["b"] == {"num_cpus": 1, "num_gpus": 2, "x": 1}
    assert document["c"] == document["base"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("applications: [", "did not find expected node content (line 2, column 1)"),
        ("a: b: c", "is not valid YAML: mapping values are not allowed in this context (line 1, column 5)"),
        ("applications: []\n\tx: 1", "line 2"),
        ("- a\n- b", "must be a mapping with the key `applications` (line 1, column 1)"),
        ("just text", "must be a mapping"),
        ("null", "must be a mapping"),
        ("applications: []\napplications: []", "has the key 'applications' twice (line 2, column 1)"),
        ("applications: []\n1: a\n'1': b", "has the key '1' twice (line 3, column 1)"),
        ("applications:\n  - name: a\n    name: b", "has the key 'name' twice (line 3, column 5)"),
        ("import_path: m:a", "Move `import_path`"),
        ("applications: {}", "spec.serveConfigV2.applications: must be a list"),
        ("{}", "spec.serveConfigV2.applications: is missing"),
        ("applications: [a]", "spec.serveConfigV2.applications[0]: must be a mapping"),
        ("applications: [{name: 1}]", "spec.serveConfigV2.applications[0].name: must be a string"),
        ("applications: [{name: ''}]", "spec.serveConfigV2.applications[0].name"),
        (
            "applications: [{name: a}, {name: a}]",
            "spec.serveConfigV2.applications[1].name: the name 'a' is used by more",
        ),
        ("applications: [{}, {}]", "'default' is used by more than one"),
        ("applications: []\nx: !!python/object:os.system {}", "type tag:yaml.org,2002:python/object:os.system (line 2"),
        ("applications: []\nx: !mine 5", "has a value of type !mine"),
        ("applications: []\nx: !!binary aGk=", "type tag:yaml.org,2002:binary"),
        ("applications: []\nx: !!set {a}", "type tag:yaml.org,2002:set"),
        ("applications: []\nx: .nan", "cannot be written as JSON"),
        ("applications: []\nx: -.inf", "cannot be written as JSON"),
        ("applications: []\nx: 1e999", "cannot be written as JSON"),
        ("applications: []\nx: !!int abc", "'abc' is no int"),
        ("applications: []\nx: !!bool maybe", "'maybe' is no bool"),
        ("applications: []\n[a]: 1", "has a key that is a list or mapping"),
        ("applications: []\n~: 1", "has an empty key"),
        ("applications: []\nx: {<<: 5}", "has `<<` with something that is no mapping"),
        ("applications: []\nx: &a [*a]", "alias to a value that contains it"),
        ("applications: []\nx: *nobody", "found undefined alias"),
        ("applications: []\n---\nx: 1", "expected a single document"),
        ("applications: []\nx: \x00", "is not valid YAML"),
        ("applications: []\nx: '\ud800'", "no Unicode text"),
        ("applications: []\nx: " + "9" * 5000, "is no int"),
        ("applications: " + "[" * 5000 + "]" * 5000, "nested more than 64 levels"),
        ("applications: " + "[" * 100_000, "nested more than 64 levels"),
        ("applications:\n" + "".join(" " * n + "-\n" for n in range(1200)), "nested more than 64 levels"),
        ("applications: []\nx: " + "a" * canonical.MAX_BYTES, "bytes long"),
    ],
)
def test_refused_with_the_place_and_the_reason(text: str, says: str) -> None:
    message = refusal(text)
    assert message.startswith("spec.serveConfigV2")
    assert says in message


def bomb(levels: int, line: str) -> str:
    """``levels`` lines, each of which holds the one before ten times."""
    lines = ["a0: &a0 {k: 1}"]
    lines += [line.format(n=n, aliases=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, levels)]
    return "\n".join([*lines, "applications: []"])


@pytest.mark.parametrize("line", ["a{n}: &a{n} [{aliases}]", "a{n}: &a{n} {{<<: [{aliases}]}}"])
def test_what_grows_with_its_aliases_is_refused(line: str) -> None:
    assert "more than 100000 values once its aliases are written out" in refusal(bomb(60, line))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.printable, max_size=5), inner, max_size=3)
    ),
    max_leaves=15,
)


def as_json(value: Any) -> str:
    """JSON whose text is YAML, too: no escaped surrogate pairs."""
    return json.dumps(value, ensure_ascii=False)


@given(JSON)
def test_json_reads_as_itself(value: Any) -> None:
    """A tool that writes JSON into the field gets exactly that, whatever is in it."""
    assert read(as_json({"applications": [], "x": value})).document["x"] == value


def test_characters_that_yaml_wants_escaped_survive() -> None:
    odd = "\x7f\x85\u2028\ufeff\ufffe\U0001f600\t\n"
    config = read('applications: []\nx: "\\x7f\\x85\\u2028\\ufeff\\ufffe\\U0001f600\\t\\n"')
    assert config.document["x"] == odd
    assert read(canonical_json(config)).document["x"] == odd
    assert json.loads(canonical_json(config))["x"] == odd


@given(JSON, st.randoms(use_true_random=False))
def test_key_order_does_not_matter_list_order_does(value: Any, random: Any) -> None:
    def shuffled(item: Any) -> Any:
        if isinstance(item, dict):
            keys = list(item)
            random.shuffle(keys)
            return {key: shuffled(item[key]) for key in keys}
        return [shuffled(entry) for entry in item] if isinstance(item, list) else item

    document = {"applications": [], "x": value}
    assert config_hash(read(as_json(document))) == config_hash(read(as_json(shuffled(document))))


@given(JSON)
def test_canonical_json_is_a_fixed_point(value: Any) -> None:
    config = read(as_json({"applications": [], "x": value}))
    again = read(canonical_json(config))
    assert (canonical_json(again), config_hash(again)) == (canonical_json(config), config_hash(config))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        config = parse(text)
    except ServeConfigError as error:
        assert str(error).startswith("spec.serveConfigV2")  # noqa: PT017 - either outcome is right
    else:
        assert config is None or isinstance(config.document, dict)
