"""The life of one RayService: ready, updated, hurt in every way that pods can be, suspended, deleted.

The tests share the service and run in this order; before each it is brought back to its manifest.
"""

import re

import pytest

from e2e.manifests import cluster_spec, rayservice, serve_config, worker_group
from e2e.rayservices import Service, identity, named, ray_pods, watched
from e2e.support import Kube, condition, is_true, pod_ready

pytestmark = pytest.mark.timeout(900)

NAME = "greeter"
WORKERS = 2


MANIFEST = rayservice(NAME, cluster_spec(worker_group(replicas=WORKERS)))


@pytest.fixture
def service(kube: Kube, module_namespace: str) -> Service:
    """One replica on one of two workers, as in the manifest again whatever an earlier test has made of it.

    The head takes no replica, so the worker without one has no HTTP proxy.
    """
    kube.apply(MANIFEST, module_namespace)
    service = Service(kube, module_namespace, NAME)
    service.wait_settled()
    service.wait(lambda: len(service.ready_workers()) == WORKERS, "all workers Ready")
    return service


@pytest.mark.smoke
def test_ready_and_answering(service: Service, kube: Kube) -> None:
    answer = service.answer()
    assert answer["greeting"] == "Hello"

    obj = service.wait_settled()
    for kind, status, reason in (
        ("Ready", "True", "NonZeroServeEndpoints"),
        ("UpgradeInProgress", "False", "NoPendingCluster"),
        ("ServeConfigApplied", "True", "Applied"),
        ("ApplicationsHealthy", "True", "AllRunning"),
    ):
        found = condition(obj, kind)
        assert (found["status"], found["reason"]) == (status, reason), found
    status = obj["status"]
    assert status["serviceStatus"] == "Running"
    assert status["observedGeneration"] == obj["metadata"]["generation"]
    assert status["activeServiceStatus"]["applicationStatuses"]["app"]["status"] == "RUNNING"
    cluster = service.active()
    assert re.fullmatch(rf"{NAME}-[a-z0-9]{{5}}", cluster)

    head, workers = service.head(), service.workers()
    assert head["metadata"]["name"].startswith(f"{cluster}-head-")
    assert all(pod["metadata"]["name"].startswith(f"{cluster}-small-worker-") for pod in workers)
    for pod, node_type, group in ((head, "head", "headgroup"), *((worker, "worker", "small") for worker in workers)):
        labels = pod["metadata"]["labels"]
        expected = {"ray.io/cluster": cluster, "ray.io/node-type": node_type, "ray.io/group": group}
        assert expected.items() <= labels.items()
        assert labels["ray.io/is-ray-node"] == "yes"

    serve = kube.service(service.namespace, f"{NAME}-serve-svc")
    assert serve["spec"]["selector"] == {"ray.io/cluster": cluster, "ray.io/serve": "true"}
    assert [(port["name"], port["port"]) for port in serve["spec"]["ports"]] == [("serve", 8000)]
    for name in (f"{NAME}-head-svc", f"{cluster}-head-svc"):
        ports = {port["name"]: port["port"] for port in kube.service(service.namespace, name)["spec"]["ports"]}
        assert ports == {"client": 10001, "gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}


def test_worker_without_proxy_is_ready_and_gets_no_requests(service: Service) -> None:
    busy = service.answer()["pod"]
    (idle,) = [pod for pod in service.workers() if pod["metadata"]["name"] != busy]
    assert pod_ready(idle)
    assert idle["metadata"]["labels"]["ray.io/serve"] == "false"
    routed = {service.head()["metadata"]["name"], busy}
    service.wait(lambda: service.endpoints() == routed, "head and busy worker behind the service")
    service.wait(lambda: service.status()["numServeEndpoints"] == len(routed), "their number in the status")


def test_hot_update_restarts_nothing(service: Service) -> None:
    before = service.answer()
    pods = identity([service.head(), *service.workers()])

    with watched(service) as history:
        service.patch(serveConfigV2=serve_config("Good day"))
        after = service.wait_answer(lambda answer: answer["greeting"] == "Good day", "the new greeting")
        obj = service.wait_settled()

    assert after["pid"] == before["pid"], "the replica's process is the same"
    assert history.conditions("Ready") == [("True", "NonZeroServeEndpoints")]
    assert condition(obj, "ServeConfigApplied")["status"] == "True"
    assert identity([service.head(), *service.workers()]) == pods


def test_deleted_worker_is_replaced(service: Service, kube: Kube) -> None:
    cluster, head = service.active(), service.head()
    busy = service.answer()["pod"]

    kube.delete_pod(service.namespace, busy, grace_seconds=1)

    answer = service.wait_answer(lambda answer: answer["pod"] != busy, "an answer from another worker")
    service.wait(lambda: len(service.ready_workers()) == WORKERS, "the worker replaced")
    assert busy not in service.ready_workers()
    assert answer["greeting"] == "Hello"
    assert service.active() == cluster
    assert identity([service.head()]) == identity([head])
    service.wait_settled()


def test_group_shrinks_by_its_idle_worker_and_grows(service: Service, kube: Kube) -> None:
    cluster, head = service.active(), service.head()
    # By age the youngest would go, so the replica is put just there.
    youngest = service.workers()[-1]
    place = {"num_cpus": 0.1, "resources": {f"node:{youngest['status']['podIP']}": 0.001}}
    service.patch(serveConfigV2=serve_config(ray_actor_options=place))
    name = youngest["metadata"]["name"]
    service.wait_answer(lambda answer: answer["pod"] == name, "the replica on the youngest worker")
    service.wait_settled()
    pid = service.answer()["pid"]

    _scale(service, kube, 1)
    service.wait(lambda: named(service.workers()) == {name}, "only the worker with the replica left")
    service.wait_settled()
    assert service.answer()["pid"] == pid, "the replica has not moved"

    _scale(service, kube, WORKERS)
    service.wait(lambda: len(service.ready_workers()) == WORKERS, "the group grown again")
    assert name in service.ready_workers()
    assert service.active() == cluster, "the cluster was not replaced"
    assert identity([service.head()]) == identity([head])


def _scale(service: Service, kube: Kube, replicas: int) -> None:
    """Edit the manifest as its owner would."""
    obj = service.get()
    groups = obj["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    groups[0]["replicas"] = replicas
    service.patch(rayClusterConfig={"workerGroupSpecs": groups})


def test_bad_edit_leaves_the_service_looked_after(service: Service, kube: Kube) -> None:
    cluster = service.active()
    seen = len(service.events("InvalidRayServiceSpec"))
    kube.let_bad_manifests_in(service.namespace)

    service.patch(serveConfigV2="applications: [{name: app, route_prefix: /}]")
    service.wait(lambda: condition(service.get(), "Stalled").get("status") == "True", "the edit refused")

    obj = service.get()
    stalled = condition(obj, "Stalled")
    assert stalled["reason"] == "ValidationFailed"
    assert "import_path" in stalled["message"]
    assert condition(obj, "Ready")["status"] == "True", "what serves goes on serving"
    service.wait(lambda: len(service.events("InvalidRayServiceSpec")) == seen + 1, "one event")
    busy = service.answer()["pod"]

    kube.delete_pod(service.namespace, busy, grace_seconds=1)
    service.wait_answer(lambda answer: answer["pod"] != busy, "an answer from another worker")
    service.wait(lambda: len(service.ready_workers()) == WORKERS, "the worker replaced under a bad spec")

    service.patch(serveConfigV2=serve_config("Corrected"))
    service.wait_answer(lambda answer: answer["greeting"] == "Corrected", "the corrected edit in force")
    obj = service.wait_settled()
    assert condition(obj, "Stalled") == {}
    assert service.active() == cluster


def test_head_comes_back_with_its_applications(service: Service, kube: Kube) -> None:
    cluster, head = service.active(), service.head()

    kube.delete_pod(service.namespace, head["metadata"]["name"], grace_seconds=1)

    service.wait(lambda: condition(service.get(), "Ready").get("status") != "True", "Ready no longer said")
    service.wait(lambda: service.has_new_head(head), "another head pod")
    service.wait_settled()
    assert service.answer()["greeting"] == "Hello"
    assert service.active() == cluster, "the RayCluster is the same"
    service.wait(lambda: len(service.ready_workers()) == WORKERS, "all workers in the new session")


def test_kubectl_shows_what_matters(service: Service, kube: Kube) -> None:
    header, row = kube.target.kubectl("get", "rayservice", NAME, "-n", service.namespace).splitlines()
    shown = dict(zip(re.split(r"\s{2,}", header.strip()), re.split(r"\s{2,}", row.strip()), strict=True))
    assert shown["NAME"] == NAME
    assert shown["READY"] == "True"
    assert shown["REASON"] == "NonZeroServeEndpoints"
    assert shown["ENDPOINTS"] == str(len(service.endpoints()))
    assert shown["ACTIVE CLUSTER"] == service.active()
    assert shown["UPGRADING"] == "False"
    clusters = kube.target.kubectl("get", "raycluster", "-n", service.namespace)
    assert service.active() in clusters
    assert "ready" in clusters


def test_suspended_clusters_come_back_as_the_same(service: Service, kube: Kube) -> None:
    """``rayClusterConfig.suspend``, as Kueue writes it: the pods go, it is told, and no cluster is new."""
    cluster, pods = service.active(), identity(ray_pods(kube, service.namespace))
    revisions = service.revisions()
    service.patch(rayClusterConfig={"suspend": True})
    service.wait(lambda: not kube.pods(service.namespace, "ray.io/is-ray-node=yes"), "the pods gone")
    service.wait(lambda: not is_true(service.get(), "Reconciling"), "at rest")
    obj = service.get()
    assert (condition(obj, "Ready")["status"], condition(obj, "Ready")["reason"]) == ("False", "RayClusterSuspended")
    assert condition(obj, "Stalled") == {}
    assert (obj["status"]["serviceStatus"], obj["status"]["numServeEndpoints"]) == ("", 0)
    assert kube.raycluster(service.namespace, cluster)["status"]["state"] == "suspended"

    service.patch(rayClusterConfig={"suspend": False})
    service.wait_settled()
    assert service.wait_answer(bool, "an answer")["greeting"] == "Hello"
    assert service.active() == cluster
    assert not identity(ray_pods(kube, service.namespace)).items() & pods.items()
    assert service.revisions() == revisions, "when is no part of what"


def test_suspend_and_resume(service: Service, kube: Kube) -> None:
    service.patch(suspend=True)
    service.wait(lambda: condition(service.get(), "Suspended").get("status") == "True", "suspended")

    assert kube.rayclusters(service.namespace) == []
    assert kube.pods(service.namespace, "ray.io/is-ray-node=yes") == []
    assert _services(kube, service.namespace) == set()
    obj = service.get()
    assert condition(obj, "Ready")["status"] == "False"
    assert condition(obj, "Suspending")["status"] == "False"
    assert obj["status"]["numServeEndpoints"] == 0

    service.patch(suspend=False)
    service.wait_ready()
    assert service.answer()["greeting"] == "Hello"
    assert condition(service.get(), "Suspended")["status"] == "False"


def test_deleted_service_leaves_nothing_behind(service: Service, kube: Kube) -> None:
    kube.delete("rayservice", service.namespace, NAME)
    kinds = (
        "rayservice,raycluster,pod,service,endpointslice,controllerrevision,secret,job,serviceaccount,role,rolebinding"
    )

    def left() -> set[str]:
        text = kube.target.kubectl("get", kinds, "-n", service.namespace, "-o", "name")
        return {name for name in text.split() if name != "serviceaccount/default"}

    service.wait(lambda: not left(), "nothing left")


def _services(kube: Kube, namespace: str) -> set[str]:
    return named(kube.plain(kube.core.list_namespaced_service(namespace))["items"])
