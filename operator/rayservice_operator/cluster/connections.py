"""Kept-alive connections: what makes a pod's HTTP proxies end them once the pod is to be left.

A module in the pod, which Ray Serve's proxies load through their callback for middlewares, adds ``Connection: close``
to answers while the pod's annotation ``rayservice.ray.io/draining`` is set (by the RayService, on clusters that it has
no role for any more) or its preStop hook has begun. The module comes in an annotation of the pod, shown to the
container as a file (downward API): no ConfigMap that would have to exist first, and nothing needed in the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import drain
from rayservice_operator.cluster.command import generates_command
from rayservice_operator.cluster.view import ClusterView, GroupView

MODULE_NAME: Final = "rayservice_proxy"
MODULE: Final = (Path(__file__).parent / "in_pod" / f"{MODULE_NAME}.py").read_text()
VOLUME: Final = "rayservice"
MOUNT: Final = "/etc/rayservice"

# Exported by the shell and not in the container's env, because there they would replace what the image has set: people
# put their applications' path into an image's PYTHONPATH. Another callback stays, and ours is then not loaded. A proxy
# whose callback cannot be imported does not start, hence the look at the file.
_EXPORT: Final = (
    f"if [ -r {MOUNT}/{MODULE_NAME}.py ]; then "
    f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{MOUNT}" '
    f"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH="
    f'"${{RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH:-{MODULE_NAME}:middlewares}}"; fi; '
)


def managed(view: ClusterView, group: GroupView) -> bool:
    """Whether pods of the group get the module: not where the user starts Ray in a command of their own, or mounts
    something at that place."""
    mounts = group.ray_container.get("volumeMounts") or ()
    volumes = group.pod_spec.get("volumes") or ()
    return (
        drain.wanted(view)
        and generates_command(view, group)
        and all(mount.get("mountPath") != MOUNT for mount in mounts)
        and all(volume.get("name") != VOLUME for volume in volumes)
    )


def export(view: ClusterView, group: GroupView) -> str:
    """Shell before ``ray start`` that makes Serve's proxies load the module."""
    return _EXPORT if managed(view, group) else ""


def pod_annotations(view: ClusterView, group: GroupView) -> dict[str, str]:
    """The module's text, for the pod's metadata."""
    return {names.PROXY_MODULE: MODULE} if managed(view, group) else {}


def add_module(view: ClusterView, group: GroupView, spec: dict[str, Any]) -> None:
    """Show the module, and whether the pod is to be left, to the Ray container of a pod spec."""
    if not managed(view, group):
        return
    files = {f"{MODULE_NAME}.py": names.PROXY_MODULE, "draining": names.DRAINING}
    items = [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in files.items()
    ]
    spec.setdefault("volumes", []).append({"name": VOLUME, "downwardAPI": {"items": items}})
    mount = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
    spec["containers"][0].setdefault("volumeMounts", []).append(mount)
