"""An upgrade in steps: capacity and requests move to a second cluster bit by bit, and back when it is given up."""

import pytest

from e2e.manifests import cluster_spec, rayservice, serve_config, with_env, with_usual_grace, worker_group
from e2e.rayservices import History, Service, role, watched
from e2e.support import Kube, LoadPod, Object, condition, get_json

pytestmark = pytest.mark.timeout(900)

HALVES: Object = {"maxSurgePercent": 50, "stepSizePercent": 50, "intervalSeconds": 5}
CONFIG = serve_config(num_replicas=2, ray_actor_options={"num_cpus": 0.5})


def in_steps(**options: int) -> Object:
    return {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": {**HALVES, **options}}


def applied(kube: Kube, namespace: str, name: str) -> tuple[Service, Object]:
    """A settled RayService with Ray's autoscaler, so that its clusters follow half of Serve's capacity."""
    spec = with_usual_grace(cluster_spec(worker_group(minimum=1, maximum=1), enableInTreeAutoscaling=True))
    fields: Object = {"upgradeStrategy": in_steps(), "rayClusterDeletionDelaySeconds": 5}
    kube.apply(rayservice(name, spec, CONFIG, **fields), namespace)
    service = Service(kube, namespace, name)
    service.wait_settled()
    return service, spec


def target_capacity(service: Service) -> float | None:
    """What Ray itself says, on the active cluster."""
    answer = get_json(service.kube, service.namespace, f"{service.name}-head-svc", "/api/serve/applications/", 8265)
    capacity: float | None = answer["target_capacity"]
    return capacity


def shares(history: History) -> list[tuple[int, int, int]]:
    """Capacity of both clusters and the new one's share of the requests, each time one of them changed."""
    found: list[tuple[int, int, int]] = []
    for state in history.states:
        status = state.get("status", {})
        active, pending = (status.get(f"{which}ServiceStatus") or {} for which in ("active", "pending"))
        if "targetCapacity" not in pending:
            continue
        now = (active["targetCapacity"], pending["targetCapacity"], pending["trafficRoutedPercent"])
        if not found or found[-1] != now:
            found.append(now)
    return found


def test_by_the_share_of_endpoints(kube: Kube, namespace: str) -> None:
    service, spec = applied(kube, namespace, "stepwise")
    old = service.active()
    with (
        watched(service) as history,
        LoadPod(kube, namespace, f"http://{service.name}-serve-svc:8000/", rate=20) as load,
    ):
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        new = service.wait(lambda: role(service.get(), "pending"), "the new cluster named")
        service.wait(lambda: {pod[: len(new)] for pod in service.endpoints()} == {old, new}, "both behind the service")
        service.wait(lambda: service.active() == new, "the new cluster active", timeout=300)
        service.wait_answer(lambda answer: answer["pod"].startswith(f"{new}-"), "an answer from new pods")
        report = load.report()
    assert not report.failures, str(report)
    assert report.answered == report.sent > 0
    assert shares(history) == [(100, 50, 0), (100, 50, 50), (50, 50, 50), (50, 100, 50), (50, 100, 100)]
    assert history.conditions("Ready") == [("True", "NonZeroServeEndpoints")]
    assert history.roles()[-2:] == [(old, new), (new, "")]

    service.wait_settled()
    assert target_capacity(service) is None
    assert "targetCapacity" not in service.status()["activeServiceStatus"]


def test_given_up_halfway_it_goes_back(kube: Kube, namespace: str) -> None:
    service, spec = applied(kube, namespace, "halfway")
    old = service.active()
    with LoadPod(kube, namespace, f"http://{service.name}-serve-svc:8000/", rate=20) as load:
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"), upgradeStrategy=in_steps(intervalSeconds=3600))

        def halfway() -> bool:
            return (service.status().get("pendingServiceStatus") or {}).get("trafficRoutedPercent") == 50

        service.wait(halfway, "half of the requests moved", timeout=300)
        service.patch(upgradeStrategy=in_steps())
        annotate(service, abort=service.status()["upgrade"]["to"])
        service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "UpgradeAborted", "given up")
        service.wait(lambda: role(service.get(), "pending") == "", "only the old cluster has a role")
        report = load.report()
    assert not report.failures, str(report)
    assert service.active() == old
    assert "ray.io/abort" in condition(service.get(), "Stalled")["message"]
    service.wait(lambda: target_capacity(service) is None, "all of the old cluster's capacity back")


def annotate(service: Service, **annotations: str) -> None:
    """``kubectl annotate`` with keys under ``ray.io/``."""
    patch = {"metadata": {"annotations": {f"ray.io/{key}": value for key, value in annotations.items()}}}
    service.kube.patch("rayservice", service.namespace, service.name, patch)
