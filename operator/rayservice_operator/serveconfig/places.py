"""Where the characters of a YAML scalar's value stand in the file, so that a text inside a text keeps its places.

``serveConfigV2`` is a YAML text held by a scalar of another one. People read line numbers of the file, so a place in
the inner text is translated, whatever style the scalar is written in.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from rayservice_operator.core.findings import Position
from rayservice_operator.serveconfig.yamltext import lines, position_of

Spot = tuple[int, int]
"""Line and column in the file, from 1."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Pieces of a value that stand in one run in the file: where each begins in the value, and where in the file."""

    starts: tuple[tuple[int, int], ...]
    spots: tuple[Spot, ...]
    fallback: Position

    def outer(self, inner: Position) -> Position:
        """The place in the file of a place in the value."""
        at = bisect_right(self.starts, (inner.line, inner.column)) - 1
        if at < 0:
            return self.fallback
        (line, column), (outer_line, outer_column) = self.starts[at], self.spots[at]
        # Behind the end of the last known line there is nothing to count on.
        return Position(outer_line, outer_column + (inner.column - column if line == inner.line else 0))


def translation(node: yaml.ScalarNode, file_lines: list[str]) -> Translation:
    """How the value of ``node`` lies in the file it was read from."""
    start = position_of(node.start_mark)
    pieces = _PIECES.get(node.style or "", _plain)(node, file_lines)
    found = list(pieces)
    return Translation(tuple(inner for inner, _ in found), tuple(outer for _, outer in found), start)


_Pieces = Iterator[tuple[tuple[int, int], Spot]]


def _literal(node: yaml.ScalarNode, file_lines: list[str]) -> _Pieces:
    """``|``: line by line below the header; the indentation is what the file has more."""
    first = node.start_mark.line + 1
    indent = 0
    for index, value_line in enumerate(lines(node.value)):
        if first + index >= len(file_lines):
            return
        if value_line.strip():
            indent = len(file_lines[first + index]) - len(value_line)
        yield (index + 1, 1), (first + index + 1, max(indent, 0) + 1)


def _folded(node: yaml.ScalarNode, file_lines: list[str]) -> _Pieces:
    """``>``: each line of the file is found again in the value, in order."""
    value = lines(node.value)
    index, column = 0, 0
    for number in range(node.start_mark.line + 1, min(node.end_mark.line + 1, len(file_lines))):
        content = file_lines[number].strip()
        if not content:
            continue
        while index < len(value):
            at = value[index].find(content, column)
            if at >= 0:
                yield (index + 1, at + 1), (number + 1, file_lines[number].index(content) + 1)
                column = at + len(content)
                break
            index, column = index + 1, 0


_ESCAPE: Final = re.compile(r"\\(?:x.{2}|u.{4}|U.{8}|.)", re.DOTALL)


def _quoted(node: yaml.ScalarNode, file_lines: list[str]) -> _Pieces:
    """Quotes: escapes are one character of the value, a line break with what surrounds it is a space or breaks."""
    double = node.style == '"'
    row, column = node.start_mark.line, node.start_mark.column + 1
    line, at = 1, 1
    yield (line, at), (row + 1, column + 1)
    end = (node.end_mark.line, node.end_mark.column - 1)
    while (row, column) < end and row < len(file_lines):
        text = file_lines[row]
        if column >= len(text):
            blank, row = 0, row + 1
            while row < len(file_lines) and not file_lines[row].strip() and row < end[0]:
                blank, row = blank + 1, row + 1
            if row >= len(file_lines):
                return
            column = len(file_lines[row]) - len(file_lines[row].lstrip())
            line, at = (line + blank, 1) if blank else (line, at + 1)
            yield (line, at), (row + 1, column + 1)
        elif double and text[column] == "\\":
            if column + 1 >= len(text):  # an escaped line break is nothing at all
                row += 1
                column = len(file_lines[row]) - len(file_lines[row].lstrip()) if row < len(file_lines) else 0
            else:
                escape = _ESCAPE.match(text, column)
                width = len(escape[0]) if escape else 2
                line, at = (line + 1, 1) if text[column + 1] == "n" else (line, at + 1)
                column += width
            yield (line, at), (row + 1, column + 1)
        elif not double and text.startswith("''", column):
            column, at = column + 2, at + 1
            yield (line, at), (row + 1, column + 1)
        elif text[column] in " \t" and not text[column:].strip():
            column = len(text)  # spaces before a line break are folded with it
        else:
            column, at = column + 1, at + 1


def _plain(node: yaml.ScalarNode, _file_lines: list[str]) -> _Pieces:
    yield (1, 1), (node.start_mark.line + 1, node.start_mark.column + 1)


_PIECES: Final = {"|": _literal, ">": _folded, '"': _quoted, "'": _quoted}
