"""``lint``: what is read, what is printed in each format, and the exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rayservice_operator.cli.lint import lint, run_lint
from rayservice_operator.core.findings import Severity

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "data" / "lint" / "faults"
ERROR, WARNING, HINT = (FAULTS / f"{name}.yaml" for name in ("loopback", "grace", "single-replica"))
LOOPBACK = "is 127.0.0.1: the proxies answer nobody outside of their pod"
CLEAN = ROOT / "tests" / "data" / "lint" / "clean" / "08-autoscaling.yaml"


def ran(*files: str | Path, stdin: str = "", **options: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run_lint([str(f) for f in files], **options, stdin=io.StringIO(stdin), stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


# -- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fail_on", "code"),
    [
        (ERROR, "error", 1),
        (ERROR, "never", 0),
        (WARNING, "error", 0),
        (WARNING, "warning", 1),
        (HINT, "warning", 0),
        (HINT, "hint", 1),
        (CLEAN, "hint", 0),
    ],
)
def test_the_exit_code_is_one_at_or_above_the_severity_that_fails(path: Path, fail_on: str, code: int) -> None:
    assert ran(path, fail_on=fail_on)[0] == code


def test_a_file_that_is_not_there_is_told_and_the_others_are_checked(tmp_path: Path) -> None:
    code, out, err = ran(tmp_path / "none.yaml", ERROR)
    assert code == 2
    assert "http-host" in out
    assert err == f"lint: {tmp_path}/none.yaml: No such file or directory\n"


def test_no_files_is_wrong_usage() -> None:
    assert ran()[0] == 2


def test_a_rule_that_does_not_exist_is_wrong_usage_with_what_was_meant() -> None:
    code, out, err = ran(ERROR, ignore=["http-hots"])
    assert (code, out) == (2, "")
    assert err == "lint: there is no rule 'http-hots'; did you mean http-host?\n"


def test_what_is_no_yaml_is_an_error_of_the_file() -> None:
    code, out, _ = ran("-", stdin="a: [1\n")
    assert code == 1
    assert "-:" in out
    assert "error yaml:" in out


# -- what is read ----------------------------------------------------------------------------------------------------


def test_standard_input() -> None:
    code, out, _ = ran("-", stdin=ERROR.read_text())
    assert code == 1
    assert out.startswith("-:9:7: error http-host: ")


def test_directories_are_searched_for_files_that_mention_the_api(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for place in ("a.yaml", "deep/er/b.yml", ".git/c.yaml", "notes.txt"):
        (tmp_path / place).write_text(ERROR.read_text())
    (tmp_path / "chart.yaml").write_text("name: {{ .Values.name }}\n")
    _, out, _ = ran(tmp_path, output="json")
    found = json.loads(out)
    assert [Path(item["file"]).relative_to(tmp_path).as_posix() for item in found["findings"]] == [
        "a.yaml",
        "deep/er/b.yml",
    ]
    assert found["summary"]["files"] == 2


def test_a_directory_without_manifests_is_wrong_usage(tmp_path: Path) -> None:
    code, _, err = ran(tmp_path)
    assert code == 2
    assert "mentions ray.io/" in err


def test_patterns_that_no_shell_has_filled_in(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(ERROR.read_text())
    assert ran(f"{tmp_path}/*.yaml")[1].endswith("2 errors in 2 files.\n")
    assert ran(f"{tmp_path}/*.yml")[0] == 2


def test_a_file_is_read_once_however_often_it_is_named() -> None:
    assert ran(ERROR, ERROR)[1].endswith("1 error in 1 file.\n")


# -- what is printed -------------------------------------------------------------------------------------------------


def test_text_names_the_place_the_rule_and_the_fix_and_shows_the_line() -> None:
    _, out, _ = ran(ERROR)
    assert out.splitlines() == [
        f"{ERROR}:9:7: error http-host: host: {LOOPBACK}. Write 0.0.0.0, or remove it",
        "    9 |       host: 127.0.0.1",
        "      |       ^",
        "1 error in 1 file.",
    ]


def test_text_has_no_colours_off_a_terminal() -> None:
    assert "\x1b" not in ran(ERROR, WARNING, HINT)[1]


def test_text_has_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    run_lint([str(ERROR)], stdout=out)
    assert "\x1b[1;31merror\x1b[0m" in out.getvalue()


def test_text_of_what_is_written_like_markup_is_shown_as_it_is() -> None:
    text = (
        ERROR.read_text()
        .replace("name: summarizer", "name: '[red]x[/red]'")
        .replace("route_prefix: /summarize", "route_prefix: '[b]'")
    )
    assert "'[b]'" in ran("-", stdin=text)[1]


def test_long_lines_are_cut_around_the_place() -> None:
    text = ERROR.read_text().replace("      host:", "      " + "{" + '"x": "' + "y" * 500 + '", host:')
    longest = max(len(line) for line in ran("-", stdin=text.replace("127.0.0.1", "127.0.0.1}"))[1].splitlines())
    assert longest < 400


def test_json_has_its_shape() -> None:
    _, out, _ = ran(ERROR, output="json")
    assert json.loads(out) == {
        "version": 1,
        "findings": [
            {
                "file": str(ERROR),
                "line": 9,
                "column": 7,
                "severity": "error",
                "rule": "http-host",
                "path": "spec.serveConfigV2.http_options.host",
                "problem": LOOPBACK,
                "fix": "Write 0.0.0.0, or remove it",
            }
        ],
        "summary": {"files": 1, "error": 1, "warning": 0, "hint": 0},
    }


# What SARIF 2.1.0 has in the parts that are written (sections 3.13, 3.14, 3.18, 3.19, 3.27 to 3.30, 3.33, 3.49, 3.52).
# A key with "!" is required; a list holds items of the one shape; a function tells whether a value is right.
def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _from_one(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _level(value: Any) -> bool:
    return value in {"none", "note", "warning", "error"}


_MESSAGE = {"text!": _text}
_RULE = {
    "id!": _text,
    "shortDescription": _MESSAGE,
    "fullDescription": _MESSAGE,
    "help": _MESSAGE,
    "defaultConfiguration": {"level": _level},
}
_LOCATION = {
    "physicalLocation": {
        "artifactLocation!": {"uri": lambda uri: re.fullmatch(r"[^ \\\\]+", uri) is not None},
        "region": {"startLine": _from_one, "startColumn": _from_one},
    },
    "logicalLocations": [{"fullyQualifiedName": lambda value: isinstance(value, str)}],
}
_RESULT = {
    "ruleId": _text,
    "ruleIndex": lambda value: isinstance(value, int) and value >= 0,
    "level": _level,
    "message!": _MESSAGE,
    "locations": [_LOCATION],
}
_SARIF = {
    "$schema": _text,
    "version!": lambda value: value == "2.1.0",
    "runs!": [
        {
            "tool!": {"driver!": {"name!": _text, "version": _text, "rules": [_RULE]}},
            "columnKind": lambda value: value in {"utf16CodeUnits", "unicodeCodePoints"},
            "results": [_RESULT],
        }
    ],
}


def conform(value: Any, shape: Any, at: str = "") -> None:
    """Fails naming the place where ``value`` is not of the shape."""
    if isinstance(shape, list):
        assert isinstance(value, list), at
        for index, item in enumerate(value):
            conform(item, shape[0], f"{at}[{index}]")
    elif isinstance(shape, dict):
        assert isinstance(value, dict), at
        known = {key.rstrip("!"): part for key, part in shape.items()}
        assert set(value) <= set(known), at
        assert {key[:-1] for key in shape if key.endswith("!")} <= set(value), at
        for key, item in value.items():
            conform(item, known[key], f"{at}.{key}")
    else:
        assert shape(value), f"{at}: {value!r}"


def test_sarif_of_every_planted_fault_has_the_structure_of_the_standard() -> None:
    _, out, _ = ran(FAULTS, output="sarif")
    log = json.loads(out)
    conform(log, _SARIF)
    (run,) = log["runs"]
    assert len(run["results"]) >= 60
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        physical = result["locations"][0]["physicalLocation"]
        text = Path(physical["artifactLocation"]["uri"]).read_text(encoding="utf-8")
        expected = re.match(r"# expect: (\S+) (\d+):(\d+)", text)
        assert expected is not None
        region = physical["region"]
        assert expected.groups() == (result["ruleId"], str(region["startLine"]), str(region["startColumn"]))


def test_sarif_of_nothing_is_a_run_without_results() -> None:
    code, out, _ = ran(CLEAN, output="sarif")
    log = json.loads(out)
    conform(log, _SARIF)
    assert (code, log["runs"][0]["results"]) == (0, [])


def test_sarif_has_uris_not_paths() -> None:
    out = io.StringIO()
    run_lint(["-"], "sarif", stdin=io.StringIO(ERROR.read_text()), stdout=out)
    (result,) = json.loads(out.getvalue())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "stdin"}
    assert result["level"] == "error"


def test_levels_of_sarif() -> None:
    _, out, _ = ran(ERROR, WARNING, HINT, output="sarif")
    assert [result["level"] for result in json.loads(out)["runs"][0]["results"]] == ["error", "warning", "note"]


# -- command ---------------------------------------------------------------------------------------------------------


def invoked(*arguments: str, stdin: str | None = None) -> Any:
    app = typer.Typer()
    app.command("lint")(lint)
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_the_command_takes_its_options() -> None:
    result = invoked(str(ERROR), str(WARNING), "--format", "json", "--ignore", "http-host", "--fail-on", "warning")
    assert result.exit_code == 1
    assert [item["rule"] for item in json.loads(result.stdout)["findings"]] == ["grace-too-short"]


def test_the_command_reads_what_is_piped_in() -> None:
    result = invoked("-", stdin=ERROR.read_text())
    assert result.exit_code == 1
    assert "http-host" in result.stdout


def test_an_unknown_format_is_wrong_usage() -> None:
    assert invoked(str(ERROR), "--format", "xml").exit_code == 2


def test_it_runs_by_itself_and_loads_neither_kopf_nor_the_api_client() -> None:
    code = (
        "import sys, rayservice_operator.cli.lint as m; code = m.run_lint([sys.argv[1]]); "
        "heavy = {'kopf', 'kubernetes', 'aiohttp', 'ray', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(CLEAN)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Nothing to say in 1 file.\n"


def test_severities_are_all_printed() -> None:
    text = ran(ERROR, WARNING, HINT)[1]
    assert all(f" {severity} " in text for severity in Severity)
