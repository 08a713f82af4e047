"""The operator under test, and the ways to take it away: stopped for a while, or killed on the spot.

``OPERATOR=host`` runs it as a process of this machine, from the working tree, instead of the chart's Deployment: then
an edit of the operator is tested without building an image. It must be the only operator of the cluster.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Protocol

from e2e import deploy
from e2e.cluster import Kind, Target
from e2e.localkube.errors import LocalKubeError

_START_SECONDS = 60.0
_HOST_PORT = 18080
_POLL_SECONDS = 0.1


class Operator(Protocol):
    """One running operator."""

    target: Target

    def kill(self) -> None:
        """End it without a chance to finish anything. It comes back at once where something restarts it."""

    def stop(self) -> None:
        """End it in the same way, and let it stay away until ``start``."""

    def start(self) -> None:
        """Start it again and wait until it is at work. Nothing happens when it is."""


class HelmOperator:
    """The Deployment that the chart has installed."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def kill(self) -> None:
        pids = self._pids() if self.target.kind is Kind.LOCAL else []
        for pid in pids:  # elsewhere its processes are out of reach, and what follows is the nearest thing to a crash
            os.kill(pid, signal.SIGKILL)
        # A container that ends often waits minutes for its next start (the kubelet's back-off); a new pod does not.
        self._kubectl("delete", "pod", "-l", deploy.SELECTOR, "--grace-period=0", "--force", "--wait=false")

    def stop(self) -> None:
        self._scale(0)
        self.kill()
        self._kubectl("wait", "--for=delete", "pod", "-l", deploy.SELECTOR, "--timeout=60s")

    def start(self) -> None:
        self._scale(1)
        self._kubectl("rollout", "status", deploy.deployment(self.target), f"--timeout={_START_SECONDS:.0f}s")

    def _scale(self, replicas: int) -> None:
        self._kubectl("scale", deploy.deployment(self.target), f"--replicas={replicas}")

    def _kubectl(self, *args: str) -> str:
        return self.target.kubectl(*args, "-n", deploy.NAMESPACE)

    def _pids(self) -> list[int]:
        """The operator's processes on this machine, told by the pod's UID in their cgroup."""
        names = self._kubectl("get", "pods", "-l", deploy.SELECTOR, "-o", "jsonpath={.items[*].metadata.uid}").split()
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in processes if _runs_operator(entry, names)]


def _runs_operator(entry: Path, pod_uids: list[str]) -> bool:
    try:
        command = (entry / "cmdline").read_bytes()
        groups = (entry / "cgroup").read_text()
    except OSError:  # it ended meanwhile
        return False
    return b"rayservice-operator" in command and any(uid in groups for uid in pod_uids)


class HostOperator:
    """A process of this machine, from the working tree."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.log = Path(tempfile.mkdtemp(prefix="operator-")) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def start(self) -> None:
        if self._process is not None:
            return
        with self.log.open("ab") as log:
            self._process = self._run(log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._at_work():
            if self._process.poll() is not None or time.monotonic() > deadline:
                msg = f"the operator does not start; see {self.log}:\n" + "\n".join(
                    self.log.read_text().splitlines()[-20:]
                )
                raise LocalKubeError(msg)
            time.sleep(_POLL_SECONDS)

    def _run(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        env = {**os.environ, "KUBECONFIG": str(self.target.kubeconfig), "HTTP_PORT": str(_HOST_PORT)}
        argv = [sys.executable, "-m", "rayservice_operator.cli.main", "run"]
        return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _at_work(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_HOST_PORT}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False


def on_host() -> bool:
    """Whether ``OPERATOR=host`` asks for a process of this machine."""
    named = os.environ.get("OPERATOR", "helm")
    if named not in {"helm", "host"}:
        msg = f"OPERATOR={named}: there are helm, host"
        raise LocalKubeError(msg)
    return named == "host"
