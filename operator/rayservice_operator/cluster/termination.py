"""What happens when a RayCluster is deleted: with Redis as the GCS' storage its keys are removed first.

Everything else is the garbage collector's work, through owner references. The finalizer is KubeRay's, so that
clusters which it began to delete are finished here, and the other way round.

Deleted in the foreground (Argo CD's default, ``kubectl delete --cascade=foreground``) a cluster may lose whatever it
owns, also the Job that is made for the cleanup. So, once the pods are gone, the rest is done in the background.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.cluster import children, gcs
from rayservice_operator.cluster.pod import build_head
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.cluster.view import ClusterView, view_of
from rayservice_operator.core.decision import Create, Decision, Delete, JsonPatch, Level, Note
from rayservice_operator.core.objects import Manifest, metadata, owner_reference, ref
from rayservice_operator.core.timestamps import from_rfc3339

DEFAULT_TIMEOUT_S: Final = 300.0
"""How long deletion may wait for the cleanup (annotation ``ray.io/gcs-ft-deletion-timeout``)."""

FOREGROUND: Final = "foregroundDeletion"
"""The garbage collector's finalizer on what waits for all that it owns to go."""

# Ray's own function removes every key under the namespace, in cluster mode too. Older Ray knows no user name.
SCRIPT: Final = """\
import inspect, os, sys
from urllib.parse import urlsplit
from ray._private.gcs_utils import cleanup_redis_storage
address = os.environ["RAY_REDIS_ADDRESS"].split(",")[0]
url = urlsplit(address if "://" in address else "redis://" + address)
options = {
    "host": url.hostname,
    "port": url.port or 6379,
    "password": os.environ.get("REDIS_PASSWORD") or url.password or "",
    "use_ssl": url.scheme == "rediss",
    "storage_namespace": os.environ["RAY_external_storage_namespace"],
    "username": os.environ.get("REDIS_USERNAME") or url.username or "",
}
known = inspect.signature(cleanup_redis_storage).parameters
sys.exit(0 if cleanup_redis_storage(**{k: v for k, v in options.items() if k in known}) else 1)
"""


def holds(cluster: Manifest) -> bool:
    """Whether the cleanup finalizer is set."""
    return names.REDIS_CLEANUP_FINALIZER in (metadata(cluster).get("finalizers") or ())


def _in_background(cluster: Manifest) -> JsonPatch | None:
    """The patch that takes the finalizer of a foreground deletion away; None where there is none."""
    finalizers: Sequence[str] = metadata(cluster).get("finalizers") or ()
    return _without(cluster, FOREGROUND) if FOREGROUND in finalizers else None


def add_finalizer(cluster: Manifest) -> JsonPatch | None:
    """The patch that sets the finalizer; None when it is set. Fails rather than lose another writer's entry."""
    if holds(cluster):
        return None
    meta = metadata(cluster)
    ours = names.REDIS_CLEANUP_FINALIZER
    operation: dict[str, Any] = (
        {"op": "add", "path": "/metadata/finalizers/-", "value": ours}
        if meta.get("finalizers")
        else {"op": "add", "path": "/metadata/finalizers", "value": [ours]}
    )
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.get("resourceVersion")}
    return JsonPatch(ref(cluster), (test, operation))


def _without(cluster: Manifest, finalizer: str) -> JsonPatch:
    """The patch that takes a finalizer away, if it is still where it was seen."""
    path = f"/metadata/finalizers/{metadata(cluster)['finalizers'].index(finalizer)}"
    test = {"op": "test", "path": path, "value": finalizer}
    return JsonPatch(ref(cluster), (test, {"op": "remove", "path": path}))


def decide_terminating(snapshot: ClusterSnapshot, now: float) -> Decision:
    """One pass over a RayCluster that is being deleted: pods away, keys out of Redis, finalizer off."""
    cluster = snapshot.cluster
    if not holds(cluster):
        return Decision()
    done = _without(cluster, names.REDIS_CLEANUP_FINALIZER)
    try:
        view = view_of(cluster, snapshot.config)
    except SpecError as error:
        return Decision((done,), notes=(_gave_up(f"the spec cannot be read: {error}"),))
    if gcs.fault_tolerance(view) is not gcs.FaultTolerance.REDIS:
        return Decision((done,))

    deadline = (from_rfc3339(metadata(cluster).get("deletionTimestamp")) or now) + timeout(view)
    if now >= deadline:
        return Decision((done,), notes=(_gave_up("it did not end in time"),))
    pods = [PodView(pod) for pod in snapshot.pods]
    if pods:  # a GCS that runs would write its keys again
        deletions = tuple(Delete(pod.ref) for pod in pods if not pod.terminating)
        return Decision(deletions, wake_at=deadline)
    if background := _in_background(cluster):
        return Decision((background,), wake_at=deadline)
    job = children.find(snapshot.children, "Job", job_name(view))
    if job is None:
        note = Note("CreatedRedisCleanupJob", f"Removing the cluster's keys from Redis with Job {job_name(view)}")
        return Decision((Create(build_job(view)),), notes=(note,), wake_at=deadline)
    conditions: Sequence[Mapping[str, Any]] = (job.get("status") or {}).get("conditions") or ()
    ended = {condition.get("type") for condition in conditions if condition.get("status") == "True"}
    if "Complete" in ended:
        return Decision((done,))
    if "Failed" in ended:
        return Decision((done,), notes=(_gave_up(f"Job {job_name(view)} failed"),))
    return Decision(wake_at=deadline)


def timeout(view: ClusterView) -> float:
    """Seconds that deletion may wait for the cleanup."""
    text = view.annotations.get(names.FT_DELETION_TIMEOUT, "")
    return float(text) if text.isdigit() and int(text) > 0 else DEFAULT_TIMEOUT_S


def job_name(view: ClusterView) -> str:
    """Name of the cleanup Job, held to the 63 characters of a label value."""
    return f"{view.name[:49]}-{names.REDIS_CLEANUP}"


def build_job(view: ClusterView) -> Manifest:
    """The cleanup Job: the head's own container with its environment and mounts, running only the cleanup."""
    head = build_head(view, slot=0)
    spec: dict[str, Any] = copy.deepcopy(head["spec"])
    ray = spec["containers"][0]
    for field in ("lifecycle", "ports", "startupProbe", "livenessProbe", "readinessProbe", "resizePolicy"):
        ray.pop(field, None)
    shell = ["/bin/bash", "-lc" if view.config.login_shell else "-c", "--"]
    ray["command"] = [*shell, 'exec python -c "$0"', SCRIPT]
    ray.pop("args", None)
    ray["resources"] = {
        "requests": {"cpu": "200m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},  # importing Ray alone takes more than 200 MiB
    }
    spec["containers"] = [ray]
    spec["restartPolicy"] = "Never"
    for field in ("initContainers", "resourceClaims", "schedulingGates"):
        spec.pop(field, None)
    labels = {
        names.CLUSTER: view.name,
        names.NODE_TYPE: names.REDIS_CLEANUP,
        names.APP_NAME: names.APP_NAME_VALUE,
        names.CREATED_BY: names.CREATED_BY_VALUE,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(view),
            "namespace": view.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(view.obj)],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(timeout(view)),
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _gave_up(why: str) -> Note:
    message = f"Keys of this cluster may be left in Redis, because {why}"
    return Note("RedisCleanupFailed", message, Level.WARNING)
