"""``lint``: checks manifests in files, for people and for pipelines. Needs no cluster and no Ray.

Runs by itself as well: ``python -m rayservice_operator.cli.lint FILE…``.
"""

from __future__ import annotations

import difflib
import enum
import glob
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console
from rich.text import Text

from rayservice_operator.cli.environment import operator_version
from rayservice_operator.core.findings import Finding, Severity
from rayservice_operator.lint import BY_NAME, lint_text
from rayservice_operator.lint.formats import Report, as_json, as_sarif, count, sentence

STDIN: Final = "-"
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_MENTIONS: Final = b"ray.io/"
"""Of the files below a directory, only those with this are read: charts and other YAML are not ours to judge."""

CLEAN, FOUND, UNUSABLE = 0, 1, 2


class Format(enum.StrEnum):
    """What is printed: for people, for programs, for code-scanning views."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class FailOn(enum.StrEnum):
    """The least severity that makes the exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"
    NEVER = "never"


_FAILING: Final = {
    FailOn.ERROR: {Severity.ERROR},
    FailOn.WARNING: {Severity.ERROR, Severity.WARNING},
    FailOn.HINT: set(Severity),
    FailOn.NEVER: set[Severity](),
}
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.HINT: "bold cyan"}


@dataclass(frozen=True, slots=True)
class _Unusable(Exception):  # noqa: N818  - not an error of ours
    """What was given cannot be used; the text says why."""

    message: str


def run_lint(
    files: Sequence[str],
    output: str = Format.TEXT,
    ignore: Collection[str] = (),
    fail_on: str = FailOn.ERROR,
    *,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Checks files, directories, glob patterns and ``-``; prints what there is to say and returns the exit code.

    0: nothing at or above ``fail_on``; 1: something; 2: a file that cannot be read, or a rule that does not exist.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    complaints: list[str] = []
    reports: list[Report] = []
    try:
        ignored = _rules(ignore)
        paths = list(_expand(files))
    except _Unusable as unusable:
        err.write(f"lint: {unusable.message}\n")
        return UNUSABLE
    for path in paths:
        try:
            content = _content(path, stdin or sys.stdin)
        except OSError as error:
            complaints.append(f"{path}: {error.strerror or error}")
            continue
        findings = lint_text(content, path, ignore=ignored)
        reports.append(Report(path, content.decode("utf-8", errors="replace"), tuple(findings)))
    _PRINT[Format(output)](reports, out)
    for complaint in complaints:
        err.write(f"lint: {complaint}\n")
    if complaints:
        return UNUSABLE
    failing = _FAILING[FailOn(fail_on)]
    return FOUND if any(finding.severity in failing for report in reports for finding in report.findings) else CLEAN


def _rules(ignore: Collection[str]) -> frozenset[str]:
    """Names of rules, which may be joined by commas."""
    names = frozenset(name.strip() for item in ignore for name in item.split(",") if name.strip())
    for name in sorted(names - BY_NAME.keys()):
        close = difflib.get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {close[0]}?" if close else "docs/lint.md lists them"
        raise _Unusable(f"there is no rule {name!r}; {hint}")
    return names


def _expand(files: Sequence[str]) -> Iterator[str]:
    """The files behind what was given, each once, in that order."""
    if not files:
        raise _Unusable("no files are given; name files, directories or - for what is piped in")
    seen: set[str] = set()
    for given in files:
        for path in _matches(given):
            if path not in seen:
                seen.add(path)
                yield path


def _matches(given: str) -> list[str]:
    if given == STDIN or Path(given).is_file():
        return [given]
    if Path(given).is_dir():
        found = sorted(str(path) for path in Path(given).rglob("*") if _is_manifest(path, Path(given)))
        if not found:
            raise _Unusable(f"no file below {given} mentions ray.io/")
        return found
    if glob.has_magic(given):
        found = sorted(path for path in glob.glob(given, recursive=True) if Path(path).is_file())  # noqa: PTH207 - a pattern may be absolute
        if not found:
            raise _Unusable(f"no file matches {given}")
        return found
    return [given]  # not there: reading it says so


def _is_manifest(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    if hidden or path.suffix not in _SUFFIXES or not path.is_file():
        return False
    try:
        return _MENTIONS in path.read_bytes()
    except OSError:
        return True  # reading it again says why not


def _content(path: str, stdin: TextIO) -> bytes:
    if path != STDIN:
        return Path(path).read_bytes()
    binary = getattr(stdin, "buffer", None)
    return binary.read() if binary is not None else stdin.read().encode()


# -- output --------------------------------------------------------------------------------------------------------


def _print_text(reports: Sequence[Report], out: TextIO) -> None:
    # Colours on terminals only; lines are as long as they are, so that editors find places in them.
    console = Console(file=out, highlight=False, soft_wrap=True)
    for report in reports:
        lines = report.text.splitlines()
        for finding in report.findings:
            console.print(_headline(report.name, finding))
            if finding.position and finding.position.line <= len(lines):
                console.print(_excerpt(lines[finding.position.line - 1], finding))
    console.print(_summary(reports))


def _headline(name: str, finding: Finding) -> Text:
    place = f"{name}:{finding.position.line}:{finding.position.column}:" if finding.position else f"{name}:"
    return Text.assemble(
        (place, "bold"),
        " ",
        (str(finding.severity), _STYLES[finding.severity]),
        " ",
        (f"{finding.rule}:", "bold"),
        f" {sentence(finding)}",
    )


def _excerpt(line: str, finding: Finding) -> Text:
    """The line, with a caret below the place; cut where it is longer than anybody reads."""
    assert finding.position is not None
    number, column = finding.position.line, finding.position.column
    start = max(0, column - 80)
    shown = line[start : start + 160].replace("\t", " ")
    caret = " " * (column - 1 - start)
    margin = f"{number:>5} | "
    return Text.assemble((margin, "dim"), shown, "\n", (" " * 6 + "| ", "dim"), caret, ("^", _STYLES[finding.severity]))


def _summary(reports: Sequence[Report]) -> str:
    parts = [
        f"{number} {severity}{'' if number == 1 else 's'}" for severity, number in count(reports).items() if number
    ]
    files = f"{len(reports)} file{'' if len(reports) == 1 else 's'}"
    return f"{', '.join(parts) or 'Nothing to say'} in {files}."


def _print_json(reports: Sequence[Report], out: TextIO) -> None:
    out.write(json.dumps(as_json(reports), indent=2, ensure_ascii=False) + "\n")


def _print_sarif(reports: Sequence[Report], out: TextIO) -> None:
    out.write(json.dumps(as_sarif(reports, operator_version()), indent=2, ensure_ascii=False) + "\n")


_PRINT: Final = {Format.TEXT: _print_text, Format.JSON: _print_json, Format.SARIF: _print_sarif}


# -- command -------------------------------------------------------------------------------------------------------


def lint(
    files: Annotated[list[str], typer.Argument(help="Files, directories, patterns, or - for what is piped in.")],
    output: Annotated[Format, typer.Option("--format", "-f", help="What is printed.")] = Format.TEXT,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", "-i", help="Rules to leave out; repeat it or use commas.")
    ] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="The least severity that exits with 1.")] = FailOn.ERROR,
) -> None:
    """Check manifests without a cluster: what cannot work, what will surprise, and what to do.

    Exit codes: 0 nothing at or above --fail-on, 1 something, 2 a file that cannot be read or wrong usage. Rules are
    switched off for one object by the annotation ray.io/lint-ignore: "rule,rule". docs/lint.md explains each rule.
    """
    raise typer.Exit(run_lint(files, output, ignore or (), fail_on))


if __name__ == "__main__":
    typer.run(lint)
