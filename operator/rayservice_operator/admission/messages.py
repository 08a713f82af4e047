"""Words of a review: refusals that kubectl shows readably, warnings within what the API server passes on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from rayservice_operator.api.specerror import field_path
from rayservice_operator.core.findings import Finding
from rayservice_operator.core.violations import Violation

Problem: TypeAlias = Violation | Finding

MAX_WARNING: Final = 256
"""Bytes of one warning. Where warnings are long in sum the API server cuts each at 256 characters
(``apiserver/pkg/endpoints/filters/warning.go``); a byte is never more than that."""

MAX_TOTAL: Final = 4096
"""Bytes of all warnings of one answer: what goes beyond is dropped by the API server without a word."""

MAX_PIECES: Final = 3
"""A longer text goes on in further warnings; what needs more than that many is cut."""

MAX_PROBLEMS: Final = 25
"""Problems told in one refusal; the others are counted. Nobody reads more at once."""

_GOES_ON: Final = "  … "
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def as_violation(problem: Problem) -> Violation:
    """A finding with its path as kubectl writes it."""
    if isinstance(problem, Violation):
        return problem
    return Violation(field_path(problem.path), problem.problem, problem.fix)


def refusal(problems: Sequence[Problem]) -> str:
    """Field, problem and fix of each, one a line when there are several."""
    lines = [_plain(str(as_violation(problem))) for problem in problems]
    if len(lines) == 1:
        return lines[0]
    told = "".join(f"\n* {line}" for line in lines[:MAX_PROBLEMS])
    return f"{len(lines)} problems:{told}{_more(len(lines))}"


def causes(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """The same as ``details.causes`` of a ``metav1.Status``."""
    found = []
    for problem in problems[:MAX_PROBLEMS]:
        said = as_violation(problem)
        message = _plain(f"{said.problem}. {said.fix}")
        found.append({"reason": "FieldValueInvalid", "field": _plain(said.field), "message": message})
    if len(problems) > MAX_PROBLEMS:
        found.append({"reason": "FieldValueInvalid", "field": "spec", "message": _more(len(problems)).strip()})
    return found


def _more(count: int) -> str:
    return f"\nand {count - MAX_PROBLEMS} more problems" if count > MAX_PROBLEMS else ""


def fitted(warnings: Iterable[str]) -> list[str]:
    """``warnings`` cut to what reaches the client; the last one says how many did not.

    Long ones are continued in a further line. A control character would make the API server drop the whole warning.
    """
    all_of_them = [list(_pieces(_plain(warning))) for warning in warnings]
    told: list[str] = []
    room = MAX_TOTAL
    for number, pieces in enumerate(all_of_them):
        rest = _left_out(len(all_of_them) - number)
        # As long as others follow, there must be room to say that they were left out.
        reserve = 0 if number == len(all_of_them) - 1 else _size(rest)
        need = sum(map(_size, pieces))
        if need + reserve > room:
            return [*told, rest]
        told += pieces
        room -= need
    return told


def _left_out(count: int) -> str:
    return f"and {count} more: `kubectl rayservice lint FILE` shows all of them"


def _pieces(text: str) -> Iterator[str]:
    """``text`` in lines of at most MAX_WARNING bytes, broken at spaces where there are any."""
    start = ""
    for number in range(MAX_PIECES):
        limit = MAX_WARNING - _size(start)
        if _size(text) <= limit:
            yield start + text
            return
        if number == MAX_PIECES - 1:
            limit -= _size("…")
        head = _clip(text, limit)
        space = head.rfind(" ")
        if space > limit // 2 and number < MAX_PIECES - 1:
            head = head[:space]
        text = text[len(head) :].lstrip()
        yield start + head + ("…" if number == MAX_PIECES - 1 else "")
        start = _GOES_ON


def _clip(text: str, size: int) -> str:
    """The longest beginning of at most ``size`` bytes."""
    return text.encode()[:size].decode(errors="ignore")


def _size(text: str) -> int:
    return len(text.encode())


def _plain(text: str) -> str:
    """One line of valid UTF-8."""
    return _CONTROL.sub(" ", text).encode(errors="replace").decode().strip()
