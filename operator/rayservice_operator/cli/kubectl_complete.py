"""``kubectl_complete-rayservice``: completion of ``kubectl rayservice …`` by kubectl's own completion (1.26 and later).

kubectl runs the program of that name with the words typed so far, the last one unfinished, and reads offers as Cobra
writes them: one a line, a tab before the description, and last a line ``:N`` whose 4 means «no file names». Typer's
form for fish is the same but for that last line.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rayservice_operator.cli.app import COMPLETE_VARIABLE, PROGRAM, build

NO_FILES, FILES = 4, 0
_WITH_FILES: Final = frozenset({"lint", "plan"})


def offers(words: Sequence[str]) -> list[str]:
    """The offers for the last of ``words``: a value each, with a tab and a description where there is one."""
    told = io.StringIO()
    asked = {
        COMPLETE_VARIABLE: "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": " ".join([PROGRAM, *(shlex.quote(word) if word else "" for word in words)]),
    }
    with _environment(asked), contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        build()(args=[], prog_name=PROGRAM)
    return [row for row in told.getvalue().splitlines() if row.strip()]


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def main(argv: Sequence[str] | None = None) -> int:
    """Print the offers."""
    words = list(sys.argv[1:] if argv is None else argv)
    found = offers(words)
    files = not found and bool(_WITH_FILES & set(words[:-1]))
    for row in found:
        print(row)
    print(f":{FILES if files else NO_FILES}")
    return 0
