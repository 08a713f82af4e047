"""A change that needs new pods: a second cluster comes up and takes over under load, and nobody notices."""

from datetime import UTC, datetime

import pytest

from e2e.manifests import BROKEN, cluster_spec, rayservice, serve_config, with_env, with_usual_grace, worker_group
from e2e.operators import Operator
from e2e.rayservices import Service, identity, ray_pods, watched
from e2e.support import Kube, LoadPod, Object, condition, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "upgraded"
DELAY_SECONDS = 10
DELETE_AFTER = "rayservice.ray.io/delete-after"


def test_new_cluster_takes_over_without_a_failed_request(kube: Kube, namespace: str) -> None:
    spec = with_usual_grace(cluster_spec(worker_group()))
    kube.apply(rayservice(NAME, spec, rayClusterDeletionDelaySeconds=DELAY_SECONDS), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    old, before = service.active(), service.answer()

    url = f"http://{NAME}-serve-svc:8000/"
    with (
        watched(service) as history,
        LoadPod(kube, namespace, url, rate=20) as load,
        LoadPod(kube, namespace, url, rate=20, keep_alive=True, name="load-kept-alive") as kept_alive,
    ):
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        service.wait(lambda: service.active() not in {"", old}, "the new cluster active", timeout=240)
        promoted = _time(condition(service.get(), "UpgradeInProgress")["lastTransitionTime"])
        new = service.active()
        after = service.wait_answer(lambda answer: answer["pod"].startswith(f"{new}-"), "an answer from new pods")
        due = service.wait(lambda: _delete_after(kube, namespace, old), "the old cluster's time of deletion")
        service.wait(lambda: old not in _clusters(kube, namespace), "the old cluster gone")
        gone = datetime.now(UTC)
        service.wait(
            lambda: not ray_pods(kube, namespace, f"ray.io/cluster={old}"), "the old pods gone or on their way"
        )
        reports = [load.report(), kept_alive.report()]

    for report in reports:
        assert not report.failures, str(report)
        assert report.answered == report.sent > 0
    assert after["pod"] != before["pod"]
    assert (_time(due) - promoted).total_seconds() >= DELAY_SECONDS
    assert gone >= _time(due), "not before its time"

    # What anybody who watched has seen: the switch in one write, and Ready all along.
    assert history.roles() == [(old, ""), (old, new), (new, "")]
    assert history.conditions("Ready") == [("True", "NonZeroServeEndpoints")]
    assert [status for status, _ in history.conditions("UpgradeInProgress")] == ["False", "True", "False"]
    told = [state["status"]["activeServiceStatus"].get("applicationStatuses") for state in history.states]
    assert all(told), "the serving cluster's applications, all the way through"
    assert history.conditions("Reconciling")[-1] == ("True", "SwitchingTraffic"), "until only new pods get requests"
    serve = kube.service(namespace, f"{NAME}-serve-svc")
    assert serve["spec"]["selector"]["ray.io/cluster"] == new
    obj = service.wait_settled()
    assert is_true(obj, "Ready")


def test_upgrade_that_fails_is_given_up(kube: Kube, namespace: str, operator: Operator) -> None:
    """The old cluster serves on, the new one's pods are gone, and a corrected spec is tried again."""
    spec = cluster_spec(worker_group())
    name = "cautious"
    fields: Object = {"rayClusterDeletionDelaySeconds": 1, "deploymentUnhealthySecondThreshold": 5}
    kube.apply(rayservice(name, spec, **fields), namespace)
    service = Service(kube, namespace, name)
    service.wait_settled()
    old, pods = service.active(), identity(ray_pods(kube, namespace))

    with LoadPod(kube, namespace, f"http://{name}-serve-svc:8000/", rate=20) as load:
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"), serveConfigV2=serve_config(import_path=BROKEN))
        service.wait(lambda: "failedUpdate" in service.status(), "given up")
        operator.kill()
        service.wait(lambda: _clusters(kube, namespace) == {old}, "the new cluster gone")
        service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "UpgradeAborted", "told")
        report = load.report()
    assert not report.failures, str(report)

    obj = service.get()
    assert "fails on purpose" in condition(obj, "Stalled")["message"]
    assert (condition(obj, "Ready")["status"], condition(obj, "UpgradeInProgress")["reason"]) == (
        "True",
        "UpgradeAborted",
    )
    assert obj["status"]["upgrade"]["phase"] == "Aborted"
    assert service.answer()["pod"].startswith(f"{old}-")
    assert identity(ray_pods(kube, namespace)) == pods

    service.patch(serveConfigV2=serve_config("Corrected"))
    service.wait(lambda: service.active() not in {"", old}, "the corrected spec's cluster active", timeout=240)
    obj = service.wait_settled()
    # The slices list only new pods by now; the node's proxy follows them a moment later.
    service.wait_answer(lambda answer: answer["greeting"] == "Corrected", "the corrected version")
    assert "failedUpdate" not in obj["status"]


def _clusters(kube: Kube, namespace: str) -> set[str]:
    return {cluster["metadata"]["name"] for cluster in kube.rayclusters(namespace)}


def _delete_after(kube: Kube, namespace: str, cluster: str) -> str:
    annotations = kube.raycluster(namespace, cluster)["metadata"].get("annotations", {})
    return str(annotations.get(DELETE_AFTER, ""))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
