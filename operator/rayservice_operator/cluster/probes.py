"""Probes of the Ray container. A probe that the user wrote stays.

What they ask is whether the raylet (on the head also the GCS) works, never whether Serve's proxy does: a worker
without a replica has no proxy and is no less healthy. Which pods receive requests is said by ``ray.io/serve``.
"""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster.command import parsed_port
from rayservice_operator.cluster.view import UNIFIED_HEALTH, ClusterView, GroupView

STARTUP_BUDGET_S: Final = 600
"""Longest start of Ray before the kubelet restarts the container; KubeRay allows about as long."""

_TIMING: Final[dict[str, dict[str, int]]] = {
    # Every second, so that a pod is Ready within a second of Ray's being up, and cheap as it ends with the start.
    "startupProbe": {"periodSeconds": 1, "failureThreshold": STARTUP_BUDGET_S},
    "readinessProbe": {"periodSeconds": 5, "failureThreshold": 10},
    # Tolerant: a head that restarts loses its session, a busy one only answers late. 120 x 5 s as KubeRay.
    "livenessProbe": {"periodSeconds": 5, "failureThreshold": 120},
}


def probes(view: ClusterView, group: GroupView, params: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The probes to add to the Ray container, by field name. ``params`` are the parameters of ``ray start``.

    A startup probe ends a container that fails it, so it comes only together with our liveness probe: who wrote a
    liveness probe of their own may run a Ray without the agent that ours ask.
    """
    if not view.config.inject_probes:
        return {}
    action = _action(view, group, params)
    timeout = 5 if group.is_head else 2
    present = {kind for kind in _TIMING if group.ray_container.get(kind)}
    if "livenessProbe" in present:
        present.add("startupProbe")
    return {
        kind: {**action, **timing, "timeoutSeconds": timeout} for kind, timing in _TIMING.items() if kind not in present
    }


def _action(view: ClusterView, group: GroupView, params: dict[str, str]) -> dict[str, Any]:
    agent = parsed_port(params, "dashboard-agent-listen-port", names.AGENT_PORT)
    version = view.ray_version
    if version is None:
        # The oldest endpoint that every Ray still has; no wget is taken for granted in an unknown image.
        return {"httpGet": {"path": "/api/local_raylet_healthz", "port": agent}}
    if version >= UNIFIED_HEALTH:
        return {"httpGet": {"path": "/api/healthz", "port": agent}}
    checks = [_wget(agent, "/api/local_raylet_healthz")]
    if group.is_head:
        dashboard = parsed_port(params, "dashboard-port", names.DEFAULT_HEAD_PORTS["dashboard"])
        checks.append(_wget(dashboard, "/api/gcs_healthz"))
    return {"exec": {"command": ["bash", "-c", " && ".join(checks)]}}


def _wget(port: int, path: str) -> str:
    return f"wget --tries 1 -T 2 -q -O- http://localhost:{port}{path} | grep success"
