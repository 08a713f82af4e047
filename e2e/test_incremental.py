"""NewClusterWithIncrementalUpgrade: capacity and requests move to a second cluster in steps, and nobody notices."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.load import Report
from e2e.manifests import cluster_spec, rayservice, serve_config, with_env, with_usual_grace, worker_group
from e2e.rayservices import History, Service, ray_pods, watched
from e2e.support import Kube, LoadPod, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "gradual"
SURGE, STEP, INTERVAL_SECONDS = 50, 25, 5

# Capacity of the old and the new cluster, and the new one's share of the requests, in percent.
STEPS = [
    (100, 50, 0),
    (100, 50, 25),
    (100, 50, 50),
    (50, 50, 50),
    (50, 100, 50),
    (50, 100, 75),
    (50, 100, 100),
]

_REPLICAS = 2
_SPEC = with_usual_grace(
    cluster_spec(
        worker_group(minimum=0, maximum=2),
        enableInTreeAutoscaling=True,
        autoscalerOptions={"idleTimeoutSeconds": 60, "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
    )
)


def _served(kube: Kube, namespace: str, **options: Any) -> Service:
    options |= {"maxSurgePercent": SURGE, "stepSizePercent": STEP, "intervalSeconds": INTERVAL_SECONDS}
    strategy = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}
    config = serve_config(num_replicas=_REPLICAS)
    kube.apply(rayservice(NAME, _SPEC, config, upgradeStrategy=strategy, rayClusterDeletionDelaySeconds=10), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    return service


def test_by_endpoints(kube: Kube, namespace: str) -> None:
    """Without a gateway: connections that are opened go to as many endpoints of each cluster as the share allows."""
    service = _served(kube, namespace)
    with _under_load(service, f"http://{NAME}-serve-svc:8000/") as seen:
        new = _upgrade(service)
    _nobody_noticed(seen)
    assert _steps(seen.history) == STEPS
    _settled_at(service, new)


def _upgrade(service: Service) -> str:
    """Change the spec; returns the name of the new cluster once it is active and the old one is gone."""
    old = service.active()
    service.patch(rayClusterConfig=with_env(_SPEC, "RELEASE", "2"))
    service.wait(lambda: service.active() not in {"", old}, "the new cluster active", timeout=400)
    service.wait(lambda: _clusters(service) == {service.active()}, "the old cluster gone")
    pods_go = lambda: not ray_pods(service.kube, service.namespace, f"ray.io/cluster={old}")  # noqa: E731
    service.wait(pods_go, "its pods gone or on their way")
    return service.active()


def _settled_at(service: Service, cluster: str) -> None:
    """It has all requests and the whole capacity, which Ray is not limited in any more."""
    obj = service.wait_settled()
    assert is_true(obj, "Ready")
    assert service.active() == cluster
    assert "targetCapacity" not in obj["status"]["activeServiceStatus"]
    assert _capacity(service) is None
    assert service.answer()["pod"].startswith(f"{cluster}-"), "the serve service leads there"


# -- load


@dataclass
class Seen:
    """What an upgrade was like for those who send requests, and for those who watch the RayService."""

    history: History
    reports: list[Report] = field(default_factory=list)


@contextmanager
def _under_load(service: Service, url: str) -> Iterator[Seen]:
    """20 requests a second on new connections, and 20 on kept-alive ones."""
    kube, namespace = service.kube, service.namespace
    with (
        watched(service) as history,
        LoadPod(kube, namespace, url, rate=20) as fresh,
        LoadPod(kube, namespace, url, rate=20, keep_alive=True, name="load-kept-alive") as kept_alive,
    ):
        seen = Seen(history)
        yield seen
        seen.reports = [fresh.report(), kept_alive.report()]


def _nobody_noticed(seen: Seen) -> None:
    for report in seen.reports:
        print(report)
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0
    assert [status for status, _ in seen.history.conditions("Ready")] == ["True"]


# -- what the objects say


def _steps(history: History) -> list[tuple[int, int, int]]:
    """Capacity of the active and of the pending cluster, and the pending one's share of the requests, as they came."""
    found: list[tuple[int, int, int]] = []
    for state in history.states:
        status = state.get("status", {})
        active, pending = status.get("activeServiceStatus") or {}, status.get("pendingServiceStatus") or {}
        if "trafficRoutedPercent" in pending:
            assert active["trafficRoutedPercent"] + pending["trafficRoutedPercent"] == 100
            step = (active["targetCapacity"], pending["targetCapacity"], pending["trafficRoutedPercent"])
            if not found or found[-1] != step:
                found.append(step)
    return found


def _clusters(service: Service) -> set[str]:
    return {cluster["metadata"]["name"] for cluster in service.kube.rayclusters(service.namespace)}


def _capacity(service: Service) -> float | None:
    """Serve's target capacity, asked from Ray."""
    head = service.head()["metadata"]["name"]
    url = "http://127.0.0.1:8265/api/serve/applications/"
    answer = service.kube.exec(service.namespace, head, "wget", "-q", "-O", "-", url, container="ray-head")
    capacity: float | None = json.loads(answer)["target_capacity"]
    return capacity
