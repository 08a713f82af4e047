"""An upgrade for which there is no room: it is told with numbers before anything is built, and goes on when there is.

The node is made to say that it has so many of a device that is not there; Kubernetes counts them like GPUs.
"""

from collections.abc import Iterator

import pytest

from e2e.cluster import Kind
from e2e.manifests import cluster_spec, rayservice, with_env, worker_group
from e2e.rayservices import Service, role, watched
from e2e.support import Kube, Object, is_true

pytestmark = pytest.mark.timeout(900)

NAME = "crowded"
DEVICE = "example.com/accelerator"


@pytest.fixture
def device(kube: Kube) -> Iterator[None]:
    """One on the only node, for the length of the test."""
    if kube.target.kind is Kind.CURRENT:
        pytest.skip("writes devices into the status of nodes, which is not done to a cluster of yours")
    kube.advertise(DEVICE, 1)
    yield
    kube.advertise(DEVICE, None)


def test_upgrade_that_does_not_fit_is_told_and_goes_on_when_there_is_room(
    kube: Kube, namespace: str, device: None
) -> None:
    spec = cluster_spec(_group())
    kube.apply(rayservice(NAME, spec, rayClusterDeletionDelaySeconds=1), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    old = service.active()

    with watched(service) as history:
        service.patch(rayClusterConfig=with_env(spec, "RELEASE", "2"))
        warning = service.wait(lambda: service.events("InsufficientCapacity"), "warned")[0]
        service.wait(lambda: _capacity(service.get()).get("pods") == 1, "all but the worker have a node", timeout=120)
    numbers = "1 of 2 pods fit now: nodes that match group small lack 1 example.com/accelerator"
    assert warning["type"] == "Warning"
    assert numbers in warning["message"]
    assert "until room is made" in warning["message"]

    # In the write that names the new cluster, which is built after it.
    named = next(state for state in history.states if role(state, "pending"))
    assert (_capacity(named)["pods"], _capacity(named)["fit"]) == (2, 1)
    assert numbers in _capacity(named)["message"]
    assert named["status"]["upgrade"]["needs"].startswith("2 pods with ")
    assert "rayClusterStatus" not in named["status"]["pendingServiceStatus"]

    # A warning and no refusal: what waits is no failure, and the old cluster serves.
    obj = service.get()
    assert is_true(obj, "Ready")
    assert not is_true(obj, "Stalled")
    assert (_capacity(obj)["pods"], _capacity(obj)["fit"]) == (1, 0)
    assert service.answer()["pod"].startswith(f"{old}-")

    kube.advertise(DEVICE, 2)
    service.wait(lambda: service.active() not in {"", old}, "the new cluster active", timeout=240)
    upgrade = service.wait_settled()["status"]["upgrade"]
    assert upgrade["phase"] == "Promoted"
    assert not {"capacity", "needs", "deadline"} & upgrade.keys()


def _capacity(service: Object) -> Object:
    found: Object = service.get("status", {}).get("upgrade", {}).get("capacity", {})
    return found


def _group() -> Object:
    group = worker_group()
    resources = group["template"]["spec"]["containers"][0]["resources"]
    for amounts in (resources["requests"], resources["limits"]):
        amounts[DEVICE] = "1"
    return group
