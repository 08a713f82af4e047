"""The command line against a real API server that holds RayServices as the operator leaves them.

Their objects come from the simulation (``tests.cli.states``); no operator runs, so what a verb writes stays as it was
written. What needs pods that run is in ``e2e/test_cli.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.localkube import light
from rayservice_operator.api import names
from rayservice_operator.cli.view_plan import difference
from rayservice_operator.core.objects import (
    Manifest,
    annotations_of,
    is_terminating,
    labels_of,
    name_of,
    owner_reference,
)
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.resources import reference
from tests.cli import states
from tests.sim.manifests import rayservice


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


class Command:
    """``kubectl rayservice`` with a kubeconfig and a namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        self.env = {**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "100", "NO_COLOR": "1"}

    async def start(self, *args: str, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "rayservice_operator", "-n", self.namespace, *args),
            env={**self.env, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *args: str, **env: str) -> Done:
        process = await self.start(*args, **env)
        out, err = await process.communicate()
        assert process.returncode is not None
        assert "Traceback" not in err.decode()
        return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def command(apiserver: light.Api, namespace: str) -> Command:
    return Command(apiserver.kubeconfig, namespace)


async def put(client: KubeClient, namespace: str, state: str, name: str = "demo") -> Manifest:
    """Store the objects of a state; returns the RayService."""
    objects, _ = states.reach(state)
    meta = {"name": name, "namespace": namespace, "annotations": dict(annotations_of(objects.service))}
    service = await client.create({**_bare(objects.service), "metadata": meta})
    status = {**objects.service["status"], "observedGeneration": service["metadata"]["generation"]}
    service = await client.patch_status(reference("RayService", namespace, name), status)
    for child in (*objects.clusters, *objects.revisions):
        await client.create({**_bare(child), "metadata": _meta(child, namespace, owner_reference(service))})
    for pod in objects.pods:
        if is_terminating(pod):
            continue
        await client.create({**_bare(pod), "metadata": _meta(pod, namespace)})
        await client.patch_status(reference("Pod", namespace, name_of(pod)), _pod_status(pod))
    return service


def _bare(obj: Manifest) -> Manifest:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def _pod_status(pod: Manifest) -> Manifest:
    """What a kubelet would write; the rest of the simulation's is the API server's own."""
    kept = {key: value for key, value in pod["status"].items() if key in {"phase", "conditions", "podIP"}}
    return {**kept, "podIPs": [{"ip": kept["podIP"]}]} if "podIP" in kept else kept


def _meta(obj: Manifest, namespace: str, *owners: Manifest) -> Manifest:
    return {
        "name": name_of(obj),
        "namespace": namespace,
        "labels": dict(labels_of(obj)),
        "annotations": dict(annotations_of(obj)),
        "ownerReferences": list(owners),
    }


async def annotation(client: KubeClient, namespace: str, key: str) -> str | None:
    return annotations_of(await client.get(reference("RayService", namespace, "demo"))).get(key)


# --- looking


async def test_status(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "upgrading")
    one = await command("status", "demo")
    assert (one.code, one.err) == (0, "")
    for expected in (
        "demo  Ready",
        "DeployingApplications",
        "demo-24px8  active",
        "demo-ggrw9  pending",
        "3/3 pods ready",
    ):
        assert expected in one.out
    assert not [line for line in one.out.splitlines() if line != line.rstrip() or len(line) > 100]

    view = (await command("status", "demo", "-o", "json")).json
    assert view["upgrade"]["underWay"] is True
    assert [(c["role"], len(c["pods"])) for c in view["clusters"]] == [("active", 3), ("pending", 3)]
    assert view["clusters"][0]["applications"][0]["deployments"][0]["ready"] == 2

    rows = (await command("status", "-A", "-o", "json")).json
    assert [row["name"] for row in rows if row["namespace"] == namespace] == ["demo"]
    assert "DeployingApplications" in (await command("status")).out


async def test_check_is_for_scripts(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "ready")
    assert (await command("status", "demo", "--check")).code == 0
    # An edit that the operator has not seen: what the status says is about the former spec.
    await client.merge_patch(reference("RayService", namespace, "demo"), {"spec": {"suspend": True}})
    assert (await command("status", "demo", "--check")).code == 1
    assert "has not looked at the present spec" in (await command("explain", "demo", "--no-logs")).out


async def test_explain_names_the_pod_and_its_events(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "starting")
    pods = (await client.list("Pod", namespace)).items
    worker = next(pod for pod in pods if labels_of(pod)[names.NODE_TYPE] == names.WORKER)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "ray:typo"'}}
    container = {"name": "ray", "ready": False, "restartCount": 0, "image": "ray:typo", "imageID": "", "state": waiting}
    not_ready = {"conditions": [{"type": "Ready", "status": "False"}], "phase": "Pending"}
    target = reference("Pod", namespace, name_of(worker))
    await client.patch_status(target, {**not_ready, "containerStatuses": [container]})
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "pull", "namespace": namespace},
        "eventTime": "2026-01-31T12:00:00.000000Z",
        "reportingController": "kubelet",
        "reportingInstance": "node-1",
        "action": "Pulling",
        "reason": "Failed",
        "type": "Warning",
        "note": "manifest for ray:typo not found",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name_of(worker)},
    }
    await client.create(event)
    told = await command("explain", "demo")
    assert told.code == 0
    assert "1. An image cannot be pulled" in told.out
    assert name_of(worker) in told.out
    assert "manifest for ray:typo not found" in told.out
    view = (await command("explain", "demo", "-o", "json")).json
    assert view["causes"][0]["kind"] == "image-not-pulled"
    assert view["events"][0]["reason"] == "Failed"


async def test_history(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "promoted")
    view = (await command("history", "demo", "-o", "json")).json
    assert [(r["number"], r["marks"]) for r in view["revisions"]] == [(2, ["active", "spec", "good"]), (1, ["good"])]
    assert {c["after"] for c in view["revisions"][0]["changes"]} == {"ray:b"}
    assert "ray:a → ray:b" in (await command("history", "demo")).out


async def test_watch_shows_what_changes(command: Command, client: KubeClient, namespace: str) -> None:
    """In a pipe: one picture after another, only when it differs. Ctrl-C is quiet."""
    await put(client, namespace, "ready")
    process = await command.start("status", "demo", "--watch")
    assert process.stdout is not None
    assert process.stderr is not None
    await _until(process.stdout, b"demo  Ready")
    status = {"numServeEndpoints": 7}
    await client.patch_status(reference("RayService", namespace, "demo"), status)
    await _until(process.stdout, b"7 endpoints")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert out.count(b"demo  Ready") == 0, "only what differs is shown again"


async def _until(stream: asyncio.StreamReader, text: bytes) -> None:
    async with asyncio.timeout(60):
        async for row in stream:
            if text in row:
                return
    raise AssertionError(f"{text!r} was never shown")


async def test_a_terminal_that_knows_no_unicode(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "upgrading")
    done = await command("status", "demo", PYTHONIOENCODING="ascii")
    assert (done.code, "demo-24px8 ? demo-ggrw9" in done.out) == (0, True)


async def test_names_are_completed(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "ready")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "import sys; from rayservice_operator.cli.kubectl_complete import main; main(sys.argv[1:])"),
        *("status", "-n", namespace, "de"),
        env={**os.environ, "KUBECONFIG": str(apiserver.kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines() == ["demo", ":4"]


# --- acting


async def test_pause_and_resume(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "upgrading")
    dry = await command("pause", "demo", "--dry-run")
    assert (dry.code, await annotation(client, namespace, names.PAUSE)) == (0, None)
    assert dry.out.startswith("Would be done: ")

    done = await command("pause", "demo")
    assert (done.code, await annotation(client, namespace, names.PAUSE)) == (0, "true")
    managers = (await client.get(reference("RayService", namespace, "demo")))["metadata"]["managedFields"]
    assert "kubectl-rayservice" in {entry["manager"] for entry in managers}

    again = await command("pause", "demo", "-o", "json")
    assert (again.code, again.json["outcome"]) == (0, "already")
    assert (await command("resume", "demo")).code == 0
    assert await annotation(client, namespace, names.PAUSE) is None


async def test_promote_and_abort_name_the_cluster(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "paused")
    assert (await command("promote", "demo")).code == 0
    assert await annotation(client, namespace, names.PROMOTE) == "demo-ggrw9"
    assert (await command("abort", "demo")).code == 0
    assert await annotation(client, namespace, names.ABORT) == "demo-ggrw9"


async def test_nothing_to_act_on(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "ready")
    for verb in ("promote", "abort", "retry", "undo"):
        done = await command(verb, "demo")
        assert (done.code, done.out) == (1, ""), verb
        assert done.err.strip(), verb
    stored = annotations_of(await client.get(reference("RayService", namespace, "demo")))
    assert not names.VERBS & set(stored)


async def test_retry_and_undo(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "rolled-back")
    assert (await command("retry", "demo")).code == 0
    assert await annotation(client, namespace, names.RETRY)

    assert (await command("undo", "demo")).code == 0
    assert await annotation(client, namespace, names.UNDO) == "1"
    unknown = await command("undo", "demo", "--to-revision", "9")
    assert (unknown.code, "Known are: 1, 2" in unknown.err) == (1, True)
    assert (await command("undo", "demo", "--clear")).code == 0
    assert await annotation(client, namespace, names.UNDO) is None


async def test_wait_sees_what_the_operator_does(command: Command, client: KubeClient, namespace: str) -> None:
    """The part of the operator is played by a write of the status."""
    service = await put(client, namespace, "paused")
    waits = asyncio.create_task(command("promote", "demo", "--wait", "--timeout", "60"))
    while await annotation(client, namespace, names.PROMOTE) is None:  # noqa: ASYNC110  (what is waited for is a write)
        await asyncio.sleep(0.05)
    assert not waits.done()
    pending = service["status"]["pendingServiceStatus"]
    change = {"activeServiceStatus": pending, "pendingServiceStatus": None}
    await client.patch_status(reference("RayService", namespace, "demo"), change)
    done = await waits
    assert (done.code, "demo-ggrw9 is active." in done.out) == (0, True)

    late = await command("abort", "demo", "--wait", "--timeout", "1")
    assert late.code == 1, "nothing to abort any more"


async def test_wait_ends(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "paused")
    late = await command("promote", "demo", "--wait", "--timeout", "1")
    assert late.code == 7
    assert "Not done after 1 s" in late.err


# --- before anything is applied


def _file(tmp_path: Path, manifest: Manifest) -> str:
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return str(path)


def _demo(image: str = "ray:a", **spec: Any) -> Manifest:
    return {**rayservice(image, **spec), "metadata": {"name": "demo", "labels": {"team": "a"}}}


async def test_plan_of_a_new_one(command: Command, tmp_path: Path) -> None:
    done = await command("plan", _file(tmp_path, _demo()), "-o", "json")
    assert (done.code, done.json["exists"], done.json["preview"]["kind"]) == (1, False, "first cluster")
    assert "it would be created" in (await command("plan", _file(tmp_path, _demo()))).out


async def test_plan_is_what_apply_then_does(
    apiserver: light.Api, command: Command, client: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """What somebody else has set stays, what the file had and has not any more goes: as kubectl does it."""
    first = _demo(suspend=False)
    first["metadata"]["annotations"] = {"gone": "soon"}
    apiserver.kubectl("apply", "-n", namespace, "-f", _file(tmp_path, first))
    target = reference("RayService", namespace, "demo")
    await client.merge_patch(target, {"metadata": {"annotations": {names.PAUSE: "true"}}})
    await client.merge_patch(target, {"spec": {"serviceUnhealthySecondThreshold": 600}})
    same = await command("plan", _file(tmp_path, first))
    assert (same.code, "is as the file says" in same.out) == (0, True)

    second = _demo("ray:b", rayClusterDeletionDelaySeconds=5)
    before = await client.get(target)
    planned = await command("plan", _file(tmp_path, second), "-o", "json")
    text = await command("plan", _file(tmp_path, second))
    assert (planned.code, text.code) == (1, 1)
    assert await client.get(target) == before, "nothing is written"
    apiserver.kubectl("apply", "-n", namespace, "-f", _file(tmp_path, second))
    after = await client.get(target)
    assert annotations_of(after).get(names.PAUSE) == "true"
    assert after["spec"]["serviceUnhealthySecondThreshold"] == 600
    assert "suspend" not in after["spec"]
    assert planned.json["diff"] == difference(before, after)
    assert "-    gone: soon" in [row.rstrip() for row in text.out.splitlines()]
    assert [row for row in text.out.splitlines() if row.startswith("+") and "ray:b" in row]


async def test_plan_of_an_upgrade(command: Command, client: KubeClient, namespace: str, tmp_path: Path) -> None:
    """The clusters of the service are looked at, so what is told is exact."""
    await put(client, namespace, "ready")
    done = await command("plan", _file(tmp_path, _demo("ray:b")), "-o", "json")
    preview = done.json["preview"]
    assert (done.code, preview["kind"], preview["exact"]) == (1, "new cluster", True)
    assert preview["impact"]["extraPods"] == 3


async def test_plan_says_what_the_server_refuses(
    command: Command, client: KubeClient, namespace: str, tmp_path: Path
) -> None:
    await put(client, namespace, "ready")
    done = await command("plan", _file(tmp_path, _demo(rayClusterDeletionDelaySeconds=-1)))
    assert done.code == 6
    assert "rayClusterDeletionDelaySeconds" in done.out
    unknown = await command("plan", _file(tmp_path, _demo(nonsense=1)))
    assert (unknown.code, 'unknown field "spec.nonsense"' in " ".join(unknown.out.split())) == (6, True)


async def test_plan_of_files_that_are_no_use(command: Command, tmp_path: Path) -> None:
    for text in ("", "a: [", "kind: Service\n", "\x00\x01", "kind: RayService\napiVersion: ray.io/v1\n"):
        (tmp_path / "x.yaml").write_text(text)
        done = await command("plan", str(tmp_path / "x.yaml"))
        assert (done.code, done.out) == (2, ""), text
        assert "x.yaml" in done.err, text
    assert (await command("plan", str(tmp_path / "none.yaml"))).code == 2
    two = f"{yaml.safe_dump(_demo())}---\n{yaml.safe_dump(rayservice(name='other'))}"
    (tmp_path / "two.yaml").write_text(two)
    done = await command("plan", str(tmp_path / "two.yaml"))
    assert (done.code, "demo, other" in done.err) == (2, True)


# --- what cannot be done


async def test_no_such_name(command: Command, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "ready")
    for verb in ("status", "explain", "history", "pause", "logs", "open"):
        done = await command(verb, "demmo")
        assert (done.code, done.out) == (4, ""), verb
        assert "Did you mean demo?" in done.err, verb


async def test_no_permission(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    await put(client, namespace, "ready")
    command = Command(apiserver.kubeconfig_for("somebody"), namespace)
    done = await command("status", "demo")
    assert (done.code, "Not permitted: get RayService demo" in done.err) == (5, True)
    assert len(done.err.splitlines()) == 2


async def test_a_cluster_without_the_crds() -> None:
    with light.apiserver() as empty:
        done = await Command(empty.kubeconfig, "default")("status", "demo")
    assert done.code == 4
    assert "does not know the kind RayService" in done.err


async def test_unreachable_and_wrong_usage(tmp_path: Path, namespace: str) -> None:
    nobody = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(nobody))
    command = Command(tmp_path / "config", namespace)
    done = await command("status")
    assert done.code == 3
    assert "127.0.0.1:1 cannot be reached" in done.err
    assert len(done.err.splitlines()) == 2
    assert (await command("--context", "y", "status")).code == 3
    assert (await command("status", "a", "-A")).code == 2
    assert (await command("nonsense")).code == 2
