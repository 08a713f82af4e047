"""One RayService under test: what it says of itself, what the cluster says of it, and waiting for either."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import urllib3
from kubernetes import watch

from e2e.support import (
    GROUP,
    RAYSERVICES,
    VERSION,
    Kube,
    Object,
    account,
    get_json,
    is_true,
    pod_ready,
    wait_for,
    wait_ready,
)

T = TypeVar("T")
_WATCH_SECONDS = 60


def named(objects: list[Object]) -> set[str]:
    """Names of objects."""
    return {str(obj["metadata"]["name"]) for obj in objects}


def identity(pods: list[Object]) -> dict[str, tuple[str, int]]:
    """UID and number of container restarts of each pod by name; the same later means that nothing has restarted."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])),
        )
        for pod in pods
    }


def ray_pods(kube: Kube, namespace: str, selector: str = "ray.io/is-ray-node=yes") -> list[Object]:
    """Ray pods that are not on their way out, oldest first."""
    pods = [pod for pod in kube.pods(namespace, selector) if "deletionTimestamp" not in pod["metadata"]]
    return sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


@dataclass(frozen=True)
class Service:
    """A RayService by name, with the questions that tests have."""

    kube: Kube
    namespace: str
    name: str

    def get(self) -> Object:
        return self.kube.rayservice(self.namespace, self.name)

    def status(self) -> Object:
        status: Object = self.get().get("status", {})
        return status

    def active(self) -> str:
        """Name of the RayCluster that serves; empty when there is none."""
        return role(self.get(), "active")

    def patch(self, **spec: Any) -> None:
        """Merge into the spec."""
        self.kube.patch("rayservice", self.namespace, self.name, {"spec": spec})

    def annotate(self, **annotations: str | None) -> None:
        """Annotations ``ray.io/<key>``; None removes one."""
        keys = {f"ray.io/{key}": value for key, value in annotations.items()}
        self.kube.patch("rayservice", self.namespace, self.name, {"metadata": {"annotations": keys}})

    def head(self) -> Object:
        """The one head pod of the active cluster."""
        (head,) = self.heads()
        return head

    def heads(self) -> list[Object]:
        """Head pods of the active cluster: none or one, if all is well."""
        return ray_pods(self.kube, self.namespace, f"ray.io/cluster={self.active()},ray.io/node-type=head")

    def has_new_head(self, old: Object) -> bool:
        """Whether there is a head pod that is not this one."""
        return any(head["metadata"]["uid"] != old["metadata"]["uid"] for head in self.heads())

    def workers(self) -> list[Object]:
        """Worker pods of the active cluster, oldest first."""
        return ray_pods(self.kube, self.namespace, f"ray.io/cluster={self.active()},ray.io/node-type=worker")

    def ready_workers(self) -> set[str]:
        return named([pod for pod in self.workers() if pod_ready(pod)])

    def endpoints(self) -> set[str]:
        """Names of the ready pods behind the serve service, from its EndpointSlices."""
        slices = self.kube.discovery.list_namespaced_endpoint_slice(
            self.namespace, label_selector=f"kubernetes.io/service-name={self.name}-serve-svc"
        )
        found = set()
        for item in self.kube.plain(slices)["items"]:
            for endpoint in item.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready"):
                    found.add(str(endpoint["targetRef"]["name"]))
        return found

    def revisions(self) -> set[str]:
        """Names of the ControllerRevisions of the service."""
        selector = f"ray.io/originated-from-cr-name={self.name}"
        listed = self.kube.target.kubectl(
            "get", "controllerrevision", "-n", self.namespace, "-l", selector, "-o", "name"
        )
        return set(listed.split())

    def answer(self, path: str = "/") -> Object:
        """One request to the serve service."""
        return get_json(self.kube, self.namespace, f"{self.name}-serve-svc", path)

    def wait(self, probe: Callable[[], T], what: str, *, timeout: float = 180) -> T:
        """Wait for ``probe`` to return something true; a time-out tells all there is to see in the namespace."""
        return wait_for(
            probe, timeout=timeout, what=what, describe=lambda: account(self.kube, self.namespace, self.name)
        )

    def wait_ready(self, *, timeout: float = 300) -> Object:
        return wait_ready(self.kube, self.namespace, self.name, timeout)

    def wait_settled(self, *, timeout: float = 300) -> Object:
        """Ready at the newest generation, and nothing left to do."""

        def settled() -> bool:
            service = self.get()
            status = service.get("status", {})
            current = status.get("observedGeneration") == service["metadata"]["generation"]
            return current and is_true(service, "Ready") and not role(service, "pending") and not self._moving(service)

        self.wait(settled, f"RayService {self.name} settled", timeout=timeout)
        return self.get()

    def _moving(self, service: Object) -> bool:
        return any(is_true(service, kind) for kind in ("Reconciling", "Stalled", "UpgradeInProgress"))

    def wait_answer(self, wanted: Callable[[Object], bool], what: str, *, timeout: float = 120) -> Object:
        """Wait for an answer of that kind, and return it."""

        def probe() -> Object | None:
            answer = self.answer()
            return answer if wanted(answer) else None

        found = self.wait(probe, what, timeout=timeout)
        assert found is not None
        return found

    def events(self, reason: str) -> list[Object]:
        """Events of the RayService itself with that reason."""
        return [event for event in self.kube.events(self.namespace, self.name) if event.get("reason") == reason]


def role(service: Object, name: str) -> str:
    """Name of the RayCluster in the role ``active`` or ``pending``; empty when there is none."""
    entry: Object = service.get("status", {}).get(f"{name}ServiceStatus") or {}
    return str(entry.get("rayClusterName") or "")


@dataclass
class History:
    """Every state that a RayService went through while it was watched, oldest first; ``seen`` is when, as Unix time."""

    states: list[Object] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    def roles(self) -> list[tuple[str, str]]:
        """Active and pending cluster after each write that changed one of them."""
        found: list[tuple[str, str]] = []
        for state in self.states:
            pair = (role(state, "active"), role(state, "pending"))
            if not found or found[-1] != pair:
                found.append(pair)
        return found

    def conditions(self, kind: str) -> list[tuple[str, str]]:
        """Status and reason of a condition after each write that changed one of them."""
        found: list[tuple[str, str]] = []
        for state in self.states:
            for condition in state.get("status", {}).get("conditions", []):
                pair = (condition["status"], condition["reason"])
                if condition["type"] == kind and (not found or found[-1] != pair):
                    found.append(pair)
        return found


@contextmanager
def watched(service: Service) -> Iterator[History]:
    """Collect every write to the object for the length of the block. The API server leaves none out of a watch."""
    history = History([service.get()], [time.time()])
    ended = threading.Event()

    def collect() -> None:
        while not ended.is_set():
            # A connection that breaks is taken up again after the last state seen.
            with suppress(urllib3.exceptions.HTTPError):
                for event in watch.Watch().stream(  # type: ignore[no-untyped-call]
                    service.kube.custom.list_namespaced_custom_object,
                    GROUP,
                    VERSION,
                    service.namespace,
                    RAYSERVICES,
                    field_selector=f"metadata.name={service.name}",
                    resource_version=history.states[-1]["metadata"]["resourceVersion"],
                    timeout_seconds=_WATCH_SECONDS,
                ):
                    history.states.append(event["object"])
                    history.seen.append(time.time())
                    if ended.is_set():
                        break

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    try:
        yield history
    finally:
        ended.set()
        # One more write ends the watch at once, and shows that all before it were seen.
        seen = {"metadata": {"labels": {"e2e": f"seen-{secrets.token_hex(4)}"}}}
        service.kube.patch("rayservice", service.namespace, service.name, seen)
        thread.join(timeout=_WATCH_SECONDS)
