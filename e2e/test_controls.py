"""What a person can do to an upgrade by annotation: hold it, let it through, go back to what was, and forth again."""

import pytest

from e2e.manifests import cluster_spec, rayservice, with_env, worker_group
from e2e.rayservices import Service, identity, ray_pods, role
from e2e.support import Kube, LoadPod, condition, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "held"


def test_pause_promote_undo(kube: Kube, namespace: str) -> None:
    """The former cluster is still there when its revision is wanted again, so it is taken back as it is."""
    spec = cluster_spec(worker_group())
    kube.apply(rayservice(NAME, spec, rayClusterDeletionDelaySeconds=600), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    first, pods = service.active(), identity(ray_pods(kube, namespace))

    with LoadPod(kube, namespace, f"http://{NAME}-serve-svc:8000/", rate=20) as load:
        service.annotate(pause="true")
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        service.wait(lambda: service.status().get("upgrade", {}).get("phase") == "Paused", "held before it began")
        assert not role(service.get(), "pending")

        service.annotate(pause=None)
        second = service.wait(lambda: role(service.get(), "pending"), "a second cluster named")
        service.annotate(pause="true")
        proven = lambda: "ray.io/promote" in service.status()["upgrade"]["message"]  # noqa: E731
        service.wait(proven, "the second cluster proven and held", timeout=300)
        assert (service.active(), is_true(service.get(), "Ready")) == (first, True)

        service.annotate(promote=second)
        service.wait(lambda: service.active() == second, "promoted though paused")
        service.annotate(pause=None, promote=None)
        service.wait_answer(lambda answer: answer["pod"].startswith(f"{second}-"), "an answer of the second cluster")

        service.annotate(undo="1")
        service.wait(lambda: service.active() == first, "the first cluster taken back")
        service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "Undone", "told")
        service.wait_answer(lambda answer: answer["pod"].startswith(f"{first}-"), "an answer of the first cluster")
        now = identity(ray_pods(kube, namespace))
        assert {pod: now[pod] for pod in pods} == pods, "as it was"

        service.annotate(undo=None)
        service.wait(lambda: service.active() == second, "the second cluster again")
        report = load.report()
    assert not report.failures, str(report)
    service.wait_settled()
    assert "undone" not in service.status()
