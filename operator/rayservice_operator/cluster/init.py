"""The init container that keeps a worker waiting until the head's GCS listens.

``ray start`` would wait by itself, but a start that fails after its timeout restarts the container with growing
pauses, so a slow image pull on the head would cost minutes. An open TCP port is enough: what TLS or a token
need is checked, and tried again, by ``ray start``.
"""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.cluster.view import ClusterView

NAME: Final = "wait-gcs-ready"

# No Python here: starting an interpreter with Ray costs seconds of CPU, again and again, on the machine on which
# the head itself is starting. The shell's own /dev/tcp costs nothing. Messages come at 1, 2, 4, 8 … tries, so the
# log of a worker that waits for hours stays short. `timeout` guards against addresses that swallow packets.
SCRIPT: Final = """\
limit=""
if command -v timeout >/dev/null 2>&1; then limit="timeout 2"; fi
tries=0 tell=1
until $limit bash -c ': <"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; do
  tries=$((tries + 1))
  if [ "$tries" -eq "$tell" ]; then
    echo "$tries tries: GCS at $1:$2 does not answer yet"
    tell=$((tell * 2))
  fi
  if [ "$tries" -le 50 ]; then sleep 0.2; else sleep 1; fi
done
echo "GCS at $1:$2 is up"
"""


def gcs_address(view: ClusterView, address: str) -> tuple[str, str]:
    """Host and port of the GCS from ``host:port`` as ``ray start --address`` has it; else the head service's."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        host, port = view.head_fqdn, view.gcs_port
    return host.strip("[]"), port


def container(view: ClusterView, ray_container: dict[str, Any], address: str) -> dict[str, Any]:
    """The init container for a pod whose finished Ray container is given. ``address`` as for :func:`gcs_address`."""
    host, port = gcs_address(view, address)
    resources = {"cpu": "100m", "memory": "64Mi"}
    result: dict[str, Any] = {
        "name": NAME,
        "image": ray_container.get("image"),
        "command": ["/bin/bash", "-c", SCRIPT, NAME, host, port],
        "env": ray_container.get("env") or [],
        "resources": {"requests": resources, "limits": resources},
    }
    same = ("imagePullPolicy", "envFrom", "securityContext", "volumeMounts")
    return result | {key: ray_container[key] for key in same if ray_container.get(key)}
