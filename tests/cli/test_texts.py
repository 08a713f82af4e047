"""Ages, log texts, kubeconfigs and manifests: the small parts."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayservice_operator.cli import human, kubeconfig, logtext, merge
from rayservice_operator.cli.errors import CliError, Exit, from_api
from rayservice_operator.cli.manifests import Kind, Wishes, manifest
from rayservice_operator.kube.errors import Forbidden, Invalid, NotFound, Unreachable
from rayservice_operator.lint import lint_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 20 * 60, "3h20m"),
        (30 * 3600, "30h"),
        (3 * 86400 + 4 * 3600, "3d4h"),
        (100 * 86400, "100d"),
        (3 * 365 * 86400, "3y"),
    ],
)
def test_durations_are_those_of_kubectl(seconds: float, text: str) -> None:
    assert human.duration(seconds) == text


def test_clean() -> None:
    assert human.clean("\x1b[31;1mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\r\nnext\x00") == "red link\nnext"
    assert human.line("a\n  b\tc", 4) == "a b…"


# --- logs

_LISTING = """replica_app_Main_x7k2p9q1.log
replica_app_Main_x7k2p9q2.log.1
replica_app_Main_Two_ab12cd34.log
replica_other_Main_zz99zz99.log
proxy_10.0.0.1.log
controller_1.log
"""


def test_log_files_of_a_deployment() -> None:
    def found(*args: str) -> list[str]:
        return [f.replica for f in logtext.log_files(_LISTING, *args)]

    assert found() == ["x7k2p9q1", "ab12cd34", "zz99zz99"]
    assert found("app", "Main") == ["x7k2p9q1"]
    assert found("app") == ["x7k2p9q1", "ab12cd34"]
    assert found("", "Main") == ["x7k2p9q1", "zz99zz99"]
    assert logtext.log_files("replica_a_Decode_llama_x1.log", "a", "Decode:llama")[0].replica == "x1"


def test_newest_error_is_the_last_with_its_traceback() -> None:
    text = (Path(__file__).parent / "data" / "replica.log").read_text()
    block = logtext.newest_error("x", f"ERROR 2026 -- an older one\n{text}")
    assert block is not None
    assert block.lines[0] == "ERROR 2026-01-31 12:00:03,002 app0_Main x7k2p9q1 -- Exception during reconfigure."
    assert block.lines[-1] == "FileNotFoundError: /models/llama"
    assert not any("\x1b" in entry for entry in block.lines)


def test_newest_error_of_json_logs_and_of_none() -> None:
    entry = {"levelname": "ERROR", "asctime": "2026", "message": "no weights", "exc_text": "Traceback:\n  x"}
    info = {"levelname": "INFO", "message": "ERRORS: 0"}
    block = logtext.newest_error("x", f"{json.dumps(info)}\n{json.dumps(entry)}\n{json.dumps(info)}\n")
    assert block is not None
    assert block.lines == ("ERROR 2026 no weights", "Traceback:", "  x")
    assert logtext.newest_error("x", "INFO all is well\n") is None
    assert logtext.newest_error("x", "") is None


def test_a_long_error_is_cut_in_the_middle() -> None:
    text = "ERROR boom\n" + "".join(f"  frame {i}\n" for i in range(100)) + "ValueError: last\n"
    block = logtext.newest_error("x", text)
    assert block is not None
    assert len(block.lines) == logtext.MAX_LINES
    assert (block.lines[0], block.lines[-1]) == ("ERROR boom", "ValueError: last")


# --- kubeconfig


def _config(folder: Path, name: str, **user: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config"
    config = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u", "namespace": f"ns-{name}"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://{name}:6443", "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_first_file_wins_and_a_context_may_be_chosen(tmp_path: Path) -> None:
    first, second = _config(tmp_path / "1", "one", token="t1"), _config(tmp_path / "2", "two", token="t2")
    env = {"KUBECONFIG": f"{first}:{second}:{tmp_path / 'missing'}"}
    access = kubeconfig.find("", "", env)
    info = access.login()
    assert (access.context, access.namespace, info.server, info.token) == ("one", "ns-one", "https://one:6443", "t1")
    assert info.ca_path == str(tmp_path / "1" / "ca.crt"), "paths are relative to the file"
    assert kubeconfig.find("", "two", env).namespace == "ns-two"
    assert kubeconfig.find(str(second), "", env).context == "two"
    assert kubeconfig.contexts("", env) == ["one", "two"]
    with pytest.raises(CliError, match="no context 'three'") as caught:
        kubeconfig.find("", "three", env)
    assert (caught.value.code, "one, two" in caught.value.step) == (Exit.UNREACHABLE, True)


def test_impersonation_is_kept(tmp_path: Path) -> None:
    path = _config(tmp_path / "1", "one", token="t", **{"as": "alice", "as-groups": ["a", "b"]})
    headers = kubeconfig.find(str(path), "", {}).headers
    assert headers == (("Impersonate-User", "alice"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))


def test_credential_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        'test "$1" = get || exit 1\n'
        'echo "$KUBERNETES_EXEC_INFO" | grep -q ExecCredential || exit 2\n'
        'echo "{\\"kind\\": \\"ExecCredential\\", \\"status\\": {\\"token\\": \\"$WHO\\"}}"\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    given = {"command": "../plugin", "args": ["get"], "env": [{"name": "WHO", "value": "t"}], "apiVersion": "v1"}
    path = _config(tmp_path / "1", "one", exec=given)
    assert kubeconfig.find(str(path), "", {}).login().token == "t"
    for change, said in (({"command": "/none"}, "is not there"), ({"args": []}, "gave no credentials")):
        path = _config(tmp_path / "1", "one", exec={**given, **change, "installHint": "Install it."})
        with pytest.raises(CliError, match=said) as caught:
            kubeconfig.find(str(path), "", {}).login()
        assert caught.value.step == "Install it."


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(CliError, match="kubeconfig"):
        kubeconfig.find(str(tmp_path / "config"), "", {})


# --- errors


def test_what_the_api_server_says_becomes_one_line() -> None:
    cut = "get /apis: Cannot connect to host 10.0.0.1:6443 ssl:default [Connect call failed ('10.0.0.1', 6443)]"
    error = from_api(Unreachable(cut), "get RayService demo")
    assert (error.code, "10.0.0.1:6443 cannot be reached" in error.message) == (Exit.UNREACHABLE, True)
    whole = f'"" is invalid: patch: Invalid value: "{{{"x" * 900}}}": strict decoding error: unknown field "spec.a"'
    assert from_api(Invalid(422, "Invalid", whole), "it").message == 'The API server refused it: unknown field "spec.a"'
    kind = from_api(NotFound(404, "NotFound", "the server could not find the requested resource"), "list")
    assert (kind.code, "does not know the kind" in kind.message) == (Exit.MISSING, True)
    assert from_api(Forbidden(403, "Forbidden", "no"), "list Pods", "a").code is Exit.FORBIDDEN


# --- manifests and the merge


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("gpus", "replicas"), [(None, None), (1, 1), (2, 3)])
def test_lint_has_nothing_to_say_about_init(kind: Kind, gpus: int | None, replicas: int | None) -> None:
    text = manifest(Wishes("demo", kind, gpus=gpus, replicas=replicas))
    assert [f"{f.rule}: {f.problem}" for f in lint_text(text)] == []
    assert yaml.safe_load(text)["metadata"]["name"] == "demo"


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes("Demo"),
        Wishes("d" * 48),
        Wishes("demo", Kind.LLM, gpus=0),
        Wishes("demo", Kind.LLM, model="a: b"),
        Wishes("demo", image="x\ny"),
        Wishes("demo", accelerator="A 100"),
    ],
)
def test_wishes_that_cannot_be_met(wishes: Wishes) -> None:
    with pytest.raises(CliError) as caught:
        manifest(wishes)
    assert caught.value.code is Exit.USAGE


def test_merge_without_knowing_what_was_applied_last() -> None:
    live = {"metadata": {"labels": {"a": "1"}}, "spec": {"keep": 1, "gone": 2, "inside": {"x": 1, "y": [1]}}}
    file = {"metadata": {"labels": {"b": "2"}}, "spec": {"keep": 1, "inside": {"y": [2], "z": None}}}
    after = merge.applied(live, file)
    assert after == {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"keep": 1, "inside": {"y": [2]}}}
    change = merge.patch(live["spec"], after["spec"])
    assert change == {"gone": None, "inside": {"x": None, "y": [2]}}
