"""Entry points, shared options and completion, as far as they go without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayservice_operator.cli import kubectl_complete
from rayservice_operator.cli.environment import operator_version
from rayservice_operator.cli.errors import Exit
from rayservice_operator.cli.main import main, plugin
from rayservice_operator.cli.options import Options, Output, merged

VERBS = ("status", "explain", "history", "pause", "resume", "promote", "abort", "retry", "undo", "init", "lint", "plan")


def test_the_operator_needs_no_command_line_library() -> None:
    code = "import sys; from rayservice_operator.cli.main import main; main(['version']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == operator_version()
    assert not {"'typer'", "'rich'", "'kopf'"} & set(modules.strip("[]").split(", "))


def test_verbs_stand_beside_the_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in (*VERBS, "logs", "open", "run", "version"):
        assert f" {verb} " in shown
    for verb in (*VERBS, "logs", "open"):
        assert plugin([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"kubectl rayservice {verb} " in shown
        assert "--namespace" in shown


@pytest.mark.parametrize("args", [["nonsense"], ["status", "--nonsense"], ["undo"], ["status", "-o", "yaml"]])
def test_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plugin(args) == Exit.USAGE
    assert capsys.readouterr().err


def test_options_behind_the_verb_win() -> None:
    before = Options(namespace="a", output=Output.JSON)
    after = merged(before, {"namespace": "b", "context": "c", "output": None})
    assert after == Options(namespace="b", context="c", output=Output.JSON)
    assert before.namespace == "a", "the options before are left as they are"


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "demo.yaml"
    assert plugin(["init", "demo", "-f", str(target), "--template", "llm"]) == 0
    text = target.read_text()
    assert plugin(["init", "demo", "-f", str(target)]) == Exit.USAGE
    assert target.read_text() == text
    assert "is there already" in capsys.readouterr().err
    assert plugin(["init", "demo", "-f", str(target), "--force"]) == 0
    assert target.read_text() != text
    assert plugin(["lint", str(target)]) == 0
    assert plugin(["init", "demo", "-f", "-"]) == 0
    assert "kind: RayService" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered", "directive"),
    [
        (["pro"], ["promote\tLet a proven new cluster take over now,..."], 4),
        (["undo", "--to"], ["--to-revision\tNumber in `history`; else the one before."], 4),
        (["-n", "a", "his"], ["history\tRevisions of a RayService: when, what..."], 4),
        (["lint", "ex"], [], 0),
        (["status", "--kubeconfig", "/nowhere", "d"], [], 4),
    ],
)
def test_completion_through_kubectl(
    words: list[str], offered: list[str], directive: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kubectl_complete.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [*offered, f":{directive}"]
