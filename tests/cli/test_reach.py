"""``logs`` and ``open`` as far as they go without pods: kubectl is a script that answers as the real one does.

With real pods: ``e2e/test_cli.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import stat
from pathlib import Path

import pytest

from rayservice_operator.cli import kubectl, replicalogs, verbs_reach
from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.kubectl import Kubectl
from rayservice_operator.cli.options import Cli, Options
from rayservice_operator.cli.replicalogs import Where
from tests.cli import states

_SCRIPT = r"""#!/bin/sh
echo "$@" >> "$0.asked"
case "$*" in
  *"exec forbidden"*) echo 'Error from server (Forbidden): pods "x" is forbidden' >&2; exit 1 ;;
  *"ls -1t"*) printf 'replica_app0_Main_x7k2p9q1.log\nreplica_app0_Main_Two_x7k2p9q2.log\n' ;;
  *"-F"*"/slow/"*) echo one; while [ ! -e "$0.enough" ]; do sleep 0.05; done ;;
  *"tail -n"*"-F"*) printf '\033[31mone\033[0m\ntwo\n' ;;
  *"tail -n"*) printf 'ERROR 2026 x -- no weights\nValueError: none\n' ;;
  *"--previous"*) printf 'starting\nRuntimeError: died\n' ;;
  *"slow"*) exec sleep 30 ;;
esac
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    script = tmp_path / "kubectl"
    script.write_text(_SCRIPT)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return kubectl.find(Options(context="here"), "place")


def _asked(tool: Kubectl) -> str:
    asked = Path(f"{tool.program}.asked")
    return asked.read_text() if asked.exists() else ""


async def test_same_cluster_and_namespace(tool: Kubectl) -> None:
    await tool.output("get", "pods")
    assert _asked(tool) == "--context=here --namespace=place get pods\n"


async def test_a_command_that_fails(tool: Kubectl) -> None:
    with pytest.raises(CliError, match="forbidden") as caught:
        await tool.output("exec", "forbidden")
    assert caught.value.code is Exit.FORBIDDEN
    with pytest.raises(CliError, match="did not end") as late:
        await tool.output("slow", timeout_s=0.2)
    assert late.value.code is Exit.TIMEOUT


def test_no_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CliError, match="kubectl is needed") as caught:
        kubectl.find(Options(), "")
    assert caught.value.step


async def test_logs_of_the_deployment_asked_for(tool: Kubectl) -> None:
    objects, _ = states.reach("ready")
    found, errors = await replicalogs.find(tool, objects, {"demo-24px8"}, "app0", "Main")
    assert not errors
    assert {where.file.replica for where in found} == {"x7k2p9q1"}
    assert {where.pod for where in found} == {pod["metadata"]["name"] for pod in objects.pods}
    assert found[0].path == "/tmp/ray/session_latest/logs/serve/replica_app0_Main_x7k2p9q1.log"


async def test_a_temp_dir_of_ones_own(tool: Kubectl) -> None:
    objects, _ = states.reach("ready")
    objects.clusters[0]["spec"]["headGroupSpec"]["rayStartParams"]["temp-dir"] = "/mnt/a b"
    found, _ = await replicalogs.find(tool, objects, {"demo-24px8"}, "app0", "Main")
    assert found[0].path == "/mnt/a b/session_latest/logs/serve/replica_app0_Main_x7k2p9q1.log"
    assert "'/mnt/a b/session_latest/logs/serve'" in _asked(tool)


async def test_follow_marks_each_line_and_finds_what_is_new(
    tool: Kubectl, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs_reach, "RESCAN_S", 0.01)
    objects, _ = states.reach("ready")
    first, *later = (await replicalogs.find(tool, objects, {"demo-24px8"}, "app0", "Main"))[0]
    looks = 0

    async def look() -> list[Where]:
        nonlocal looks
        looks += 1
        if looks == 3:  # whatever was found has been begun by now
            (Path(tool.program).parent / "kubectl.enough").touch()
        return [first, *later]

    # The first one goes on until it has been looked for others.
    slow = dataclasses.replace(first, folder="/slow")
    await asyncio.wait_for(verbs_reach._follow(Cli(), tool, [slow], 5, look), 20)
    rows = capsys.readouterr().out.splitlines()
    assert looks
    assert rows.count("one") == 1, "alone it needs no mark"
    for where in later:
        assert rows.count(f"{where.pod} {where.file.replica} two") == 1
    assert f"tail -n +1 -F {later[0].path}" in _asked(tool)
    assert f"tail -n 5 -F {slow.path}" in _asked(tool)


def test_a_misspelt_deployment() -> None:
    objects, _ = states.reach("ready")
    verbs_reach._check_names(objects, "app0", "Main")
    for app, deployment, known in (("app", "", "app0"), ("app0", "Mian", "Main"), ("", "Mian", "Main")):
        with pytest.raises(CliError) as caught:
            verbs_reach._check_names(objects, app, deployment)
        assert (caught.value.code, known in caught.value.step) == (Exit.MISSING, True)


async def test_errors_of_what_is_unwell(tool: Kubectl) -> None:
    objects, _ = states.reach("ready")
    entry = objects.service["status"]["activeServiceStatus"]["applicationStatuses"]["app0"]
    entry["serveDeploymentStatuses"]["Main"]["status"] = "UNHEALTHY"
    states.with_pods(objects, states.waiting("CrashLoopBackOff", exitCode=1), "gpu-worker")
    blocks, missing = await replicalogs.of(tool, objects)
    assert missing == ""
    assert [block.lines for block in blocks][:1] == [("starting", "RuntimeError: died")]
    assert blocks[-1].lines == ("ERROR 2026 x -- no weights", "ValueError: none")


async def test_a_service_that_is_well_is_not_asked(tool: Kubectl) -> None:
    objects, _ = states.reach("ready")
    assert await replicalogs.of(tool, objects) == ((), "")
    assert not _asked(tool)
