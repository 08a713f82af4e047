"""``spec.serveConfigV2``: from YAML text to one canonical form and its hash.

The text is written by people and stored by the API server unread, so everything that is wrong with it is found
here, with line and column. Scalars are read as KubeRay reads them (YAML 1.1 booleans, ``1e9`` is a number, a date
is a string), because the same manifest must mean the same thing; keys become strings as they do in JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from rayservice_operator.core.violations import Violation

FIELD: Final = "spec.serveConfigV2"

MAX_BYTES: Final = 1 << 20
"""Longest text, in bytes of UTF-8. etcd refuses objects of 1.5 MiB, so nothing longer could be stored anyway."""

MAX_NODES: Final = 100_000
"""Most values once every alias is written out: a text that doubles itself line by line ends here."""

MAX_DEPTH: Final = 64
"""Deepest nesting. The C parser recurses on the machine's stack, so this is checked before it composes."""

DEFAULT_APP_NAME: Final = "default"
"""Name of an application that has none (Ray 2.60, ``ServeApplicationSchema.name``)."""

_HASH_LENGTH: Final = 16
_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class ServeConfigError(ValueError):
    """``serveConfigV2`` cannot be used; ``violation`` says where, why and what to do."""

    def __init__(self, problem: str, fix: str, *, field: str = FIELD, mark: Any = None) -> None:
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        self.violation = Violation(field=field, problem=f"{problem}{where}", fix=fix)
        super().__init__(str(self.violation))


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A serve config that was read. ``document`` is plain JSON and is not to be changed.

    ``app_names`` are the declared applications in the order of the file.
    """

    document: dict[str, Any]
    app_names: tuple[str, ...]

    def applications(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each declared application: its name and its part of the document."""
        yield from zip(self.app_names, self.document["applications"], strict=True)


def parse(text: str | None) -> ServeConfig | None:
    """Reads ``serveConfigV2``; None for a text without any content (a RayService may have no applications).

    Raises :class:`ServeConfigError` for what is no YAML, is too large, repeats a key, or lacks the shape that
    makes applications recognisable. Values inside an application are not judged here.
    """
    if text is None or not text.strip():
        return None
    node = _compose(text)
    if node is None:
        return None
    if not isinstance(node, yaml.MappingNode):
        raise ServeConfigError(
            "must be a mapping with the key `applications`",
            "Write `applications:` and a list of applications below it",
            mark=node.start_mark,
        )
    _limit_size(node)
    document = _construct(node)
    return ServeConfig(document=document, app_names=_app_names(document))


def canonical_json(config: ServeConfig) -> str:
    """The body to PUT: keys sorted, lists in the order written, nothing added.

    Ray restarts replicas when the text of ``ray_actor_options`` changes or the list of deployments is reordered
    (facts: Ray 2.60 ``deploy_utils.get_app_code_version``), so defaults are never filled in.
    """
    return document_json(config.document)


def document_json(document: Mapping[str, Any]) -> str:
    """:func:`canonical_json` of a config that is plain JSON already."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Readable by :func:`parse` again: YAML takes neither these characters raw nor escaped surrogate pairs.
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def config_hash(config: ServeConfig) -> str:
    """16 hexadecimal characters; texts that mean the same have the same."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:_HASH_LENGTH]


def _app_names(document: dict[str, Any]) -> tuple[str, ...]:
    """Names of the declared applications; raises for shapes that Ray refuses with HTTP 400 in any version."""
    applications = document.get("applications")
    if not isinstance(applications, list):
        problem = "is missing" if "applications" not in document else "must be a list"
        fix = "List the applications there, each with `name` and `import_path`"
        if "import_path" in document:
            fix = "Move `import_path` and what belongs to it into an entry of `applications`"
        raise ServeConfigError(problem, fix, field=f"{FIELD}.applications")
    names: list[str] = []
    for index, application in enumerate(applications):
        field = f"{FIELD}.applications[{index}]"
        if not isinstance(application, dict):
            raise ServeConfigError("must be a mapping", "Write `name: …` and `import_path: …`", field=field)
        name = application.get("name", DEFAULT_APP_NAME)
        if not isinstance(name, str) or not name:
            raise ServeConfigError(
                "must be a string that is not empty", "Give each application a name of its own", field=f"{field}.name"
            )
        if name in names:
            raise ServeConfigError(
                f"the name {name!r} is used by more than one application",
                "Give each application a name of its own",
                field=f"{field}.name",
            )
        names.append(name)
    return tuple(names)


# -- YAML ----------------------------------------------------------------------------------------------------------

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_STR: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"
_MAP: Final = "tag:yaml.org,2002:map"
_SEQ: Final = "tag:yaml.org,2002:seq"

_RESOLVERS: Final[tuple[tuple[str, str, str], ...]] = (
    (_NULL, r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$", "tTfFyYnNoO"),
    (_INT, r"^[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$", "-+0123456789"),
    (_FLOAT, r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    (_FLOAT, r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    (_MERGE, r"^<<$", "<"),
)


class _Loader(_BaseLoader):  # type: ignore[misc]  # the C loader when PyYAML was built with libyaml
    """PyYAML's safe loader with the scalar rules above; only parsing and composing are used."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's slot


for _tag, _pattern, _first in _RESOLVERS:
    # "\0" stands for «no first character»: PyYAML files the empty scalar under "".
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), [c if c != "\0" else "" for c in _first])


def _compose(text: str) -> yaml.Node | None:
    """The graph of nodes, aliases shared; None for a text without a document. Raises ServeConfigError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ServeConfigError(
            f"has a character that is no Unicode text at position {error.start}", "Save it as UTF-8"
        ) from None
    if size > MAX_BYTES:
        raise ServeConfigError(
            f"is {size} bytes long, more than {MAX_BYTES}", "Move large values into the image or an environment"
        )
    try:
        _limit_depth(text)
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        if _TOO_DEEP in (error.problem or ""):
            raise _nested_too_deep(error.problem_mark) from None
        said = ", ".join(part for part in (error.context, error.problem) if part)
        problem = f"is not valid YAML: {said}"
        raise ServeConfigError(problem, "Correct the YAML", mark=error.problem_mark or error.context_mark) from None
    except yaml.YAMLError as error:
        raise ServeConfigError(f"is not valid YAML: {str(error).splitlines()[0]}", "Correct the YAML") from None
    return node


_TOO_DEEP: Final = "maximum nesting depth"
"""What libyaml from 0.2.6 on says by itself; it scans ahead, so it may get there before the first event does."""


def _nested_too_deep(mark: Any) -> ServeConfigError:
    return ServeConfigError(f"is nested more than {MAX_DEPTH} levels deep", "Flatten it", mark=mark)


def _limit_depth(text: str) -> None:
    """Raises for nesting beyond MAX_DEPTH, reading events one at a time (no recursion)."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _nested_too_deep(event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _limit_size(root: yaml.Node) -> None:
    """Raises when writing out all aliases would give more than MAX_NODES values, or one that contains itself.

    Each node of the graph is looked at once and remembers its written-out size, so the check itself is linear.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes or depth > MAX_DEPTH:
            problem = "has an alias to a value that contains it" if depth <= MAX_DEPTH else "is nested too deep"
            raise ServeConfigError(problem, "Write the value out", mark=node.start_mark)
        open_nodes.add(id(node))
        total = 1 + sum(size(child, depth + 1) for child in _children(node))
        open_nodes.discard(id(node))
        if total > MAX_NODES:
            raise ServeConfigError(
                f"has more than {MAX_NODES} values once its aliases are written out",
                "Use fewer or smaller aliases",
                mark=node.start_mark,
            )
        sizes[id(node)] = total
        return total

    size(root, 0)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _construct(node: yaml.Node) -> Any:
    """Plain JSON of a node. Raises for duplicate keys, keys that are no scalars, and tags that JSON lacks."""
    if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
        return _construct_mapping(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
        return [_construct(child) for child in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _construct_scalar(node)
    raise ServeConfigError(f"has a value of type {node.tag}", "Use plain JSON types only", mark=node.start_mark)


def _construct_mapping(node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    merged: list[dict[str, Any]] = []
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ServeConfigError("has a key that is a list or mapping", "Use a string", mark=key_node.start_mark)
        if key_node.tag == _MERGE:
            merged.extend(_merge_sources(value_node))
            continue
        key = _key(key_node)
        if key in result:
            raise ServeConfigError(f"has the key {key!r} twice", "Remove one of them", mark=key_node.start_mark)
        result[key] = _construct(value_node)
    for source in merged:  # own keys win, then the first source named
        for key, value in source.items():
            result.setdefault(key, value)
    return result


def _merge_sources(node: yaml.Node) -> list[dict[str, Any]]:
    sources: list[dict[str, Any]] = []
    for child in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(child, yaml.MappingNode):
            raise ServeConfigError("has `<<` with something that is no mapping", "Merge mappings", mark=node.start_mark)
        sources.append(_construct_mapping(child))
    return sources


def _key(node: yaml.ScalarNode) -> str:
    """The key as JSON has it: ``1`` and ``true`` are names like any other, as written."""
    value = _construct_scalar(node)
    if value is None:
        raise ServeConfigError("has an empty key", "Name it", mark=node.start_mark)
    return value if isinstance(value, str) else json.dumps(value)


def _construct_scalar(node: yaml.ScalarNode) -> Any:
    convert = _SCALARS.get(node.tag)
    if convert is None:
        raise ServeConfigError(f"has a value of type {node.tag}", "Use plain JSON types only", mark=node.start_mark)
    try:
        value = convert(node.value)
    except ValueError:
        short_tag = node.tag.rpartition(":")[2]
        raise ServeConfigError(f"{node.value!r} is no {short_tag}", "Correct it", mark=node.start_mark) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ServeConfigError(f"{node.value!r} cannot be written as JSON", "Use a finite number", mark=node.start_mark)
    return value


def _to_bool(text: str) -> bool:
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _to_int(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for prefix, base in (("0b", 2), ("0o", 8), ("0x", 16)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    return sign * int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)


def _to_float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_BOOLS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    _NULL: lambda _text: None,
    _BOOL: _to_bool,
    _INT: _to_int,
    _FLOAT: _to_float,
    _STR: str,
    _MERGE: str,
}
