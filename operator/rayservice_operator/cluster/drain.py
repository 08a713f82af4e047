"""How a pod of a RayService leaves without a request lost: the worker's preStop hook and the time that it has.

Deleting a worker pod, for whatever reason and by whomever, so is a drained deletion: an eviction, a scale-down, an
upgrade in place. docs/drain.md tells what happens when.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import init
from rayservice_operator.cluster.view import ClusterView, GroupView

WORKER_GRACE_S: Final = 120
"""Grace period of a worker whose template has none. A drain takes about 35 s and the start of a replica elsewhere;
a pod that is drained sooner goes sooner."""

SHUTDOWN_S: Final = 5
"""What Ray's own drain on SIGTERM may take after the hook, or instead of it on a head (``env.DRAIN_TIMEOUT``)."""

_MARGIN_S: Final = 5
_LEAST_S: Final = 5
"""With less than this a hook is not worth its start."""

_TELL_PROXY: Final = "echo > /tmp/rayservice-draining || true"
"""All of the hook of a pod that cannot be drained: clients are told to go (``in_pod/rayservice_proxy.py``)."""

DRAIN_NODE: Final = (Path(__file__).parent / "in_pod" / "drain_node.py").read_text()
"""The hook: a constant like any other, kept in a file of its own so that it is linted and tested as Python."""


def wanted(view: ClusterView) -> bool:
    """Whether pods of this cluster get what draining needs: those of a RayService that does not say no."""
    return view.owned_by_service and view.annotations.get(names.DRAIN, "").lower() != "false"


def _own_hook(group: GroupView) -> bool:
    return bool((group.ray_container.get("lifecycle") or {}).get("preStop"))


def hook_seconds(view: ClusterView, group: GroupView) -> int | None:
    """How long the hook of a pod of this group may take; None where there is none.

    Not on a head, from which nothing can be moved; not beside a preStop hook of the user's own; and not where the
    user's grace period leaves it no time.
    """
    if group.is_head or not wanted(view) or _own_hook(group):
        return None
    grace = group.pod_spec.get("terminationGracePeriodSeconds", WORKER_GRACE_S)
    seconds = grace - SHUTDOWN_S - _MARGIN_S if isinstance(grace, int) else 0
    return seconds if seconds >= _LEAST_S else None


def add_hook(view: ClusterView, group: GroupView, spec: dict[str, Any], address: str) -> None:
    """Give the Ray container of a pod spec its preStop hook, and a worker the time to be drained.

    ``address`` is where ``ray start`` finds the GCS; the variable ``RAY_ADDRESS`` may be the user's own.
    """
    if view.owned_by_service and not group.is_head:
        spec.setdefault("terminationGracePeriodSeconds", WORKER_GRACE_S)
    if not wanted(view) or _own_hook(group):
        return
    shell = ["/bin/bash", "-lc" if view.config.login_shell else "-c", "--"]
    seconds = hook_seconds(view, group)
    if seconds is None:
        command = [*shell, _TELL_PROXY]
    else:
        script = f'{_TELL_PROXY}; python -c "$@" || true'
        command = [*shell, script, "drain", DRAIN_NODE, *init.gcs_address(view, address), str(seconds)]
    ray = spec["containers"][0]
    ray["lifecycle"] = {**(ray.get("lifecycle") or {}), "preStop": {"exec": {"command": command}}}
