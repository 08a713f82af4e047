"""Manifest files: what is read, where each value stands, and that every bad text ends in an error with a place."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.findings import Path, Position
from rayservice_operator.serveconfig.canonical import ServeConfigError, parse
from rayservice_operator.serveconfig.source import MAX_FILE_BYTES, SourceDocument, SourceError, load_manifests

CONFIG = """\
applications:
  - name: translate

    import_path: app:app
    deployments:
      # a comment
      - name: A
        ray_actor_options: {num_cpus: 0.5}
      - name: B
        user_config:
          it's: "a \\"quote\\""
"""

HEAD = "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: s}\nspec:\n"

PATHS: tuple[Path, ...] = (
    ("applications",),
    ("applications", 0),
    ("applications", 0, "import_path"),
    ("applications", 0, "deployments", 0, "ray_actor_options", "num_cpus"),
    ("applications", 0, "deployments", 1),
    ("applications", 0, "deployments", 1, "user_config", "it's"),
)
TOKENS = ("applications", "name: translate", "import_path", "num_cpus", "name: B", "it's")


def only(text: str | bytes) -> SourceDocument:
    """The one manifest of a text."""
    (document,) = load_manifests(text, "file.yaml")
    return document


def at(text: str, position: Position | None) -> str:
    """What stands at a place of a text."""
    assert position is not None
    return text.splitlines()[position.line - 1][position.column - 1 :]


def literal(config: str, *, header: str = "|", indent: int = 4) -> str:
    return f"{HEAD}  serveConfigV2: {header}\n" + textwrap.indent(config, " " * indent) + "  rayClusterConfig: {}\n"


def inner(path: Path) -> Path:
    return ("spec", "serveConfigV2", *path)


def one_line_quoted(config: str) -> str:
    return f"{HEAD}  serveConfigV2: {json.dumps(config)}\n"


def broken_double_quoted(config: str) -> str:
    """As tools write long strings: an escaped break after each line."""
    rows = [json.dumps(row + "\n")[1:-1] for row in config.splitlines()]
    rows = [("\\" if row.startswith(" ") else "") + row for row in rows]
    return f'{HEAD}  serveConfigV2: "' + "\\\n    ".join(rows) + '"\n'


def single_quoted(config: str) -> str:
    doubled = config.replace("'", "''").replace("\n\n", "\n")
    flow = json.dumps(yaml.safe_load(config)).replace("'", "''").replace(", ", ",\n      ")
    assert doubled
    return f"{HEAD}  serveConfigV2: '{flow}'\n"


@pytest.mark.parametrize(
    "text",
    [
        literal(CONFIG),
        literal(CONFIG, header="|-  # comment", indent=7),
        literal("\n\n" + CONFIG, header="|+"),
        literal("   # first line is indented more\n" + CONFIG, header="|4", indent=6),
        one_line_quoted(CONFIG),
        broken_double_quoted(CONFIG),
        json.dumps({"kind": "RayService", "spec": {"a": 1, "serveConfigV2": CONFIG}}),
    ],
    ids=["literal", "strip", "blank-lines", "indentation-indicator", "one-line", "broken-double", "json"],
)
def test_places_inside_the_serve_config_are_places_of_the_file(text: str) -> None:
    document = only(text)
    assert yaml.safe_load(document.manifest["spec"]["serveConfigV2"]) == yaml.safe_load(CONFIG)
    for path, token in zip(PATHS, TOKENS, strict=True):
        assert at(text, document.position(inner(path))).startswith(token), path


def test_single_quotes_over_several_lines() -> None:
    text = single_quoted(CONFIG)
    document = only(text)
    path = inner(("applications", 0, "deployments", 1, "user_config", "it's"))
    assert at(text, document.position(path)).startswith("\"it''s\"")
    assert at(text, document.position(inner(("applications", 0, "import_path")))).startswith('"import_path"')


def test_folded_text_is_found_again_line_by_line() -> None:
    text = f'{HEAD}  serveConfigV2: >-\n    {{"applications":\n    [{{"name": "a",\n    "import_path": "m:a"}}]}}\n'
    document = only(text)
    assert at(text, document.position(inner(("applications", 0, "name")))).startswith('"name"')
    assert at(text, document.position(inner(("applications", 0, "import_path")))).startswith('"import_path"')


def test_windows_line_ends_and_byte_order_mark() -> None:
    text = literal(CONFIG).replace("\n", "\r\n")
    for source in ("\ufeff" + text, ("\ufeff" + text).encode(), text.encode("utf-16")):
        document = only(source)
        position = document.position(inner(("applications", 0, "deployments", 1)))
        assert position == only(literal(CONFIG)).position(inner(("applications", 0, "deployments", 1)))
    assert only("\ufeffkind: A").position(("kind",)) == Position(1, 1)


def test_keys_values_and_nearest_parents() -> None:
    text = HEAD + "  a:\n    - b: 1\n    - <<: &m {x: 2}\n      c: 3\n"
    document = only(text)
    assert document.position(("spec", "a", 0, "b")) == Position(6, 7)
    assert document.position(("spec", "a", 0, "b"), value=True) == Position(6, 10)
    assert at(text, document.position(("spec", "a", 1, "x"))) == "x: 2}"
    assert document.position(("spec", "a", 7, "b")) == document.position(("spec", "a")) == Position(5, 3)
    assert document.position(("nothing", "there")) == document.position(()) == Position(1, 1)
    assert document.position(inner(("applications",))) == document.position(("spec",))


def test_a_serve_config_that_is_a_mapping_has_places_too() -> None:
    text = f"{HEAD}  serveConfigV2:\n    applications: []\n"
    assert only(text).position(inner(("applications",))) == Position(6, 5)


@pytest.mark.parametrize("text", ["a: [", "x: 1\nx: 2", "[a]: 1", "~: 1", ""])
def test_a_serve_config_that_is_no_yaml_is_placed_as_a_whole(text: str) -> None:
    document = only(literal(text + "\n") if text else f"{HEAD}  serveConfigV2: ''\n")
    assert document.position(inner(("applications",))) == Position(5, 3)


def test_what_the_config_parser_refused_gets_its_line_in_the_file() -> None:
    text = literal("applications:\n  - name: a\n    name: b\n")
    document = only(text)
    with pytest.raises(ServeConfigError) as caught:
        parse(document.manifest["spec"]["serveConfigV2"])
    finding = document.finding(caught.value)
    assert (finding.rule, finding.position) == ("yaml", Position(8, 9))
    text = literal("applications:\n  - name: a\n  - name: a\n")
    document = only(text)
    with pytest.raises(ServeConfigError) as caught:
        parse(document.manifest["spec"]["serveConfigV2"])
    finding = document.finding(caught.value)
    assert finding.path == inner(("applications", 1, "name"))
    assert finding.position == Position(8, 9)


def test_documents_and_lists_are_taken_apart() -> None:
    text = (
        "# comment\n---\nkind: A\n---\n# nothing\n---\n"
        "kind: List\nitems:\n- kind: B\n  x: 1\n- kind: CList\n  items: [{kind: C}]\n...\n"
    )
    documents = load_manifests(text)
    assert [document.manifest["kind"] for document in documents] == ["A", "B", "C"]
    assert [document.position(("kind",)) for document in documents] == [
        Position(3, 1),
        Position(9, 3),
        Position(12, 12),
    ]
    assert documents[1].position(("x",)) == Position(10, 3)


def test_names_with_emoji_and_escaped_surrogates() -> None:
    text = json.dumps({"kind": "RayService", "metadata": {"name": "\U0001f600"}})
    assert "\\ud83d" in text
    assert only(text).manifest["metadata"]["name"] == "\U0001f600"
    assert only('{"a": "\\\\ud83d\\\\ude00"}').manifest == {"a": "\\ud83d\\ude00"}
    emoji = HEAD + '  \U0001f600: x\n  serveConfigV2: \'{applications: [{name: "\U0001f600", import_path: "m:a"}]}\'\n'
    assert at(emoji, only(emoji).position(inner(("applications", 0, "import_path")))).startswith("import_path")


def bomb(levels: int, line: str = "a{n}: &a{n} [{aliases}]") -> str:
    rows = ["a0: &a0 {k: 1}"]
    rows += [line.format(n=n, aliases=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, levels)]
    return "\n".join(rows)


def stacked() -> str:
    """Shallow by itself, deep once its aliases are written out."""
    rows = ["a0: &a0 []"] + [f"a{n}: &a{n} " + "[" * 50 + f"*a{n - 1}" + "]" * 50 for n in range(1, 60)]
    return "\n".join(rows)


def heavy() -> str:
    """Few values, but one of them is long."""
    return f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]"


BAD: list[tuple[str | bytes, str, tuple[int, int]]] = [
    ("", "has no manifest", (1, 1)),
    ("# only a comment\n---\n---\n", "has no manifest", (1, 1)),
    ("just text", "is a plain value where a manifest has to be", (1, 1)),
    ("kind: A\n---\n- kind: B", "is a list where a manifest has to be", (3, 1)),
    ("kind: List\nitems:\n- 5", "is a plain value", (3, 3)),
    (b"\x7fELF\x02\x01\x01\x00\x00\xff\xfe", "is no text", (1, 10)),
    (b"kind: A\nname: \xe4\n", "is not UTF-8", (2, 7)),
    ("kind: A\nx: a\x00b", "the character U+0000 is not allowed", (2, 5)),
    ("kind: A\nx: '\ud800'", "no Unicode text", (2, 5)),
    (b"\xff\xfeabc", "is not UTF-8", (1, 2)),
    ("a: b\n" * 450_000, "bytes long", (314_573, 5)),
    (b"a" * (4 * MAX_FILE_BYTES), "bytes long", (1, 1)),
    ("a: b\na: c", "has the key 'a' twice", (2, 1)),
    ("a:\n\tb: c", "found character that cannot start any token. Indent with spaces", (2, 1)),
    ("a:\n  b: 1\n c: 2", "did not find expected key", (3, 2)),
    ("a: {{ .Values.x }}\n", "has a key that is a list or mapping", (1, 5)),
    ("{{ if x }}\na: 1\n", "Render the template first", (2, 1)),
    ("a: [", "did not find expected node content", (2, 1)),
    ("a: *b", "found undefined alias", (1, 4)),
    ("a: &a [*a]", "alias to a value that contains it", (1, 4)),
    ("a: !!binary aGk=", "has a value of type", (1, 4)),
    ("a: .nan", "cannot be written as JSON", (1, 4)),
    ("[a]: 1", "has a key that is a list or mapping", (1, 1)),
    ("{{a: 1}: 2}", "has a key that is a list or mapping", (1, 2)),
    ("x: " + "[" * 5000, "nested more than 64 levels", (1, 1003)),
    ("".join(" " * n + "-\n" for n in range(1200)), "nested more than 64 levels", (65, 65)),
    (stacked(), "nested more than 64 levels", (3, 44)),
    (bomb(60), "more than 100000 values once its aliases are written out", (6, 5)),
    (bomb(60, "a{n}: &a{n} {{<<: [{aliases}]}}"), "more than 100000 values", (6, 14)),
    (heavy(), "characters once its aliases are written out", (2, 4)),
    ("\n---\n".join([bomb(4)] * 100), "more than 100000 values", (141, 1)),
]


@pytest.mark.parametrize(("text", "says", "where"), BAD, ids=[says[:30] for _, says, _ in BAD])
def test_bad_text_is_refused_with_its_place(text: str | bytes, says: str, where: tuple[int, int]) -> None:
    with pytest.raises(SourceError) as caught:
        load_manifests(text, "file.yaml")
    (finding,) = caught.value.findings
    assert finding.rule == "yaml"
    assert finding.fix
    assert says in str(caught.value)
    assert finding.position == Position(*where)


def test_each_bad_document_of_a_file_is_named() -> None:
    with pytest.raises(SourceError) as caught:
        load_manifests("a: 1\na: 2\n---\nb: 1\n---\nc: .nan")
    assert [finding.position for finding in caught.value.findings] == [Position(2, 1), Position(6, 4)]


@pytest.mark.parametrize("text", [bomb(60), stacked(), heavy(), literal(bomb(60) + "\n")])
def test_a_text_that_would_explode_costs_little(text: str) -> None:
    """CPU time and the growth of memory, in a process of its own: issue 5 allows 100 ms and 50 MB."""
    program = textwrap.dedent("""
        import resource, sys, time
        from rayservice_operator.serveconfig.canonical import ServeConfigError, parse
        from rayservice_operator.serveconfig.source import SourceError, load_manifests
        text = sys.stdin.read()
        before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            parse(load_manifests(text)[0].manifest["spec"]["serveConfigV2"])
        except (SourceError, ServeConfigError):
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(time.process_time() - before, (after - memory) / 1024)
    """)
    done = subprocess.run([sys.executable, "-c", program], input=text, text=True, capture_output=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 0.1
    assert megabytes < 50


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner_: st.lists(inner_, max_size=3) | st.dictionaries(st.text(max_size=5), inner_, max_size=3),
    max_leaves=15,
)


def paths(value: Any, path: Path = ()) -> list[Path]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for step, child in children for below in paths(child, (*path, step)))]


@given(JSON, st.sampled_from(["|", ">", "'", '"', "json"]), st.integers(2, 5), st.integers(20, 100))
def test_every_value_of_every_style_has_a_place_in_the_file(value: Any, style: str, indent: int, width: int) -> None:
    config = yaml.safe_dump({"x": value}, allow_unicode=True, indent=indent)
    manifest = {"kind": "RayService", "spec": {"serveConfigV2": config}}
    if style == "json":
        text = json.dumps(manifest)
    else:
        node = yaml.compose(yaml.safe_dump(manifest))
        assert isinstance(node, yaml.MappingNode)
        node.value[1][1].value[0][1].style = style
        text = yaml.serialize(node, allow_unicode=True, width=width)
    document = only(text)
    expected = json.loads(text) if style == "json" else yaml.safe_load(text)  # the emitter folds some texts wrongly
    assert document.manifest == expected
    end = len(text.splitlines())
    for path in paths({"x": value}):
        position = document.position(inner(path))
        assert position is not None
        assert 1 <= position.line <= end


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        documents = load_manifests(text)
    except SourceError as error:
        assert all(finding.problem and finding.fix for finding in error.findings)  # noqa: PT017 - either is right
    else:
        assert all(isinstance(document.manifest, dict) for document in documents)
