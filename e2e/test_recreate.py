"""Recreate: never two clusters, an outage that is announced, and the former revision when the new one fails."""

import pytest

from e2e.manifests import BROKEN, cluster_spec, rayservice, serve_config, with_env, worker_group
from e2e.rayservices import Service, named, ray_pods, watched
from e2e.support import Kube, condition

pytestmark = pytest.mark.timeout(900)

NAME = "frugal"


def test_old_first_and_back_when_it_fails(kube: Kube, namespace: str) -> None:
    spec = cluster_spec(worker_group())
    strategy = {"type": "Recreate"}
    kube.apply(
        rayservice(NAME, spec, upgradeStrategy=strategy, deploymentUnhealthySecondThreshold=5),
        namespace,
    )
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    old = service.active()
    with watched(service) as history:
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        service.wait(lambda: service.status()["upgrade"]["phase"] == "Removing", "the old cluster on its way out")
        service.wait(lambda: service.active() not in {"", old}, "its successor active", timeout=300)
        service.wait_settled()
    new = service.active()
    assert history.roles() == [(old, ""), ("", ""), ("", new), (new, "")]
    reasons = [reason for status, reason in history.conditions("UpgradeInProgress") if status == "True"]
    assert reasons == ["Recreating"]
    assert {pod.rpartition("-")[0][: len(new)] for pod in named(ray_pods(kube, namespace))} == {new}
    assert service.events("UpgradeStarted")

    broken = {"rayClusterConfig": with_env(spec, "RELEASE", "3"), "serveConfigV2": serve_config(import_path=BROKEN)}
    service.patch(**broken)
    told = lambda: condition(service.get(), "Stalled").get("reason") == "UpgradeAborted"  # noqa: E731
    service.wait(told, "given up, and its predecessor built again", timeout=400)
    message = condition(service.get(), "Stalled")["message"]
    assert "fails on purpose" in message
    assert "Revision 2 is in force again" in message
    assert service.wait_answer(bool, "an answer")["greeting"] == "Hello"

    service.patch(serveConfigV2=serve_config("Corrected"))
    service.wait_answer(lambda answer: answer["greeting"] == "Corrected", "the corrected spec's answer", timeout=400)
    service.wait_settled()
