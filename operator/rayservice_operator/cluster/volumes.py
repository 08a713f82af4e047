"""Volumes that Ray needs beside the user's: shared memory for the object store, logs shared with the autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SHARED_MEMORY: Final = "shared-mem"
SHARED_MEMORY_PATH: Final = "/dev/shm"
LOGS: Final = "ray-logs"
LOGS_PATH: Final = "/tmp/ray"


def add_shared_memory(pod_spec: dict[str, Any], params: Mapping[str, str]) -> None:
    """Mount memory at ``/dev/shm``, as large as the container's memory; a runtime's default of 64 MiB is too small.

    Left out where the object store is elsewhere (``plasma-directory``) or the user mounts something there.
    """
    if "plasma-directory" in params:
        return
    container = pod_spec["containers"][0]
    resources = container.get("resources") or {}
    size = (resources.get("limits") or {}).get("memory") or (resources.get("requests") or {}).get("memory")
    source: dict[str, Any] = {"medium": "Memory"}
    if size is not None:
        source["sizeLimit"] = size
    _mount(pod_spec, container, SHARED_MEMORY, SHARED_MEMORY_PATH, source)


def add_shared_logs(pod_spec: dict[str, Any], sidecar: dict[str, Any], params: Mapping[str, str]) -> None:
    """Mount Ray's temp directory into the sidecar too: the head shows the autoscaler's events from its log files."""
    path = params.get("temp-dir", LOGS_PATH)
    for container in (pod_spec["containers"][0], sidecar):
        _mount(pod_spec, container, LOGS, path, {})


def _mount(pod_spec: dict[str, Any], container: dict[str, Any], name: str, path: str, source: dict[str, Any]) -> None:
    mounts = container.setdefault("volumeMounts", [])
    if any(mount.get("mountPath") == path for mount in mounts):
        return
    volumes = pod_spec.setdefault("volumes", [])
    if all(volume.get("name") != name for volume in volumes):
        volumes.append({"name": name, "emptyDir": source})
    mounts.append({"name": name, "mountPath": path})
