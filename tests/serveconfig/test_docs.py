"""docs/serve-config.md says what the code does: its rules, and which field came with which version."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rayservice_operator.serveconfig.check import RULES
from rayservice_operator.serveconfig.model import Deploy, Part, fields_of

PAGE = (Path(__file__).parents[2] / "docs" / "serve-config.md").read_text(encoding="utf-8")


def parts(part: type[Part], seen: set[type[Part]]) -> Iterator[type[Part]]:
    if part in seen:
        return
    seen.add(part)
    yield part
    for field in fields_of(part).values():
        inner = (field.shape.item or field.shape).part
        if inner is not None:
            yield from parts(inner, seen)


def test_each_rule_has_a_row() -> None:
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))
    assert rows == {*RULES, "yaml"}


def test_each_field_that_came_later_is_in_the_table() -> None:
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for version, where, fields in re.findall(r"^\| (\d\.\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE):
        told[version, where] = set(re.findall(r"`(\w+)`", fields))
    known: dict[tuple[str, str], set[str]] = defaultdict(set)
    for part in parts(Deploy, set()):
        for field in fields_of(part).values():
            if field.since > (0, 0):
                known[f"{field.since[0]}.{field.since[1]}", part.LABEL].add(field.name)
    assert told == known
