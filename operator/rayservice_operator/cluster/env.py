"""Environment variables of the Ray container. A variable that the user set is never overridden or repeated.

Ours come first in the list, so a user's own variable may refer to them (``$(RAY_CLUSTER_NAME)``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import auth, drain, gcs
from rayservice_operator.cluster.view import ClusterView, GroupView

Env = dict[str, Any]

SERVICE_ENV: Final = {
    "RAY_timeout_ms_task_wait_for_death_info": "0",
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_SERVE_KV_TIMEOUT_S": "5",
}
"""Only in clusters of a RayService: fail over sooner than batch work wants to."""

DRAIN_TIMEOUT: Final = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""On SIGTERM a Ray node drains first, for 30 s unless told otherwise (ray 2.60, ``_private/node.py``; ray#64454).

A worker with our preStop hook is drained by then, or has nobody left to drain it. A head never is, because the Serve
controller stays on it: it would only hold back its successor for the whole time. Requests under way get a few seconds.
"""


def variable(name: str, value: str) -> Env:
    """A literal variable."""
    return {"name": name, "value": value}


def from_field(name: str, path: str) -> Env:
    """A variable from the pod's own metadata (downward API)."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def head_address(view: ClusterView) -> list[Env]:
    """Where the head is, for workers and every init container. ``RAY_IP`` is the old short form."""
    return [
        variable("FQ_RAY_IP", view.head_fqdn),
        variable("RAY_IP", view.head_service_name),
    ]


def ray_env(view: ClusterView, group: GroupView, ray_start_line: str) -> list[Env]:
    """Every variable that the operator adds to the Ray container of a pod of this group."""
    host = "127.0.0.1" if group.is_head else view.head_fqdn
    result: list[Env] = [
        *([] if group.is_head else head_address(view)),
        from_field("RAY_CLUSTER_NAME", f"metadata.labels['{names.CLUSTER}']"),
        from_field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
        from_field("RAY_CLOUD_INSTANCE_ID", "metadata.name"),
        from_field("RAY_NODE_TYPE_NAME", f"metadata.labels['{names.NODE_GROUP}']"),
        variable("KUBERAY_GEN_RAY_START_CMD", ray_start_line),
        variable("RAY_PORT", view.gcs_port),
        variable("RAY_ADDRESS", f"{host}:{view.gcs_port}"),
        variable("RAY_USAGE_STATS_KUBERAY_IN_USE", "1"),
        variable("RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE", "1"),
        # On a starved node 30 s are not enough for the raylet to register, and giving up costs a container restart.
        variable("RAY_raylet_start_wait_time_s", "120"),
    ]
    if group.is_head:
        tags = f"kuberay_version={view.config.version};kuberay_crd={view.owner_kind}"
        result.append(variable("RAY_USAGE_STATS_EXTRA_TAGS", tags))
        if view.autoscaling:
            result.append(variable("RAY_enable_autoscaler_v2", "true" if view.autoscaler_v2 else "false"))
    if view.owned_by_service:
        result += [variable(name, value) for name, value in SERVICE_ENV.items()]
        if group.is_head or drain.hook_seconds(view, group) is not None:
            result.append(variable(DRAIN_TIMEOUT, str(drain.SHUTDOWN_S)))
    result += gcs.env(view, group)
    result += auth.env(view)
    return result


def merged(
    ours: Sequence[Env], user: Iterable[Mapping[str, Any]], fallback: Iterable[tuple[str, str]] = ()
) -> list[Env]:
    """``ours`` without what the user set, then the user's, then what nobody else set from ``fallback``."""
    theirs = [dict(item) for item in user]
    taken = {item.get("name") for item in theirs}
    mine = [item for item in ours if item["name"] not in taken]
    taken |= {item["name"] for item in mine}
    return [*mine, *theirs, *(variable(name, value) for name, value in fallback if name not in taken)]
