"""Nobody is hurt when pods leave: kept-alive clients move in good time, and an evicted worker is drained first."""

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from e2e.manifests import cluster_spec, rayservice, with_env, with_usual_grace, worker_group
from e2e.rayservices import Service, named, ray_pods
from e2e.support import Kube, LoadPod

pytestmark = pytest.mark.timeout(900)

DELAY_SECONDS = 120  # longer than the move takes, or it would prove nothing
PROXY_PORT = 8000
ESTABLISHED = "01"


def test_kept_alive_clients_move_while_the_old_cluster_lives(kube: Kube, namespace: str) -> None:
    name = "kept"
    spec = with_usual_grace(cluster_spec(worker_group()))
    kube.apply(rayservice(name, spec, rayClusterDeletionDelaySeconds=DELAY_SECONDS), namespace)
    service = Service(kube, namespace, name)
    service.wait_settled()
    old = service.active()
    old_pods = named(ray_pods(kube, namespace, f"ray.io/cluster={old}"))

    with (
        LoadPod(kube, namespace, _url(name), rate=20) as load,
        LoadPod(kube, namespace, _url(name), rate=20, keep_alive=True, name="load-kept-alive") as kept_alive,
    ):
        service.wait(lambda: _connected(kube, namespace, old_pods, kept_alive), "the client connected to the old pods")
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        service.wait(lambda: service.active() not in {"", old}, "the new cluster active", timeout=240)
        service.wait(lambda: not service.endpoints() & old_pods, "the serve service leading to the new cluster only")
        service.wait(
            lambda: not _connected(kube, namespace, old_pods, kept_alive),
            "the client gone from the old pods",
        )
        assert "deletionTimestamp" not in kube.raycluster(namespace, old)["metadata"]
        assert named(ray_pods(kube, namespace, f"ray.io/cluster={old}")) == old_pods
        service.wait(lambda: not kube.pods(namespace, f"ray.io/cluster={old}"), "the old pods gone")
        reports = [load.report(), kept_alive.report()]
    for report in reports:
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0


def test_evicted_worker_is_drained_and_others_have_to_stay_meanwhile(kube: Kube, namespace: str) -> None:
    name = "evicted"
    spec = with_usual_grace(cluster_spec(worker_group(replicas=2)))
    kube.apply(rayservice(name, spec), namespace)
    service = Service(kube, namespace, name)
    service.wait_settled()
    service.wait(lambda: len(service.ready_workers()) == 2, "both workers ready")
    victim = service.answer()["pod"]
    (other,) = service.ready_workers() - {victim}
    head = service.head()["metadata"]["name"]

    with (
        LoadPod(kube, namespace, _url(name), rate=20) as load,
        LoadPod(kube, namespace, _url(name), rate=20, keep_alive=True, name="load-kept-alive") as kept_alive,
    ):
        service.wait(lambda: _evict(kube, namespace, victim), "the worker with the replica evicted")
        assert not _evict(kube, namespace, other), "one at a time"
        assert not _evict(kube, namespace, head), "its session would be lost"
        service.wait(lambda: victim not in named(kube.pods(namespace)), "the evicted worker gone")
        service.wait(lambda: len(service.ready_workers()) == 2, "its successor ready")
        service.wait_settled()
        reports = [load.report(), kept_alive.report()]
    for report in reports:
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0
    assert service.answer()["pod"] != victim
    assert service.head()["metadata"]["name"] == head

    # Whoever wants the head to go says so, and does not have to wait for another cluster.
    kube.patch("rayservice", namespace, name, {"metadata": {"annotations": {"ray.io/disruption-budget": "workers"}}})
    service.wait(lambda: _evict(kube, namespace, head), "the head evicted")


def _url(name: str) -> str:
    return f"http://{name}-serve-svc:{PROXY_PORT}/"


def _evict(kube: Kube, namespace: str, pod: str) -> bool:
    """As ``kubectl drain`` asks for it; False when a budget does not allow it now."""
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=namespace))
    try:
        kube.core.create_namespaced_pod_eviction(pod, namespace, eviction)
    except ApiException as error:
        if error.status != 429:
            raise
        return False
    return True


def _connected(kube: Kube, namespace: str, pods: set[str], load: LoadPod) -> bool:
    """Whether the load has a connection to the HTTP proxy of one of the pods, which their kernels know."""
    address = str(kube.pod(namespace, load.name)["status"]["podIP"])
    return any(address in _peers(kube.exec(namespace, pod, "cat", "/proc/net/tcp")) for pod in pods)


def _peers(table: str) -> set[str]:
    """Addresses with an established connection to the proxy's port, from ``/proc/net/tcp``."""
    found = set()
    for line in table.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == PROXY_PORT:
            octets = bytes.fromhex(remote.partition(":")[0])[::-1]
            found.add(".".join(str(octet) for octet in octets))
    return found
