"""YAML as Kubernetes reads it, with limits: from text to nodes that know their place.

Scalars are told apart as KubeRay does it (YAML 1.1 booleans, ``1e9`` is a number, a date is a string), because the
same manifest must mean the same thing. :mod:`yamlvalues` makes plain JSON of the nodes. Text that grows without
bounds when its aliases are written out, or that nests without end, is refused before anything of that size is built.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import yaml

from rayservice_operator.core.findings import Position

MAX_NODES: Final = 100_000
"""Most values once every alias is written out: a text that doubles itself line by line ends here."""

MAX_DEPTH: Final = 64
"""Deepest nesting. The C parser recurses on the machine's stack, so this is checked before it composes."""


class YamlError(ValueError):
    """A text that cannot be used: why, what to do, and where if that is known."""

    def __init__(self, problem: str, fix: str, position: Position | None = None) -> None:
        self.problem = problem
        self.fix = fix
        self.position = position
        super().__init__(problem)


def position_of(mark: Any) -> Position:
    """The place of one of PyYAML's marks, which count from 0."""
    return Position(mark.line + 1, mark.column + 1)


_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

TAG_NULL: Final = "tag:yaml.org,2002:null"
TAG_BOOL: Final = "tag:yaml.org,2002:bool"
TAG_INT: Final = "tag:yaml.org,2002:int"
TAG_FLOAT: Final = "tag:yaml.org,2002:float"
TAG_STR: Final = "tag:yaml.org,2002:str"
TAG_MERGE: Final = "tag:yaml.org,2002:merge"
TAG_MAP: Final = "tag:yaml.org,2002:map"
TAG_SEQ: Final = "tag:yaml.org,2002:seq"

_RESOLVERS: Final[tuple[tuple[str, str, str], ...]] = (
    (TAG_NULL, r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    (TAG_BOOL, r"^(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$", "tTfFyYnNoO"),
    (TAG_INT, r"^[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$", "-+0123456789"),
    (TAG_FLOAT, r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    (TAG_FLOAT, r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    (TAG_MERGE, r"^<<$", "<"),
)


class _Loader(_BaseLoader):  # type: ignore[misc]  # the C loader when PyYAML was built with libyaml
    """PyYAML's safe loader with the scalar rules above; only parsing and composing are used."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's slot

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node that has none; asked for each, so what is asked again and again is remembered."""
        if kind is not yaml.ScalarNode:
            return str(super().resolve(kind, value, implicit))
        if not implicit[0]:
            return TAG_STR
        return _remembered_tag(value) if len(value) <= _SHORT else _tag_of(value)


_SHORT: Final = 64
"""Characters of a scalar that is worth to be remembered."""


def _tag_of(value: str) -> str:
    """The tag of a plain scalar."""
    resolvers = _Loader.yaml_implicit_resolvers.get(value[:1], ())
    return next((tag for tag, pattern in resolvers if pattern.match(value)), TAG_STR)


_remembered_tag = functools.lru_cache(maxsize=4096)(_tag_of)


for _tag, _pattern, _first in _RESOLVERS:
    # "\0" stands for «no first character»: PyYAML files the empty scalar under "".
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), [c if c != "\0" else "" for c in _first])


_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML does not allow raw, anywhere; a binary file has it early on."""

_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""Ends a line, for libyaml's marks as well."""


def place(text: str, index: int) -> Position:
    """The line and column of a character."""
    line, start = 1, 0
    for found in _BREAK.finditer(text, 0, index):
        line, start = line + 1, found.end()
    return Position(line, index - start + 1)


def lines(text: str) -> list[str]:
    """The lines of a text, as the positions here count them."""
    return _BREAK.split(text)


def compose(text: str, max_bytes: int) -> yaml.Node | None:
    """The graph of nodes of the only document, aliases shared; None for a text without one. Raises YamlError."""

    def read() -> list[yaml.Node]:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        return [] if node is None else [node]

    return next(iter(_composed(text, max_bytes, read)), None)


def compose_all(text: str, max_bytes: int) -> list[yaml.Node]:
    """The graphs of all documents. Raises YamlError for the first thing that is no YAML."""
    return _composed(text, max_bytes, lambda: list(yaml.compose_all(text, Loader=_Loader)))


def _composed(text: str, max_bytes: int, read: Callable[[], list[yaml.Node]]) -> list[yaml.Node]:
    """What ``read`` makes of the text, within the limits."""
    _limit_bytes(text, max_bytes)
    tame = _is_tame(text)
    with _told(text):
        aliased = not tame and _limit_events(text)
        nodes = read()
    if aliased:
        limit_size(nodes, max_bytes)
    elif tame:
        for node in nodes:
            _limit_depth(node)
    return nodes


def _limit_bytes(text: str, max_bytes: int) -> None:
    bad = _FORBIDDEN.search(text)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        where = place(text, error.start)
        raise YamlError(
            f"has a character that is no Unicode text at position {error.start}", "Save it as UTF-8", where
        ) from None
    if size > max_bytes:
        raise YamlError(
            f"is {size} bytes long, more than {max_bytes}",
            "Move large values into the image or an environment",
            place(text, _within(text, max_bytes)),
        )
    if bad is not None:
        problem = f"is not valid YAML: the character U+{ord(bad[0]):04X} is not allowed"
        fix = "Save it as UTF-8 text; in a quoted value write the character as an escape"
        raise YamlError(problem, fix, place(text, bad.start()))


def _within(text: str, size: int) -> int:
    """How many characters fit into so many bytes."""
    return len(text.encode()[:size].decode(errors="ignore"))


class _told:  # noqa: N801 - reads as a phrase in `with`
    """Turns what PyYAML raises into YamlError."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, yaml.MarkedYAMLError):
            mark = error.problem_mark or error.context_mark
            position = position_of(mark) if mark is not None else None
            if _TOO_DEEP in (error.problem or ""):
                raise _nested_too_deep(position) from None
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise YamlError(f"is not valid YAML: {said}", self._fix(error.problem, position), position) from None
        if isinstance(error, yaml.YAMLError):
            said = (str(error).splitlines() or ["it cannot be read"])[0]
            raise YamlError(f"is not valid YAML: {said}", "Correct the YAML") from None

    def _fix(self, problem: str | None, position: Position | None) -> str:
        if position is not None:
            rows = lines(self._text)
            row = rows[position.line - 1] if position.line <= len(rows) else ""
            if "\t" in row[: len(row) - len(row.lstrip())]:
                return "Indent with spaces; YAML does not take tabs there"
            if _TEMPLATE.search(self._text):
                return "Render the template first; this is a template, not a manifest"
        return _FIXES.get(problem or "", "Correct the YAML")


_TEMPLATE: Final = re.compile(r"\{\{[-\s.]")

_FIXES: Final = {
    "mapping values are not allowed in this context": "Quote a value that has a colon in it; check the indentation",
    "did not find expected key": "Check that the line starts at the same column as its siblings",
    "did not find expected '-' indicator": "Check that all entries of the list start at the same column",
    "could not find expected ':'": "Write `key: value`; a space has to follow the colon",
    "found unexpected end of stream": "Close the quotes or brackets",
    "found undefined alias": "Set the anchor (`&name`) before it is used",
    "found character that cannot start any token": "Quote the value",
}

_TOO_DEEP: Final = "maximum nesting depth"
"""What libyaml from 0.2.6 on says by itself; it scans ahead, so it may get there before the first event does."""


def _nested_too_deep(position: Position | None) -> YamlError:
    return YamlError(f"is nested more than {MAX_DEPTH} levels deep", "Flatten it", position)


_WILD: Final = re.compile("[*&!\r\x85\u2028\u2029]")
"""May be an alias, or lets a collection begin behind what :data:`_LEAD` knows, or ends a line unseen by it."""

_LEAD: Final = re.compile(r"^[-?: \t]+", re.MULTILINE)
"""What may stand before the last block collection that begins on a line."""

_BRACKET: Final = re.compile(r"[\[{]")

_SAFE_DEPTH: Final = 2000
"""What the C parser may recurse to on any thread's stack, many times over."""


def _is_tame(text: str) -> bool:
    """Whether one look at the characters tells that there are no aliases, not too many values, and no nesting that
    would hurt the C parser, so that the events need not be read beforehand: that takes as long as composing.

    Every value takes at least half a character (``?`` alone makes two). Block collections that are open at the same
    time begin at different columns, but for a list right under its key; collections in brackets each have a bracket, or
    are the one pair (``[a: b]``, ``[? a]``) in one.
    """
    return not _WILD.search(text) and 2 * len(text) < MAX_NODES and deepest(text) <= _SAFE_DEPTH


def deepest(text: str) -> int:
    """No deeper than this is a text nested that has nothing of :data:`_WILD`."""
    columns = max((found.end() - found.start() for found in _LEAD.finditer(text)), default=0)
    return 2 * (columns + 1 + sum(1 for _ in _BRACKET.finditer(text)))


def _limit_depth(root: yaml.Node) -> None:
    """Raises YamlError for nesting beyond MAX_DEPTH of a graph without aliases."""
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if not isinstance(child, yaml.ScalarNode)]
        if not level:
            return
    raise _nested_too_deep(position_of(level[0].start_mark))


def _limit_events(text: str) -> bool:
    """Whether there are aliases. Reads events one at a time (no recursion).

    Raises YamlError for nesting beyond MAX_DEPTH and for more than MAX_NODES values. Without aliases that is all that
    there is to limit, as the text itself has a limit; with them :func:`limit_size` looks at what they stand for.
    """
    depth = values = 0
    aliased = False
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.ScalarEvent):
            values += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            values += 1
            depth += 1
            if depth > MAX_DEPTH:
                raise _nested_too_deep(position_of(event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliased = True
        if values > MAX_NODES:
            raise _too_many(event.start_mark)
    return aliased


def _too_many(mark: Any) -> YamlError:
    return YamlError(
        f"has more than {MAX_NODES} values once its aliases are written out",
        "Use fewer or smaller aliases",
        position_of(mark),
    )


class _Extent(NamedTuple):
    """How much a node is with all its aliases written out."""

    values: int
    characters: int
    height: int


def limit_size(roots: list[yaml.Node], max_characters: int) -> None:
    """Raises YamlError for what is too much with its aliases written out, all documents together.

    That is more than MAX_NODES values, more text than the limit of the text itself, nesting beyond MAX_DEPTH, or a
    value that contains itself. Each node is looked at once and remembers its extent, so the check itself is linear.
    """
    known: dict[int, _Extent] = {}
    open_nodes: set[int] = set()

    def extent(node: yaml.Node) -> _Extent:
        found = known.get(id(node))
        if found is not None:
            return found
        if id(node) in open_nodes:
            raise YamlError(
                "has an alias to a value that contains it", "Write the value out", position_of(node.start_mark)
            )
        open_nodes.add(id(node))
        values, characters, height = 1, len(node.value) if isinstance(node, yaml.ScalarNode) else 0, 0
        for child in _children(node):
            inner = extent(child)
            values, characters = values + inner.values, characters + inner.characters
            height = max(height, inner.height + 1)
        open_nodes.discard(id(node))
        if height > MAX_DEPTH:
            raise _nested_too_deep(position_of(node.start_mark))
        _limit_amount(values, characters, max_characters, node)
        known[id(node)] = _Extent(values, characters, height)
        return known[id(node)]

    values = characters = 0
    for root in roots:
        whole = extent(root)
        values, characters = values + whole.values, characters + whole.characters
        _limit_amount(values, characters, max_characters, root)


def _limit_amount(values: int, characters: int, max_characters: int, node: yaml.Node) -> None:
    if values > MAX_NODES:
        raise _too_many(node.start_mark)
    if characters > max_characters:
        raise YamlError(
            f"has more than {max_characters} characters once its aliases are written out",
            "Use fewer or smaller aliases",
            position_of(node.start_mark),
        )


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
