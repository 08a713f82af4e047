"""A real Redis for GCS fault tolerance, which pods can reach.

On the local cluster it is a process of this machine from Debian's package, since there is no registry to pull an image
from; on other clusters it is a pod with the public image.
"""

import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Kind
from e2e.localkube import debian
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import Steps
from e2e.support import Kube, account, pod_ready, wait_for

_IMAGE = "redis:7"
# redis-tools has the server's program under another name; the package redis-server would start a service at once.
_PROGRAM = "redis-check-rdb"
_START_SECONDS = 20.0


@dataclass(frozen=True)
class Redis:
    """``address`` is host:port as pods reach it."""

    address: str
    password: str
    command: tuple[str, ...]

    def keys(self) -> list[str]:
        """All keys, by redis-cli where the server runs."""
        done = subprocess.run([*self.command, "--scan"], capture_output=True, text=True, check=True)
        return sorted(done.stdout.split())


@contextmanager
def running(kube: Kube, namespace: str) -> Iterator[Redis]:
    """A Redis with a password, empty, for the length of the block."""
    local = kube.target.kind is Kind.LOCAL
    with _process(kube) if local else _pod(kube, namespace) as redis:
        yield redis


@contextmanager
def _process(kube: Kube) -> Iterator[Redis]:
    debian.ensure({_PROGRAM: "redis-tools"}, Steps())
    address, port, password = _node_address(kube), _free_port(), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        settings = Path(folder) / "redis.conf"  # not on the command line, where everybody could read the password
        settings.write_text(f'bind {address}\nport {port}\nrequirepass {password}\ndir {folder}\nsave ""\n')
        argv = ["redis-server", str(settings)]
        process = subprocess.Popen(argv, executable=f"/usr/bin/{_PROGRAM}", stdout=subprocess.DEVNULL)
        try:
            _await_port(address, port, process)
            cli = ("redis-cli", "-h", address, "-p", str(port), "--no-auth-warning", "-a", password)
            yield Redis(f"{address}:{port}", password, cli)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _node_address(kube: Kube) -> str:
    (node,) = kube.plain(kube.core.list_node())["items"]
    return str(next(entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"redis-server does not answer at {address}:{port}: {error}"
                raise LocalKubeError(msg) from error
            time.sleep(0.1)
        else:
            return


@contextmanager
def _pod(kube: Kube, namespace: str) -> Iterator[Redis]:
    password = secrets.token_hex(16)
    kube.apply(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: redis, labels: {{app: redis}}}}
spec:
  containers:
  - name: redis
    image: {_IMAGE}
    args: [--requirepass, "{password}"]
    readinessProbe: {{tcpSocket: {{port: 6379}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: redis}}
spec: {{selector: {{app: redis}}, ports: [{{port: 6379}}]}}
""",
        namespace,
    )
    wait_for(
        lambda: pod_ready(kube.pod(namespace, "redis")),
        timeout=120,
        what="Redis ready",
        describe=lambda: account(kube, namespace),
    )
    kubectl = ("kubectl", "--kubeconfig", str(kube.target.kubeconfig), "exec", "-n", namespace, "redis", "--")
    yield Redis("redis:6379", password, (*kubectl, "redis-cli", "--no-auth-warning", "-a", password))
