"""A RayCluster without a RayService: ready, scaled, exactly the named workers deleted, gone without a trace."""

import pytest

from e2e.manifests import cluster_spec, raycluster, worker_group
from e2e.rayservices import identity, named, ray_pods
from e2e.support import Kube, Object, account, condition, is_true, pod_ready, wait_for

pytestmark = pytest.mark.timeout(900)

NAME = "standalone"
WORKERS = f"ray.io/cluster={NAME},ray.io/node-type=worker"


def test_life_of_a_standalone_cluster(kube: Kube, namespace: str) -> None:
    kube.apply(raycluster(NAME, cluster_spec(worker_group(replicas=1))), namespace)

    def cluster() -> Object:
        return kube.raycluster(namespace, NAME)

    def settled() -> bool:
        obj = cluster()
        status = obj.get("status", {})
        return bool(
            status.get("state") == "ready"
            and status.get("observedGeneration") == obj["metadata"]["generation"]
            and not is_true(obj, "Reconciling")
        )

    def wait(probe: object, what: str) -> None:
        assert callable(probe)
        wait_for(probe, timeout=300, what=what, describe=lambda: account(kube, namespace, NAME))

    def workers() -> list[Object]:
        return ray_pods(kube, namespace, WORKERS)

    wait(settled, "ready")
    obj = cluster()
    assert condition(obj, "RayClusterProvisioned")["status"] == "True"
    assert condition(obj, "HeadPodReady")["reason"] == "HeadPodRunningAndReady"
    status = obj["status"]
    assert status["readyWorkerReplicas"] == status["desiredWorkerReplicas"] == 1
    (head,) = ray_pods(kube, namespace, f"ray.io/cluster={NAME},ray.io/node-type=head")
    assert status["head"]["podName"] == head["metadata"]["name"]
    assert status["head"]["serviceName"] == f"{NAME}-head-svc"
    nodes = kube.exec(namespace, head["metadata"]["name"], "ray", "list", "nodes", "--format=json")
    assert nodes.count('"ALIVE"') == 2

    # Grown by one, the first stays.
    first = identity(workers())
    _set_group(kube, namespace, replicas=2)
    wait(lambda: sum(map(pod_ready, workers())) == 2, "two workers ready")
    wait(settled, "settled")
    assert first.items() <= identity(workers()).items()

    # Named and made fewer in one write, as the autoscaler does: exactly the named one goes, although it is the older.
    doomed, kept = named(workers()[:1]), identity(workers()[1:])
    _set_group(kube, namespace, replicas=1, scaleStrategy={"workersToDelete": sorted(doomed)})
    wait(lambda: named(workers()) == set(kept), "only the other left")
    wait(settled, "settled")
    assert identity(workers()) == kept
    assert cluster()["status"]["readyWorkerReplicas"] == 1

    kube.delete("raycluster", namespace, NAME)
    kinds = "raycluster,pod,service,endpointslice,secret,job"
    wait(lambda: not kube.target.kubectl("get", kinds, "-n", namespace, "-o", "name").split(), "nothing left")


def _set_group(kube: Kube, namespace: str, **fields: object) -> None:
    group = {**worker_group(), **fields}
    kube.patch("raycluster", namespace, NAME, {"spec": {"workerGroupSpecs": [group]}})
