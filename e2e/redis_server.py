"""A real Redis for GCS fault tolerance, which pods can reach.

On the local cluster it is a process of this machine from Debian's package, since there is no registry to pull an image
from; on other clusters it is a pod with the public image.
"""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e import redis_process
from e2e.cluster import Kind
from e2e.support import Kube, account, pod_ready, wait_for

_IMAGE = "redis:7"


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
    with redis_process.running(_node_address(kube), password=secrets.token_hex(16)) as server:
        cli = ("redis-cli", "-h", server.address, "-p", str(server.port), "--no-auth-warning", "-a", server.password)
        yield Redis(f"{server.address}:{server.port}", server.password, cli)


def _node_address(kube: Kube) -> str:
    (node,) = kube.plain(kube.core.list_node())["items"]
    return str(next(entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"))


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
