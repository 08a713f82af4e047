"""The operator is killed in the middle of everything it does; the service goes on, and what was begun is finished.

Killed means SIGKILL: nothing can be put in order first. The tests share one service and run in this order.
"""

import pytest

from e2e.manifests import cluster_spec, rayservice, serve_config, with_env, worker_group
from e2e.operators import Operator
from e2e.rayservices import Service, identity, named, ray_pods, role
from e2e.support import Kube, LoadPod, condition, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "steady"
URL = f"http://{NAME}-serve-svc:8000/"
SPEC = cluster_spec(worker_group())


@pytest.fixture
def service(kube: Kube, module_namespace: str, operator: Operator) -> Service:
    """The shared service, with an operator at work whatever an earlier test left."""
    operator.start()
    return Service(kube, module_namespace, NAME)


def test_while_a_service_is_created(service: Service, kube: Kube, operator: Operator) -> None:
    kube.apply(rayservice(NAME, SPEC, rayClusterDeletionDelaySeconds=1), service.namespace)
    service.wait(lambda: ray_pods(kube, service.namespace), "the first pod")
    operator.stop()
    clusters, pods = named(kube.rayclusters(service.namespace)), identity(ray_pods(kube, service.namespace))
    assert len(clusters) == 1

    operator.start()
    service.wait_settled()

    assert service.answer()["greeting"] == "Hello"
    assert named(kube.rayclusters(service.namespace)) == clusters == {service.active()}
    now = identity(ray_pods(kube, service.namespace))
    assert len(now) == 2
    assert {name: uid for name, (uid, _) in pods.items()}.items() <= {n: uid for n, (uid, _) in now.items()}.items()


def test_while_a_serve_config_is_updated(service: Service, kube: Kube, operator: Operator) -> None:
    before, pods = service.answer(), identity(ray_pods(kube, service.namespace))
    with LoadPod(kube, service.namespace, URL) as load:
        service.patch(serveConfigV2=serve_config("Bonjour"))
        operator.kill()
        after = service.wait_answer(lambda answer: answer["greeting"] == "Bonjour", "the new greeting")
        service.wait_settled()
        report = load.report()
    assert not report.failures, str(report)
    assert after["pid"] == before["pid"]
    assert identity(ray_pods(kube, service.namespace)) == pods


def test_edits_while_it_is_away(service: Service, kube: Kube, operator: Operator) -> None:
    """Requests are answered without it, and it finds out by itself what has changed."""
    head = service.head()
    with LoadPod(kube, service.namespace, URL) as load:
        operator.stop()
        service.patch(
            serveConfigV2=serve_config("Hello again"), rayClusterConfig={"workerGroupSpecs": [worker_group(replicas=2)]}
        )
        assert service.answer()["greeting"] == "Bonjour"
        operator.start()
        service.wait_answer(lambda answer: answer["greeting"] == "Hello again", "the new greeting")
        service.wait(lambda: len(service.ready_workers()) == 2, "the group grown")
        service.wait_settled()
        report = load.report()
    assert not report.failures, str(report)
    assert identity([service.head()]) == identity([head])


def test_pods_lost_while_it_is_away(service: Service, kube: Kube, operator: Operator) -> None:
    """And killed once more while it puts others in their place."""
    lost = [service.head(), *service.workers()[:1]]
    uids = {pod["metadata"]["uid"] for pod in lost}
    operator.stop()
    for pod in lost:
        kube.delete_pod(service.namespace, pod["metadata"]["name"], grace_seconds=1)
    operator.start()
    service.wait(lambda: service.has_new_head(lost[0]), "another head pod")
    operator.kill()
    service.wait_settled()
    assert service.answer()["greeting"] == "Hello again"
    service.wait(lambda: len(service.ready_workers()) == 2, "all workers")
    assert not uids & {pod["metadata"]["uid"] for pod in ray_pods(kube, service.namespace)}


def test_while_the_cluster_is_upgraded(service: Service, kube: Kube, operator: Operator) -> None:
    old = service.active()
    with LoadPod(kube, service.namespace, URL) as load:
        service.patch(rayClusterConfig=with_env(SPEC, "RELEASE", "2"))
        pending = service.wait(lambda: role(service.get(), "pending"), "a pending cluster")
        service.wait(lambda: ray_pods(kube, service.namespace, f"ray.io/cluster={pending}"), "its first pod")
        operator.stop()
        assert service.answer()["pod"].startswith(f"{old}-")
        operator.start()
        service.wait(lambda: service.active() == pending, "the same cluster promoted", timeout=240)
        operator.kill()  # just when the services are to be switched
        service.wait_answer(lambda answer: answer["pod"].startswith(f"{pending}-"), "an answer from new pods")
        service.wait(lambda: named(kube.rayclusters(service.namespace)) == {pending}, "the old cluster gone")
        service.wait_settled()
        report = load.report()
    assert not report.failures, str(report)


def test_while_it_is_suspended_and_resumed(service: Service, kube: Kube, operator: Operator) -> None:
    service.patch(suspend=True)
    service.wait(lambda: is_true(service.get(), "Suspending") or is_true(service.get(), "Suspended"), "Suspending")
    operator.kill()
    service.wait(lambda: is_true(service.get(), "Suspended"), "suspended")
    assert kube.rayclusters(service.namespace) == []
    assert ray_pods(kube, service.namespace) == []

    service.patch(suspend=False)
    service.wait(lambda: ray_pods(kube, service.namespace), "the first pod")
    operator.kill()
    service.wait_settled()
    assert service.answer()["greeting"] == "Hello again"
    assert condition(service.get(), "Suspended")["status"] == "False"
    assert len(kube.rayclusters(service.namespace)) == 1
