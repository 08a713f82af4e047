"""``kubectl rayservice`` against the real cluster: what it shows, explains and does, with real pods and real Ray.

The tests share a service and run in this order.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from e2e.localkube import binaries
from e2e.manifests import BROKEN, cluster_spec, rayservice, serve_config, with_env, worker_group
from e2e.rayservices import Service, role
from e2e.support import Kube, Object, condition

pytestmark = pytest.mark.timeout(900)

NAME = "shown"
SPEC = cluster_spec(worker_group())
MANIFEST = rayservice(NAME, SPEC, rayClusterDeletionDelaySeconds=600)


class Command:
    """The command with the cluster's kubeconfig and a namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.argv = [sys.executable, "-m", "rayservice_operator", "-n", namespace]
        tools = Path(binaries.ensure("kubectl")).parent
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "KUBECONFIG": str(kube.target.kubeconfig), "PATH": path, "COLUMNS": "100"}

    def run(self, *args: str, code: int = 0, timeout: float = 120) -> str:
        """stdout of a command that ends with that code."""
        done = subprocess.run(
            [*self.argv, *args], env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == code, f"{args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *args: str, code: int = 0) -> Object:
        found: Object = json.loads(self.run(*args, "-o", "json", code=code))
        return found

    @contextmanager
    def going_on(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """A command that a person ends with Ctrl-C, which has to be quiet."""
        # Where the tests run in the background, SIGINT is ignored, and what they start would inherit that.
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [*self.argv, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        signal.signal(signal.SIGINT, inherited)
        try:
            yield process
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
            assert process.returncode == 130, err
            assert "Traceback" not in err
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def service(kube: Kube, module_namespace: str) -> Service:
    kube.apply(MANIFEST, module_namespace)
    service = Service(kube, module_namespace, NAME)
    service.wait_settled()
    return service


@pytest.fixture
def command(kube: Kube, module_namespace: str) -> Command:
    return Command(kube, module_namespace)


def test_what_runs(service: Service, command: Command) -> None:
    """Status, logs of the replica, the dashboard and the service through a forwarded port."""
    view = command.json("status", NAME, "--check")
    (cluster,) = view["clusters"]
    assert (view["ready"], cluster["role"], cluster["name"]) == ("True", "active", service.active())
    assert {pod["ready"] for pod in cluster["pods"]} == {True}
    (application,) = cluster["applications"]
    assert application["deployments"][0]["ready"] == 1
    assert service.active() in command.run("status", NAME)
    assert command.json("explain", NAME)["causes"] == []

    service.answer()
    logs = ("logs", NAME, "--app", "app", "--deployment", "Greeter", "--tail", "50", "-o", "json")
    (log,) = json.loads(command.run(*logs))
    assert log["pod"] in {pod["metadata"]["name"] for pod in service.workers()}
    assert log["lines"]
    with command.going_on("logs", NAME, "-f") as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline().strip()

    with command.going_on("open", NAME, "--serve", "--port", "0", "-o", "json") as opened:
        assert opened.stdout is not None
        text = "".join(opened.stdout.readline() for _ in range(5))
        url = json.loads(text)["url"]
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert json.loads(answer.read())["greeting"] == "Hello"
    with command.going_on("open", NAME, "-o", "json") as opened:
        assert opened.stdout is not None
        url = json.loads("".join(opened.stdout.readline() for _ in range(5)))["url"]
        with urllib.request.urlopen(f"{url}api/version", timeout=10) as answer:
            assert "ray_version" in json.loads(answer.read())


def test_explain_what_cannot_start(service: Service, command: Command) -> None:
    """An application whose constructor raises: the deployment, Ray's words, and the error in the replica's log."""
    service.annotate(rollback="false")
    service.patch(serveConfigV2=serve_config(import_path=BROKEN))
    service.wait(lambda: condition(service.get(), "Ready").get("status") == "False", "not Ready", timeout=240)

    def explained() -> Object:
        view = command.json("explain", NAME)
        return view if [cause["kind"] for cause in view["causes"]][:1] == ["deployment-unhealthy"] else {}

    view = service.wait(explained, "explained")
    assert "Broken" in view["causes"][0]["title"]
    told = json.dumps([view["causes"][0]["detail"], view["logs"]])
    assert "this application fails on purpose" in told
    assert "\\u001b" not in told
    assert command.run("status", NAME, "--check", code=1)
    service.patch(serveConfigV2=MANIFEST["spec"]["serveConfigV2"])
    service.annotate(rollback=None)
    service.wait_settled()


def test_plan_then_pause_promote_undo(service: Service, command: Command, tmp_path: Path) -> None:
    """What plan says beforehand comes about; the verbs wait for what they ask for."""
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump(MANIFEST))
    command.json("plan", str(file))
    changed = rayservice(NAME, with_env(SPEC, "RELEASE", "2"), rayClusterDeletionDelaySeconds=600)
    file.write_text(yaml.safe_dump(changed))
    plan = command.json("plan", str(file), code=1)
    assert (plan["preview"]["kind"], plan["preview"]["impact"]["extraPods"]) == ("new cluster", 2)
    assert any(row.startswith("+") and "RELEASE" in row for row in plan["diff"])

    first = service.active()
    assert command.json("pause", NAME)["outcome"] == "change"
    service.kube.apply(changed, service.namespace)
    service.wait(lambda: service.status().get("upgrade", {}).get("phase") == "Paused", "held before it began")
    command.run("promote", NAME, code=1)  # there is no new cluster yet
    command.run("resume", NAME)
    second = service.wait(lambda: role(service.get(), "pending"), "a second cluster named")
    # By hand, because it must come before the new cluster is proven: a command takes its time on a busy machine.
    service.kube.target.kubectl("annotate", "rayservice", NAME, "-n", service.namespace, "ray.io/pause=true")
    service.wait(lambda: service.status().get("upgrade", {}).get("phase") == "Paused", "held before it takes over")
    assert command.json("status", NAME)["upgrade"]["target"] == second
    assert json.loads(command.run("promote", NAME, "--wait", "-o", "json", timeout=400))["waited"] == "done"
    assert service.active() == second
    command.run("resume", NAME)

    def newest_is_active() -> list[Object]:
        revisions: list[Object] = command.json("history", NAME)["revisions"]
        return revisions if "active" in revisions[0]["marks"] else []

    history = service.wait(newest_is_active, "the newest revision in force")
    assert "RELEASE" in json.dumps(history[0]["changes"])
    number = history[1]["number"]
    done = command.run("undo", NAME, "--to-revision", str(number), "--wait", "-o", "json", timeout=400)
    assert json.loads(done)["waited"] == "done"
    assert service.active() == first
    assert json.loads(command.run("undo", NAME, "--clear", "--wait", "-o", "json", timeout=400))["waited"] == "done"
    assert service.active() == second
