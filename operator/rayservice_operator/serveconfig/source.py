"""Manifests as people write them: YAML or JSON files, several documents or a list in one, with the place of each value.

What is wrong with the text itself ends in :class:`SourceError`, whose findings name the line; nothing else is raised
for any text or bytes. Whether a manifest makes sense is for others to say: they ask :meth:`SourceDocument.position`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from rayservice_operator.core.findings import Finding, Path, Position, Severity
from rayservice_operator.serveconfig.canonical import ServeConfigError
from rayservice_operator.serveconfig.places import Translation, translation
from rayservice_operator.serveconfig.yamltext import (
    YamlError,
    compose,
    compose_all,
    lines,
    place,
    position_of,
)
from rayservice_operator.serveconfig.yamlvalues import construct, entry

MAX_FILE_BYTES: Final = 3 << 19
"""Longest file, 1.5 MiB: what etcd takes as one object at the most."""

RULE: Final = "yaml"

SERVE_CONFIG: Final[Path] = ("spec", "serveConfigV2")


class SourceError(ValueError):
    """A file that cannot be read as manifests; ``findings`` (rule ``yaml``) say where, why and what to do."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(_sentence(finding) for finding in self.findings))


def _sentence(finding: Finding) -> str:
    where = f"line {finding.position.line}, column {finding.position.column}: " if finding.position else ""
    return f"{where}{finding.problem}. {finding.fix}"


@dataclass(slots=True)
class _Inner:
    """The text of ``serveConfigV2`` inside a manifest: its nodes, and how its places translate."""

    root: yaml.Node | None
    translation: Translation


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One manifest of a file. ``manifest`` is plain JSON; ``name`` is the file's, as given."""

    manifest: dict[str, Any]
    name: str
    _node: yaml.Node
    _lines: list[str]
    _inner: list[_Inner] = field(default_factory=list)
    """Filled when the first place inside ``serveConfigV2`` is asked for."""

    def position(self, path: Path, *, value: bool = False) -> Position | None:
        """Where ``path`` is written: its key (``value``: what the key has), or the nearest parent that is there.

        A path goes on inside ``("spec", "serveConfigV2")`` as if that text were part of the manifest.
        """
        inner = self._serve_config() if path[:2] == SERVE_CONFIG and len(path) > 2 else None
        if inner is None:
            return _walk(self._node, path, value=value)
        if inner.root is None:
            return _walk(self._node, SERVE_CONFIG, value=value)
        return inner.translation.outer(_walk(inner.root, path[2:], value=value))

    def serve_config_position(self, inner: Position | None) -> Position | None:
        """The place in the file of a place in the text of ``serveConfigV2``; of the field itself without one."""
        found = self._serve_config()
        if inner is None or found is None:
            return self.position(SERVE_CONFIG)
        return found.translation.outer(inner)

    def finding(self, error: ServeConfigError) -> Finding:
        """What :func:`canonical.parse` refused, with its place in this file."""
        path = (*SERVE_CONFIG, *error.path)
        position = self.serve_config_position(error.position) if error.position else self.position(path)
        rule = RULE if error.position else "serve-config-shape"
        return Finding(rule, Severity.ERROR, path, error.problem, error.fix, position)

    def placed(self, finding: Finding) -> Finding:
        """The finding with its position, if it has none yet."""
        return finding if finding.position else replace(finding, position=self.position(finding.path))

    def _serve_config(self) -> _Inner | None:
        """None where the field holds no text (then its places are the manifest's own)."""
        if not self._inner:
            node = _value(self._node, SERVE_CONFIG)
            if not isinstance(node, yaml.ScalarNode):
                return None
            self._inner.append(_Inner(_readable(node.value), translation(node, self._lines)))
        return self._inner[0]


def load_manifests(text: str | bytes, name: str = "") -> list[SourceDocument]:
    """The manifests in a file, in order; documents without content are passed over, lists are taken apart.

    ``name`` is only handed on. Raises :class:`SourceError`, and nothing else, for what cannot be read.
    """
    try:
        plain = _decoded(text)
        roots = [root for root in compose_all(plain, MAX_FILE_BYTES) if not _is_empty(root)]
        if not roots:
            raise YamlError("has no manifest", "Write a RayService into it", Position(1, 1))
    except YamlError as error:
        raise SourceError([_finding(error)]) from None
    file_lines = lines(plain)
    documents: list[SourceDocument] = []
    findings: list[Finding] = []
    for root in roots:
        try:
            documents.extend(
                SourceDocument(manifest, name, node, file_lines) for manifest, node in _manifests(construct(root), root)
            )
        except YamlError as error:
            findings.append(_finding(error))
    if findings:
        raise SourceError(findings)
    return documents


def _manifests(value: Any, node: yaml.Node) -> Iterator[tuple[dict[str, Any], yaml.Node]]:
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a plain value"
        problem = f"is {kind} where a manifest has to be"
        raise YamlError(problem, "Write `apiVersion`, `kind`, `metadata` and `spec`", position_of(node.start_mark))
    items = value.get("items")
    if not str(value.get("kind", "")).endswith("List") or not isinstance(items, list):
        yield value, node
        return
    children = _value(node, ("items",))
    for item, child in zip(items, children.value if isinstance(children, yaml.SequenceNode) else (), strict=True):
        yield from _manifests(item, child)


def _finding(error: YamlError) -> Finding:
    return Finding(RULE, Severity.ERROR, (), error.problem, error.fix, error.position)


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and construct(node) is None


# -- text ----------------------------------------------------------------------------------------------------------

_BYTE_ORDER_MARKS: Final[Mapping[bytes, str]] = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""What editors on Windows put in front; UTF-8's own is taken off below."""

_SURROGATES: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
"""A character beyond U+FFFF as JSON escapes it, which YAML does not know."""


def _decoded(text: str | bytes) -> str:
    if isinstance(text, bytes):
        if len(text) > 2 * MAX_FILE_BYTES:  # before any work is done on it
            raise YamlError(f"is {len(text)} bytes long, more than {MAX_FILE_BYTES}", "Split it", Position(1, 1))
        try:
            text = text.decode(_BYTE_ORDER_MARKS.get(text[:2], "utf-8"))
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding, errors="replace").removeprefix("\ufeff")
            problem = "is no text" if b"\0" in error.object else f"is not UTF-8: {error.reason}"
            raise YamlError(problem, "Save it as UTF-8 text", place(before, len(before))) from None
    text = text.removeprefix("\ufeff")
    return _SURROGATES.sub(_joined, text) if text.lstrip()[:1] in ("{", "[") else text


def _joined(match: re.Match[str]) -> str:
    code = 0x10000 + ((int(match[2], 16) - 0xD800) << 10) + int(match[3], 16) - 0xDC00
    # Two characters shorter, so columns behind it are off by as much; lines are right.
    return f"{match[1]}\\U{code:08x}"


# -- nodes ---------------------------------------------------------------------------------------------------------


def _readable(text: str) -> yaml.Node | None:
    """Nodes of the inner text; None if that is no plain YAML (whoever parses it says so)."""
    try:
        node = compose(text, MAX_FILE_BYTES)
        if node is not None:
            construct(node)
    except YamlError:
        return None
    return node


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of a child: where it begins, and its value."""
    if isinstance(node, yaml.MappingNode):
        return entry(node, str(step))
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _value(node: yaml.Node, path: Path) -> yaml.Node | None:
    for step in path:
        found = _step(node, step)
        if found is None:
            return None
        node = found[1]
    return node


def _walk(node: yaml.Node, path: Path, *, value: bool) -> Position:
    at = node
    for step in path:
        found = _step(node, step)
        if found is None:
            break
        key, node = found
        at = node if value else key
    return position_of(at.start_mark)
