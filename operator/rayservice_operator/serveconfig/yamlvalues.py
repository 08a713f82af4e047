"""Nodes of YAML as plain JSON: keys become strings, aliases and ``<<`` are written out, everything else is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

import yaml

from rayservice_operator.serveconfig.yamltext import (
    TAG_BOOL,
    TAG_FLOAT,
    TAG_INT,
    TAG_MAP,
    TAG_MERGE,
    TAG_NULL,
    TAG_SEQ,
    TAG_STR,
    YamlError,
    position_of,
)


def construct(node: yaml.Node) -> Any:
    """Plain JSON of a node. Raises YamlError for duplicate keys, keys that are no scalars, and tags that JSON lacks."""
    if isinstance(node, yaml.MappingNode) and node.tag == TAG_MAP:
        return _construct_mapping(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == TAG_SEQ:
        return [construct(child) for child in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _construct_scalar(node)
    raise _wrong_tag(node)


def _wrong_tag(node: yaml.Node) -> YamlError:
    return YamlError(f"has a value of type {node.tag}", "Use plain JSON types only", position_of(node.start_mark))


def _construct_mapping(node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    merged: list[dict[str, Any]] = []
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlError("has a key that is a list or mapping", "Use a string", position_of(key_node.start_mark))
        if key_node.tag == TAG_MERGE:
            merged.extend(construct(source) for source in merge_sources(value_node))
            continue
        key = key_text(key_node)
        if key in result:
            raise YamlError(f"has the key {key!r} twice", "Remove one of them", position_of(key_node.start_mark))
        result[key] = construct(value_node)
    for source in merged:  # own keys win, then the first source named
        for key, value in source.items():
            result.setdefault(key, value)
    return result


def merge_sources(node: yaml.Node) -> list[yaml.MappingNode]:
    """The mappings that a ``<<`` names, the first one wins. Raises YamlError for anything else."""
    sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(source, yaml.MappingNode) for source in sources):
        where = position_of(node.start_mark)
        raise YamlError("has `<<` with something that is no mapping", "Merge mappings", where)
    return list(sources)


def entry(node: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of a key and its value; own keys win over those that ``<<`` brings in."""
    sources: list[yaml.MappingNode] = []
    for key_node, value_node in node.value:
        if key_node.tag == TAG_MERGE:
            sources.extend(merge_sources(value_node))
        elif key_text(key_node) == key:
            return key_node, value_node
    return next((found for source in sources if (found := entry(source, key)) is not None), None)


def key_text(node: yaml.ScalarNode) -> str:
    """The key as JSON has it: ``1`` and ``true`` are names like any other, as written. Raises YamlError."""
    value = _construct_scalar(node)
    if value is None:
        raise YamlError("has an empty key", "Name it", position_of(node.start_mark))
    return value if isinstance(value, str) else json.dumps(value)


def _construct_scalar(node: yaml.ScalarNode) -> Any:
    if node.tag == TAG_STR:
        return node.value
    convert = _SCALARS.get(node.tag)
    if convert is None:
        raise _wrong_tag(node)
    try:
        value = convert(node.value)
    except ValueError:
        short_tag = node.tag.rpartition(":")[2]
        problem = f"{_shortened(node.value)!r} is no {short_tag}"
        raise YamlError(problem, "Correct it", position_of(node.start_mark)) from None
    if isinstance(value, float) and not math.isfinite(value):
        problem = f"{node.value!r} cannot be written as JSON"
        raise YamlError(problem, "Use a finite number", position_of(node.start_mark))
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


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
    TAG_NULL: lambda _text: None,
    TAG_BOOL: _to_bool,
    TAG_INT: _to_int,
    TAG_FLOAT: _to_float,
    TAG_STR: str,
    TAG_MERGE: str,
}
