"""Addresses and ports of one cluster, chosen at its first start and kept until ``down``."""

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.localkube import host
from e2e.localkube.light import free_port

SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
POD_RANGE = "10.244.0.0/16"
NODE = "localkube"

_PREFERRED = {
    "etcd": 2379,
    "etcd_peer": 2380,
    "apiserver": 6443,
    "controller_manager": 10257,
    "scheduler": 10259,
    "kubelet": 10250,
    "kubelet_health": 10248,
    "proxy_health": 10256,
    "proxy_metrics": 10249,
    "dns": 10053,
    "dns_ready": 18181,
}


@dataclass(frozen=True)
class Settings:
    address: str
    ports: dict[str, int]

    @classmethod
    def choose(cls) -> "Settings":
        """The usual ports where they are free, others where something else has them."""
        return cls(host.node_address(), {name: _usable(port) for name, port in _PREFERRED.items()})

    @classmethod
    def load(cls, path: Path) -> "Settings | None":
        try:
            data = json.loads(path.read_text())
            return cls(data["address"], {name: data["ports"][name] for name in _PREFERRED})
        except (OSError, ValueError, KeyError):
            return None

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))

    def url(self, name: str, path: str = "", scheme: str = "https") -> str:
        return f"{scheme}://127.0.0.1:{self.ports[name]}{path}"


def _usable(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return free_port()
    return port
