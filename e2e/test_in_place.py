"""InPlace: worker pods are replaced one by one under load, a bad image stops it at the first, the head goes last."""

import copy

import pytest

from e2e import redis_server
from e2e.manifests import cluster_spec, rayservice, serve_config, with_usual_grace, worker_group
from e2e.rayservices import Service, identity, ray_pods, watched
from e2e.support import Kube, LoadPod, Object, condition

pytestmark = pytest.mark.timeout(900)

NAME = "rolled"
FIELDS: Object = {"upgradeStrategy": {"type": "InPlace"}, "deploymentUnhealthySecondThreshold": 10}
WORKERS = 2
ROLL = "rayservice.ray.io/roll"


def two_workers() -> Object:
    """Each has room for both replicas, so that these can move while one worker is away."""
    return with_usual_grace(cluster_spec(worker_group(replicas=WORKERS, cpus=2)))


@pytest.fixture(scope="module")
def service(kube: Kube, module_namespace: str) -> Service:
    """Two workers with a replica or two."""
    kube.apply(rayservice(NAME, two_workers(), serve_config(num_replicas=2), **FIELDS), module_namespace)
    service = Service(kube, module_namespace, NAME)
    service.wait_settled()
    return service


def test_workers_are_replaced_without_a_failed_request(service: Service) -> None:
    kube, namespace = service.kube, service.namespace
    cluster, head, old = service.active(), identity([service.head()]), identity(service.workers())
    url = f"http://{NAME}-serve-svc:8000/"
    with (
        watched(service) as history,
        LoadPod(kube, namespace, url, rate=20) as load,
        LoadPod(kube, namespace, url, rate=20, keep_alive=True, name="load-kept-alive") as kept_alive,
    ):
        most = _Most(service)
        service.patch(rayClusterConfig=worker_env(two_workers(), "2"))
        service.wait(lambda: most.look() and _phase(service) == "Completed", "all workers replaced", timeout=420)
        reports = [load.report(), kept_alive.report()]

    for report in reports:
        print(report)
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0
    assert service.active() == cluster
    assert identity([service.head()]) == head
    assert not set(identity(service.workers())) & set(old)
    assert most.pods == 1 + WORKERS, "none beside those that ran, those that drain counted"
    assert history.conditions("Ready") == [("True", "NonZeroServeEndpoints")]
    assert [status for status, _ in history.conditions("UpgradeInProgress")] == ["False", "True", "False"]
    assert len(service.events("UpgradeStarted")) == 1
    assert "no pods beside those that run" in service.events("UpgradeStarted")[0]["message"]
    assert ROLL not in kube.raycluster(namespace, cluster)["metadata"]["annotations"]
    service.wait_settled()


def test_a_bad_image_stops_at_the_first_pod_and_taking_it_back_heals(service: Service) -> None:
    kube, namespace = service.kube, service.namespace
    good = kube.rayservice(namespace, NAME)["spec"]["rayClusterConfig"]
    before = identity(service.workers())
    bad = copy.deepcopy(good)
    bad["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = "localhost/no-such-image:1"
    with LoadPod(kube, namespace, f"http://{NAME}-serve-svc:8000/", rate=20) as load:
        service.patch(rayClusterConfig=bad)
        stalled = service.wait(lambda: _stalled(service, "RollStopped"), "stopped", timeout=240)
        assert "Pull" in stalled["message"], stalled
        obj = service.get()
        assert condition(obj, "Ready")["status"] == "True"
        assert obj["status"]["upgrade"]["phase"] == "RollStopped"
        kept = set(identity(service.workers())) & set(before)
        assert len(kept) == 1, "nothing else is replaced"

        service.patch(rayClusterConfig=good)
        service.wait_settled()
        report = load.report()
    assert not report.failures, str(report)
    after = set(identity(service.workers()))
    assert len(after) == WORKERS
    assert kept <= after, "it has the wanted template all along"
    assert service.status()["upgrade"]["phase"] == "Completed"


def test_what_a_running_cluster_cannot_take_is_refused(service: Service) -> None:
    spec = service.get()["spec"]["rayClusterConfig"]
    pods = identity(ray_pods(service.kube, service.namespace))
    changed = copy.deepcopy(spec)
    changed["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "RELEASE", "value": "9"}]
    service.patch(rayClusterConfig=changed)
    stalled = service.wait(lambda: _stalled(service, "NotInPlace"), "refused")
    assert "NewCluster" in stalled["message"]
    assert condition(service.get(), "Ready")["status"] == "True"
    assert identity(ray_pods(service.kube, service.namespace)) == pods
    assert len(service.events("NotInPlace")) == 1
    changed["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = None
    service.patch(rayClusterConfig=changed)
    service.wait_settled()


def test_the_head_is_replaced_where_its_state_survives(kube: Kube, namespace: str) -> None:
    """The worker and its replica's process stay, requests are answered throughout."""
    with redis_server.running(kube, namespace) as redis:
        options = {"redisAddress": redis.address, "redisPassword": {"value": redis.password}}
        spec = with_usual_grace(cluster_spec(worker_group(), gcsFaultToleranceOptions=options))
        kube.apply(rayservice("headed", spec, excludeHeadPodFromServeSvc=True, **FIELDS), namespace)
        service = Service(kube, namespace, "headed")
        service.wait_settled()
        cluster, head = service.active(), service.head()
        workers, before = identity(service.workers()), service.answer()
        changed = copy.deepcopy(spec)
        changed["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "RELEASE", "value": "2"}]
        with LoadPod(kube, namespace, "http://headed-serve-svc:8000/", rate=20) as load:
            service.patch(rayClusterConfig=changed)
            service.wait(lambda: _phase(service) == "Completed", "the head replaced", timeout=300)
            report = load.report()
        print(report)
        assert service.has_new_head(head)
        assert service.active() == cluster
        assert identity(service.workers()) == workers
        after = service.answer()
        assert (after["pod"], after["pid"]) == (before["pod"], before["pid"]), "the replica's process is the same"
        assert not report.failures, str(report)
        service.wait_settled()
        kube.delete("rayservice", namespace, "headed")
        service.wait(lambda: not kube.rayclusters(namespace), "the RayCluster gone")


class _Most:
    """The largest number of Ray pods seen at a time, those on their way out too, as long as anything runs in them."""

    def __init__(self, service: Service) -> None:
        self.service, self.pods = service, 0

    def look(self) -> bool:
        found = self.service.kube.pods(self.service.namespace, "ray.io/is-ray-node=yes")
        running = [pod for pod in found if pod["status"]["phase"] not in {"Succeeded", "Failed"}]
        self.pods = max(self.pods, len(running))
        return True


def worker_env(cluster: Object, release: str) -> Object:
    """Another variable in the Ray container of the workers only."""
    for group in cluster["workerGroupSpecs"]:
        group["template"]["spec"]["containers"][0]["env"] = [{"name": "RELEASE", "value": release}]
    return cluster


def _phase(service: Service) -> str:
    return str(service.status().get("upgrade", {}).get("phase"))


def _stalled(service: Service, reason: str) -> Object:
    found = condition(service.get(), "Stalled")
    return found if found.get("reason") == reason else {}
