"""Pods that can be drained: which have the hook and the time for it, and what the hook does without a real Ray."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster import drain
from rayservice_operator.core.objects import Manifest
from tests.cluster.test_pod import env, head, ray, worker
from tests.cluster.world import group, of_service, raycluster, template

TIMEOUT = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


def served(grace: object = None, **container: Any) -> Manifest:
    """A RayService's cluster whose worker template has that grace period."""
    pod = template(**container)
    if grace is not None:
        pod["spec"]["terminationGracePeriodSeconds"] = grace
    return of_service(raycluster(group(template=pod)))


def hook(pod: Manifest) -> list[str] | None:
    """The preStop command of the Ray container."""
    found = ray(pod).get("lifecycle", {}).get("preStop")
    return found["exec"]["command"] if found else None


def test_a_worker_has_a_hook_and_more_time_than_it_takes() -> None:
    pod = worker(served())
    command = hook(pod)
    assert command is not None
    assert command[-4:-1] == [drain.DRAIN_NODE, "demo-head-svc.ns.svc.cluster.local", "6379"]
    seconds = int(command[-1])
    assert 35 < seconds <= pod["spec"]["terminationGracePeriodSeconds"] - int(env(pod)[TIMEOUT])


def test_a_head_is_not_drained_and_does_not_wait_for_it() -> None:
    pod = head(served())
    assert hook(pod) == ["/bin/bash", "-c", "--", "echo > /tmp/rayservice-draining || true"]
    assert "terminationGracePeriodSeconds" not in pod["spec"]
    assert env(pod)[TIMEOUT] == "5"


def test_the_users_own_hook_and_time_stay_as_they_are() -> None:
    own = {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    pod = worker(served(lifecycle=own))
    assert ray(pod)["lifecycle"] == own
    assert TIMEOUT not in env(pod)  # then Ray's own drain on SIGTERM is all there is
    after = {"postStart": {"exec": {"command": ["true"]}}}
    pod = worker(served(900, lifecycle=after))
    assert ray(pod)["lifecycle"]["postStart"] == after["postStart"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 900
    assert hook(pod)[-1] == "890"  # type: ignore[index]
    pod = worker(served(env=[{"name": TIMEOUT, "value": "17"}]))
    assert env(pod)[TIMEOUT] == "17"


@pytest.mark.parametrize("grace", [0, 3, 14, "ten"])
def test_no_drain_without_time_for_it(grace: object) -> None:
    pod = worker(served(grace))
    assert drain.DRAIN_NODE not in (hook(pod) or ())
    assert TIMEOUT not in env(pod)
    assert pod["spec"]["terminationGracePeriodSeconds"] == grace


def test_draining_can_be_left_out() -> None:
    cluster = served()
    cluster["metadata"]["annotations"] = {names.DRAIN: "false"}
    assert hook(worker(cluster)) is None
    assert hook(head(cluster)) is None
    assert hook(worker(raycluster(group()))) is None
    assert "terminationGracePeriodSeconds" not in worker(raycluster(group()))["spec"]


def test_a_login_shell_finds_ray_where_only_that_one_does() -> None:
    command = hook(worker(served(), login_shell=True))
    assert command is not None
    assert command[:3] == ["/bin/bash", "-lc", "--"]


# --- the hook itself

STUB = """
import json, os, pathlib
STATE = pathlib.Path(os.environ["STUB"])
class Node:
    def __init__(self, name, state):
        self.node_id, self.state, self.instance_id, self.node_manager_address = name.encode(), state, name, "192.0.2.1"
class GcsClient:
    def __init__(self, address): pass
    def get_all_node_info(self, timeout=None):
        asked = json.loads(STATE.read_text())
        asked["questions"] += 1
        STATE.write_text(json.dumps(asked))
        gone = asked["questions"] > asked["lives"]
        return {1: Node("other", 0), 2: Node("me", 1 if gone else 0)}
    def drain_node(self, node_id, reason, message, deadline_ms):
        asked = json.loads(STATE.read_text())
        asked["drained"] = bytes.fromhex(node_id).decode()
        STATE.write_text(json.dumps(asked))
        return asked["accepts"], "no"
"""


@pytest.fixture
def gcs() -> Iterator[socket.socket]:
    """Somebody who listens where the GCS would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def run(tmp_path: Path, port: int, *, accepts: bool = True, lives: int = 1, seconds: float = 30) -> tuple[str, str]:
    """The hook as the pod runs it: what it said, and the state of the stub afterwards."""
    package = tmp_path / "ray"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_raylet.py").write_text(STUB)
    state = tmp_path / "state.json"
    state.write_text(f'{{"questions": 0, "accepts": {str(accepts).lower()}, "lives": {lives}}}')
    command = hook(worker(served()))
    assert command is not None
    done = subprocess.run(
        [*command[:-3], "localhost", str(port), str(seconds)],
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(tmp_path),
            "STUB": str(state),
            "RAY_CLOUD_INSTANCE_ID": "me",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.strip(), state.read_text()


def test_the_hook_waits_until_its_own_node_has_ended(tmp_path: Path, gcs: socket.socket) -> None:
    said, state = run(tmp_path, gcs.getsockname()[1], lives=2)
    assert said == "drain: drained"
    assert '"drained": "me"' in state
    assert '"questions": 3' in state


def test_the_hook_ends_in_time_and_without_a_failure(tmp_path: Path, gcs: socket.socket) -> None:
    said, _ = run(tmp_path, gcs.getsockname()[1], lives=99, seconds=0.1)
    assert said == "drain: not drained in time"


def test_the_hook_ends_at_once_where_nothing_can_be_drained(tmp_path: Path, gcs: socket.socket) -> None:
    said, _ = run(tmp_path, gcs.getsockname()[1], accepts=False)
    assert said == "drain: Ray refuses: no"


def test_the_hook_does_not_wait_for_a_head_that_is_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said, state = run(tmp_path, port)
    assert said == "drain: the head does not answer"
    assert "drained" not in state


def test_the_hook_survives_an_image_without_ray(tmp_path: Path, gcs: socket.socket) -> None:
    (tmp_path / "broken").mkdir()
    command = hook(worker(served()))
    assert command is not None
    done = subprocess.run(
        [*command[:-3], "localhost", str(gcs.getsockname()[1]), "30"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "ModuleNotFoundError" in done.stderr
