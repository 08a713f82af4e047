"""Ray's own autoscaler in the head pod: a group grows under load and shrinks to its minimum when idle."""

import pytest

from e2e.manifests import AUTOSCALING, cluster_spec, rayservice, serve_config, worker_group
from e2e.rayservices import Service, named
from e2e.support import Kube, LoadPod, Object

pytestmark = pytest.mark.timeout(900)

IDLE_SECONDS = 5
SCALING = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 1,
    "downscale_delay_s": 2,
    "look_back_period_s": 3,
}


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_group_grows_under_load_and_shrinks_again(kube: Kube, namespace: str, version: str) -> None:
    """A worker has one CPU and a replica takes it whole, so a second replica needs a second worker."""
    options: Object = {"idleTimeoutSeconds": IDLE_SECONDS}
    if version == "v1":  # v2 is the default
        options["version"] = version
    cluster = cluster_spec(
        worker_group(replicas=1, minimum=1, maximum=2), enableInTreeAutoscaling=True, autoscalerOptions=options
    )
    config = serve_config(import_path=AUTOSCALING, ray_actor_options={"num_cpus": 1}, autoscaling_config=SCALING)
    kube.apply(rayservice("elastic", cluster, config), namespace)
    service = Service(kube, namespace, "elastic")
    service.wait_settled()
    name, head = service.active(), service.head()

    containers = {status["name"]: status for status in head["status"]["containerStatuses"]}
    assert set(containers) == {"ray-head", "autoscaler"}
    assert all(status["ready"] for status in containers.values())
    for kind in ("serviceaccount", "role", "rolebinding"):
        kube.target.kubectl("get", kind, name, "-n", namespace)

    first = named(service.workers())
    with LoadPod(kube, namespace, "http://elastic-serve-svc:8000/?seconds=2", rate=2) as load:
        service.wait(lambda: len(service.ready_workers()) == 2, "the group grown", timeout=180)
        report = load.report()
    assert not report.failures, str(report)
    grown = named(service.workers())
    assert first < grown
    assert _replicas(kube, namespace, name) == 2, "the autoscaler has written it"
    assert _replicas_asked(service) == 1, "not the user's own object"

    service.wait(lambda: len(service.workers()) == 1, "the group shrunk", timeout=180)
    service.wait(lambda: _replicas(kube, namespace, name) == 1, "written by the autoscaler")
    (gone,) = grown - named(service.workers())
    service.wait(lambda: "workersToDelete" in _why_deleted(kube, namespace, gone), "deleted because it was named")
    service.wait_settled()
    assert service.active() == name
    assert service.answer("/?seconds=0")["pid"]
    assert service.head()["metadata"]["uid"] == head["metadata"]["uid"]


def _why_deleted(kube: Kube, namespace: str, pod: str) -> str:
    """What the RayCluster's event says of the deletion of a worker; empty before there is one."""
    events = [event for event in kube.events(namespace) if event.get("reason") == "DeletedWorkerPod"]
    return next((str(event["message"]) for event in events if pod in event["message"]), "")


def _replicas(kube: Kube, namespace: str, cluster: str) -> int:
    return int(kube.raycluster(namespace, cluster)["spec"]["workerGroupSpecs"][0]["replicas"])


def _replicas_asked(service: Service) -> int:
    return int(service.get()["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"])
