"""Ray's own autoscaler in the head pod: a group grows under load and shrinks to its minimum when idle.

The operator is killed as soon as the autoscaler has asked for more workers, and again when it has named one to delete.
"""

import pytest

from e2e.manifests import AUTOSCALING, cluster_spec, rayservice, serve_config, worker_group
from e2e.operators import Operator
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
def test_group_grows_under_load_and_shrinks_again(kube: Kube, namespace: str, operator: Operator, version: str) -> None:
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
        service.wait(lambda: _replicas(kube, namespace, name) == 2, "another worker asked for", timeout=180)
        operator.kill()
        service.wait(lambda: len(service.ready_workers()) == 2, "the group grown", timeout=180)
        report = load.report()
    assert not report.failures, str(report)
    grown = named(service.workers())
    assert first < grown
    assert _replicas(kube, namespace, name) == 2, "the autoscaler has written it"
    assert _replicas_asked(service) == 1, "not the user's own object"

    doomed = service.wait(lambda: _to_delete(kube, namespace, name), "a worker named to be deleted", timeout=180)
    operator.kill()
    service.wait(lambda: len(service.workers()) == 1, "the group shrunk", timeout=180)
    service.wait(lambda: _replicas(kube, namespace, name) == 1, "written by the autoscaler")
    assert grown - named(service.workers()) == doomed
    service.wait_settled()
    assert service.active() == name
    assert service.answer("/?seconds=0")["pid"]
    assert service.head()["metadata"]["uid"] == head["metadata"]["uid"]


def _to_delete(kube: Kube, namespace: str, cluster: str) -> set[str]:
    """Names of the workers that the autoscaler wants gone."""
    group = kube.raycluster(namespace, cluster)["spec"]["workerGroupSpecs"][0]
    return set(group["scaleStrategy"].get("workersToDelete") or ())


def _replicas(kube: Kube, namespace: str, cluster: str) -> int:
    return int(kube.raycluster(namespace, cluster)["spec"]["workerGroupSpecs"][0]["replicas"])


def _replicas_asked(service: Service) -> int:
    return int(service.get()["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"])
