"""NewClusterWithIncrementalUpgrade: capacity and requests move to a second cluster in steps, and nobody notices."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.gateway import GatewayClass
from e2e.load import Report
from e2e.manifests import cluster_spec, rayservice, serve_config, with_env, with_usual_grace, worker_group
from e2e.rayservices import History, Service, ray_pods, watched
from e2e.support import Kube, LoadPod, Object, condition, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "gradual"
SURGE, STEP, INTERVAL_SECONDS = 50, 25, 8
ABORT = "ray.io/abort"

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

# A gateway takes up a change up to two seconds after it has said that it knows it (docs/testing.md).
_LAG_SECONDS = 4.0
_REPLICAS = 2
_SPEC = with_usual_grace(
    cluster_spec(
        worker_group(minimum=0, maximum=2),
        enableInTreeAutoscaling=True,
        autoscalerOptions={"idleTimeoutSeconds": 60, "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
    )
)


def test_by_endpoints(kube: Kube, namespace: str) -> None:
    """Without a gateway: connections that are opened go to as many endpoints of each cluster as the share allows."""
    service = _served(kube, namespace)
    with _under_load(service, f"http://{NAME}-serve-svc:8000/") as seen:
        new = _upgrade(service)
    _nobody_noticed(seen)
    assert _steps(seen.history) == STEPS
    _settled_at(service, new)


@pytest.fixture(scope="module")
def service(kube: Kube, gateway_class: GatewayClass, module_namespace: str) -> Service:
    """Serves, and answers through its Gateway."""
    return _served(kube, module_namespace, gatewayClassName=gateway_class.name)


def _served(kube: Kube, namespace: str, **options: Any) -> Service:
    options |= {"maxSurgePercent": SURGE, "stepSizePercent": STEP, "intervalSeconds": INTERVAL_SECONDS}
    strategy = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}
    config = serve_config(num_replicas=_REPLICAS)
    kube.apply(rayservice(NAME, _SPEC, config, upgradeStrategy=strategy, rayClusterDeletionDelaySeconds=10), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    return service


def test_by_gateway(service: Service, gateway_class: GatewayClass) -> None:
    with _under_load(service, _gateway_url(service, gateway_class)) as seen:
        new = _upgrade(service)
    _nobody_noticed(seen)
    assert _steps(seen.history) == STEPS
    _requests_followed(seen, new)
    _settled_at(service, new)
    assert _weights(service, gateway_class) == {f"{new}-serve-svc": 100}


def test_abort_goes_back(service: Service, gateway_class: GatewayClass) -> None:
    old = service.active()
    with _under_load(service, _gateway_url(service, gateway_class)) as seen:
        service.patch(rayClusterConfig=with_env(_SPEC, "RELEASE", "3"))
        service.wait(lambda: _share(service.get()) >= 50, "half of the requests moved", timeout=400)
        new = service.status()["upgrade"]["to"]
        annotations = {"metadata": {"annotations": {ABORT: new}}}
        service.kube.patch("rayservice", service.namespace, NAME, annotations)
        service.wait(lambda: _clusters(service) == {old}, "the new cluster gone", timeout=300)
    _nobody_noticed(seen)

    shares = [share for _, _, share in _steps(seen.history)]
    assert max(shares) < 100
    assert shares[-1] == 0
    _requests_followed(seen, new)
    assert condition(service.get(), "Stalled")["reason"] == "UpgradeAborted"
    assert is_true(service.get(), "Ready")
    assert service.active() == old
    assert _capacity(service) is None
    assert _weights(service, gateway_class) == {f"{old}-serve-svc": 100}


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

    def times(self) -> list[tuple[float, str]]:
        """When each answer came, and from which pod."""
        return sorted(
            (at, json.loads(body)["pod"])
            for report in self.reports
            for body, times in report.times.items()
            for at in times
        )


@contextmanager
def _under_load(service: Service, url: str) -> Iterator[Seen]:
    """20 requests a second on new connections, and 20 on kept-alive ones."""
    kube, namespace = service.kube, service.namespace
    with (
        watched(service) as history,
        LoadPod(kube, namespace, url, rate=20, times=True) as fresh,
        LoadPod(kube, namespace, url, rate=20, keep_alive=True, times=True, name="load-kept-alive") as kept_alive,
    ):
        seen = Seen(history)
        yield seen
        seen.reports = [fresh.report(), kept_alive.report()]


def _gateway_url(service: Service, gateway_class: GatewayClass) -> str:
    gateway = f"{NAME}-gateway"
    return service.wait(lambda: gateway_class.url(service.namespace, gateway), "the Gateway's address")


def _nobody_noticed(seen: Seen) -> None:
    for report in seen.reports:
        print(report)
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0
    assert [status for status, _ in seen.history.conditions("Ready")] == ["True"]


def _requests_followed(seen: Seen, new: str) -> None:
    """Between two steps the answers came from the new cluster's pods in about the share that the status told."""
    times = seen.times()
    states, ends = seen.history.states, [*seen.history.seen[1:], times[-1][0]]
    moments: list[tuple[int, float, float]] = []  # share, from, to
    for state, begin, end in zip(states, seen.history.seen, ends, strict=True):
        same = bool(moments) and moments[-1][0] == _share(state)
        moments.append((_share(state), moments.pop()[1] if same else begin, end))
    looked_at = 0
    for share, begin, end in moments:
        pods = [pod for at, pod in times if begin + _LAG_SECONDS <= at <= end]
        if share >= 0 and len(pods) >= 40:
            looked_at += 1
            found = 100 * sum(pod.startswith(f"{new}-") for pod in pods) / len(pods)
            assert abs(found - share) <= 10, f"{share} % told, {found:.0f} % seen in {end - begin:.1f} s"
    assert looked_at >= 3, f"steps were seen: {moments}"


# -- what the objects say


def _share(state: Object) -> int:
    """The pending cluster's share of the requests, told in the status; -1 while none is being moved."""
    pending: Object = state.get("status", {}).get("pendingServiceStatus") or {}
    return int(pending.get("trafficRoutedPercent", -1))


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


def _weights(service: Service, gateway_class: GatewayClass) -> dict[str, int]:
    """Weights of the services that the HTTPRoute sends requests to."""
    (rule,) = gateway_class.route(service.namespace, f"{NAME}-httproute")["spec"]["rules"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"] if ref["weight"]}
