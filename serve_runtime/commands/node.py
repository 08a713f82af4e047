"""This node of a Ray cluster: where its head is, its Serve proxy, and what Serve says of it. No Ray is imported."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

DASHBOARD_PORT: Final = 8265
CURRENT_CLUSTER: Final = Path("/tmp/ray/ray_current_cluster")
"""Where ``ray start`` leaves the address of the GCS, for commands on the same machine."""


class NodeError(Exception):
    """Somebody who is asked does not answer, or what is asked for cannot be known; the text says which."""


def gcs_address(given: str = "") -> tuple[str, int]:
    """Host and port of the GCS: as given, else ``RAY_ADDRESS``, else what ``ray start`` left. Raises NodeError."""
    found = given or os.environ.get("RAY_ADDRESS", "")
    if not found or found in {"auto", "local"} or "://" in found:
        with suppress(OSError):
            found = CURRENT_CLUSTER.read_text().strip()
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal():
        raise NodeError("where the head is cannot be known: give --address HOST:6379, or set RAY_ADDRESS")
    return host.strip("[]"), int(port)


def dashboard_url(given: str = "") -> str:
    """Base URL of the head's dashboard: as given, else on its usual port at the host of the GCS. Raises NodeError."""
    if given:
        return given.rstrip("/")
    host, _ = gcs_address()
    return f"http://[{host}]:{DASHBOARD_PORT}" if ":" in host else f"http://{host}:{DASHBOARD_PORT}"


def token() -> str:
    """The cluster's token, where Ray would look for it; empty if there is none."""
    if found := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return found
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with suppress(OSError):
        return path.read_text().strip()
    return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """status and body."""

    status: int
    body: bytes


def ask(url: str, timeout_s: float, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request; with a body it is a POST. Raises NodeError when there is no answer in time.

    No certificate is checked, as the kubelet checks none in its probes: the one asked is this pod or its head.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NodeError(f"{url} is no http URL")
    made: http.client.HTTPConnection
    timeout = max(timeout_s, 0.05)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        made = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
    else:
        made = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(made) as connection:
        try:
            connection.request("GET" if body is None else "POST", path, body=body, headers=dict(headers or {}))
            got = connection.getresponse()
            return Answer(got.status, got.read())
        except TimeoutError:
            raise NodeError(f"no answer within {timeout_s:.1f} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise NodeError(str(error) or type(error).__name__) from error


def serve_details(dashboard: str, timeout_s: float) -> Mapping[str, Any]:
    """What ``GET /api/serve/applications/`` tells. Raises NodeError."""
    known = token()
    headers = {"Authorization": f"Bearer {known}"} if known else {}
    try:
        got = ask(f"{dashboard}/api/serve/applications/", timeout_s, headers=headers)
        told = json.loads(got.body) if got.status == 200 else None
    except NodeError as error:
        raise NodeError(f"the head's dashboard ({dashboard}): {error}") from None
    except ValueError:
        raise NodeError(f"the head's dashboard ({dashboard}) answers what is no JSON") from None
    if not isinstance(told, dict):
        more = "; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" if got.status in {401, 403} else ""
        raise NodeError(f"the head's dashboard ({dashboard}) answers {got.status}{more}")
    return told


@dataclass(frozen=True, slots=True)
class Here:
    """How this node is known to Ray: the pod's name, where the operator gave it as instance id, and addresses."""

    instance: str
    addresses: frozenset[str]

    def is_of(self, actor: Mapping[str, Any]) -> bool:
        """Whether a replica or a proxy of Serve's details is on this node."""
        if self.instance and actor.get("node_instance_id"):
            return bool(actor["node_instance_id"] == self.instance)
        return actor.get("node_ip") in self.addresses


def here(address: str = "") -> Here:
    """This node; ``address`` where its own name does not lead to the one that Ray has."""
    found = {address} if address else set()
    if not found:
        with suppress(OSError):
            found |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
            outwards.connect(("192.0.2.1", 9))  # as Ray finds its own address; nothing is sent
            found.add(str(outwards.getsockname()[0]))
    return Here(os.environ.get("RAY_CLOUD_INSTANCE_ID", ""), frozenset(found))


_ESTABLISHED: Final = "01"


def open_connections(port: int, tables: Iterable[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> int:
    """Connections that clients have to this port now (proc(5)). In a pod they are those of the pod alone."""
    count = 0
    for table in tables:
        with suppress(OSError):
            rows = (line.split() for line in table.read_text().splitlines()[1:])
            count += sum(int(row[1].rpartition(":")[2], 16) == port and row[3] == _ESTABLISHED for row in rows)
    return count
