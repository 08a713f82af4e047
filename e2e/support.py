"""Helpers of the end-to-end tests: waiting with a full account on failure, requests, pods, load from inside."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from e2e import deploy
from e2e.cluster import Kind, Target
from e2e.images import full_name
from e2e.load import Report
from e2e.localkube.errors import LocalKubeError

GROUP, VERSION = "ray.io", "v1"
RAYSERVICES, RAYCLUSTERS = "rayservices", "rayclusters"
_POLL_SECONDS = 0.25
_HTTP_SECONDS = 10.0

Object = dict[str, Any]
T = TypeVar("T")


class Kube:
    """The official client's APIs on one connection, and the ray.io objects as plain dicts."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.api: client.ApiClient = config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(target.kubeconfig)
        )
        self.core = client.CoreV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)
        self.discovery = client.DiscoveryV1Api(self.api)

    # Everything below takes and returns plain dicts, as in manifests.

    def apply(self, manifest: Object | str | Path, namespace: str) -> str:
        """``kubectl apply`` a manifest: a dict, YAML text or a file."""
        if isinstance(manifest, Path):
            return self.target.kubectl("apply", "-n", namespace, "-f", str(manifest))
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        return self.target.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)

    def let_bad_manifests_in(self, namespace: str) -> None:
        """From now on the admission webhook does not look at this namespace."""
        self.core.patch_namespace(namespace, {"metadata": {"labels": {deploy.UNCHECKED: "true"}}})

    def rayservice(self, namespace: str, name: str) -> Object:
        return self._get(RAYSERVICES, namespace, name)

    def raycluster(self, namespace: str, name: str) -> Object:
        return self._get(RAYCLUSTERS, namespace, name)

    def rayclusters(self, namespace: str) -> list[Object]:
        return self._list(RAYCLUSTERS, namespace)

    def rayservices(self, namespace: str) -> list[Object]:
        return self._list(RAYSERVICES, namespace)

    def _list(self, plural: str, namespace: str) -> list[Object]:
        listed = cast("Object", self.custom.list_namespaced_custom_object(GROUP, VERSION, namespace, plural))
        return list(listed["items"])

    def _get(self, plural: str, namespace: str, name: str) -> Object:
        return cast("Object", self.custom.get_namespaced_custom_object(GROUP, VERSION, namespace, plural, name))

    def patch(self, kind: str, namespace: str, name: str, patch: Object) -> str:
        """A JSON merge patch: ``patch("rayservice", ns, name, {"spec": {"suspend": True}})``."""
        args = ("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))
        return self.target.kubectl(*args)

    def delete(self, kind: str, namespace: str, name: str, *, wait: bool = False, cascade: str = "background") -> str:
        options = (f"--wait={str(wait).lower()}", f"--cascade={cascade}")
        return self.target.kubectl("delete", kind, name, "-n", namespace, *options)

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        listed = self.core.list_namespaced_pod(namespace, label_selector=selector)
        return list(self.plain(listed)["items"])

    def service(self, namespace: str, name: str) -> Object:
        return self.plain(self.core.read_namespaced_service(name, namespace))

    def pod(self, namespace: str, name: str) -> Object:
        return self.plain(self.core.read_namespaced_pod(name, namespace))

    def plain(self, model: object) -> Object:
        """A model of the client as the dict that it is on the wire."""
        return cast("Object", self.api.sanitize_for_serialization(model))  # type: ignore[no-untyped-call]

    def events(self, namespace: str, name: str = "") -> list[Object]:
        """Events of a namespace, or of the objects of one name, oldest first."""
        fields = f"involvedObject.name={name}" if name else ""
        listed = self.core.list_namespaced_event(namespace, field_selector=fields)
        return sorted(
            self.plain(listed)["items"], key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""
        )

    def exec(self, namespace: str, pod: str, *command: str, container: str = "") -> str:
        """Run a command in a pod and return its stdout."""
        where = ["-c", container] if container else []
        return self.target.kubectl("exec", "-n", namespace, pod, *where, "--", *command)

    def logs(self, namespace: str, pod: str, *args: str) -> str:
        return self.target.kubectl("logs", "-n", namespace, pod, *args)

    def delete_pod(self, namespace: str, name: str, *, grace_seconds: int | None = None) -> None:
        self.core.delete_namespaced_pod(name, namespace, grace_period_seconds=grace_seconds)

    def advertise(self, resource: str, count: int | None) -> None:
        """Make every node say that it has so many of a resource, such as GPUs that are not there; None ends it."""
        amount = None if count is None else str(count)
        patch = json.dumps({"status": {"capacity": {resource: amount}, "allocatable": {resource: amount}}})
        for node in self.plain(self.core.list_node())["items"]:
            name: str = node["metadata"]["name"]
            self.target.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)


# -- conditions and waiting


def condition(obj: Object, kind: str) -> Object:
    """A condition of an object's status by type; empty when it has none."""
    conditions = obj.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def is_true(obj: Object, kind: str) -> bool:
    return bool(condition(obj, kind).get("status") == "True")


def pod_ready(pod: Object) -> bool:
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


def is_ready(kube: Kube, namespace: str, name: str) -> Callable[[], bool]:
    """Whether a RayService is Ready, said of its newest generation."""

    def ready() -> bool:
        service = kube.rayservice(namespace, name)
        current = service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
        return current and is_true(service, "Ready")

    return ready


class WaitTimeoutError(AssertionError):
    """A condition did not come true; the message holds all that may tell why."""


def wait_for(
    probe: Callable[[], T],
    *,
    timeout: float,
    what: str,
    describe: Callable[[], str] | None = None,
    interval: float = _POLL_SECONDS,
) -> T:
    """Call ``probe`` until it returns something true, and return that.

    An object that is not there yet, a refused connection or an answer that is no 2xx count as "not yet". On a time-out
    ``describe`` (usually ``lambda: account(kube, namespace, name)``) is asked what there is to see.
    """
    deadline = time.monotonic() + timeout
    last = "never true"
    while True:
        try:
            if value := probe():
                return value
            last = f"last value: {value!r}"
        except ApiException as error:
            last = f"{error.status} {error.reason}"
            if error.status not in {404, 409, 429, 500, 503}:
                raise
        except (OSError, LocalKubeError) as error:
            last = str(error)
        if time.monotonic() > deadline:
            seen = f"\n{describe()}" if describe else ""
            msg = f"{what}: not so after {timeout:.0f} s ({last}){seen}"
            raise WaitTimeoutError(msg)
        time.sleep(interval)


def wait_ready(kube: Kube, namespace: str, name: str, timeout: float = 180) -> Object:
    """Wait for a RayService to be Ready at its newest generation, and return it."""
    what = f"RayService {namespace}/{name} Ready"
    wait_for(
        is_ready(kube, namespace, name), timeout=timeout, what=what, describe=lambda: account(kube, namespace, name)
    )
    return kube.rayservice(namespace, name)


def account(kube: Kube, namespace: str, name: str = "") -> str:
    """All that may tell why something is not as it should: objects, conditions, pods, events, the operator's log."""
    parts = []
    for listing in (kube.rayservices, kube.rayclusters):
        try:
            parts += [_object(item) for item in listing(namespace)]
        except ApiException as error:
            parts.append(f"{error.status} {error.reason}")
    with suppress(LocalKubeError):  # without the Gateway API there are no such kinds
        routes = kube.target.kubectl("get", "gateway,httproute", "-n", namespace, "-o", "yaml")
        parts += [routes] if "kind: Gateway" in routes else []
    parts.append("pods:\n" + "\n".join(_pod(pod) for pod in kube.pods(namespace)))
    lines = [
        f"  {event.get('lastTimestamp') or event.get('eventTime')} {event['involvedObject'].get('kind')}/"
        f"{event['involvedObject'].get('name')} {event.get('reason')}: {event.get('message', '')[:300]}"
        for event in kube.events(namespace)[-40:]
    ]
    parts.append("events:\n" + "\n".join(lines))
    if name:
        parts.append(f"(looked for {name})")
    parts.append(deploy.diagnose(kube.target))
    return "\n\n".join(parts)


def _object(item: Object) -> str:
    meta, status = item["metadata"], dict(item.get("status", {}))
    conditions = status.pop("conditions", [])
    lines = [f"{item['kind']} {meta['name']} generation {meta.get('generation')}:"]
    lines += [f"  {c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}" for c in conditions]
    lines.append("  " + yaml.safe_dump(status, sort_keys=False).replace("\n", "\n  ")[:3000])
    return "\n".join(lines)


def _pod(pod: Object) -> str:
    statuses = pod["status"].get("containerStatuses", [])
    ready = sum(status["ready"] for status in statuses)
    restarts = sum(status["restartCount"] for status in statuses)
    reasons = [state.get("reason", "") for status in statuses for state in status.get("state", {}).values() if state]
    going = " terminating" if "deletionTimestamp" in pod["metadata"] else ""
    phase = pod["status"].get("phase")
    return f"  {pod['metadata']['name']} {phase} {ready}/{len(statuses)} restarts {restarts} {reasons}{going}"


# -- requests


def service_url(kube: Kube, namespace: str, service: str, port: int = 8000) -> str:
    """The URL of a service by its cluster address, which answers on the host of the local cluster. Not for load."""
    return f"http://{kube.service(namespace, service)['spec']['clusterIP']}:{port}"


def http_get(kube: Kube, namespace: str, service: str, path: str = "/", port: int = 8000) -> str:
    """GET from a service and return the body of a 2xx; anything else raises LocalKubeError or OSError."""
    if kube.target.kind is not Kind.LOCAL:
        return kube.target.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{path}"
        )
    url = service_url(kube, namespace, service, port) + path
    try:
        with urllib.request.urlopen(url, timeout=_HTTP_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        msg = f"HTTP {error.code} from {url}: {error.read()[:300]!r}"
        raise LocalKubeError(msg) from error


def get_json(kube: Kube, namespace: str, service: str, path: str = "/", port: int = 8000) -> Object:
    body: Object = json.loads(http_get(kube, namespace, service, path, port))
    return body


# -- load from inside the cluster


@dataclass
class LoadPod:
    """``e2e/load.py`` in a pod: ``with LoadPod(kube, ns, "http://svc:8000/", rate=20) as load: …; load.report()``."""

    kube: Kube
    namespace: str
    url: str
    rate: float = 20.0
    seconds: float = 600.0
    keep_alive: bool = False
    name: str = "load"
    times: bool = False

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("load.py").read_text()
        self.kube.apply(_config_map(self.name, script), self.namespace)
        self.kube.apply(self._pod(), self.namespace)
        running = lambda: self._phase() in {"Running", "Succeeded", "Failed"}  # noqa: E731
        wait_for(running, timeout=60, what="load pod running", describe=lambda: account(self.kube, self.namespace))
        return self

    def __exit__(self, *_: object) -> None:
        self.kube.delete("pod,configmap", self.namespace, self.name)

    def report(self, timeout: float = 60) -> Report:
        """End the load and return what became of its requests."""
        if self._phase() == "Running":
            self.kube.exec(self.namespace, self.name, "bash", "-c", "kill -TERM 1")
        done = lambda: self._phase() in {"Succeeded", "Failed"}  # noqa: E731
        wait_for(done, timeout=timeout, what="load pod done", describe=lambda: account(self.kube, self.namespace))
        return Report.from_json(self.kube.logs(self.namespace, self.name).splitlines()[-1])

    def _phase(self) -> str:
        return str(self.kube.pod(self.namespace, self.name)["status"].get("phase"))

    def _pod(self) -> Object:
        words = ["python", "/load/load.py", "--url", self.url, "--rate", str(self.rate), "--seconds", str(self.seconds)]
        words += [*(["--keep-alive"] if self.keep_alive else []), *(["--times"] if self.times else [])]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [
                    {
                        "name": "load",
                        "image": full_name("runtime"),
                        "imagePullPolicy": "IfNotPresent",
                        "command": words,
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
                    }
                ],
                "volumes": [{"name": "load", "configMap": {"name": self.name}}],
            },
        }


def _config_map(name: str, script: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"load.py": script}}
