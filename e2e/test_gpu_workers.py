"""GPU workers: limits of the pod become GPUs of Ray, and replicas that ask for one run there and nowhere else.

The node is made to say that it has GPUs; Kubernetes counts them and Ray counts them, and nobody looks inside. So what
is proved is everything up to the device: scheduling, flags of `ray start`, accelerator types, placement of replicas.
"""

import json
from collections.abc import Iterator

import pytest

from e2e.cluster import Kind
from e2e.manifests import cluster_spec, rayservice, serve_config, worker_group
from e2e.rayservices import Service
from e2e.support import Kube, Object

pytestmark = pytest.mark.timeout(900)

NAME = "model"
GPU = "nvidia.com/gpu"
ACCELERATOR = "accelerator_type:L4"

# Run in the head pod: what the cluster has, by Ray's own account.
_RESOURCES = """
import json, ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
print(json.dumps(ray.cluster_resources()))
"""


@pytest.fixture
def gpus(kube: Kube) -> Iterator[int]:
    """Two GPUs on the only node, for the length of the test."""
    if kube.target.kind is Kind.CURRENT:
        pytest.skip("writes GPUs into the status of nodes, which is not done to a cluster of yours")
    kube.advertise(GPU, 2)
    yield 2
    kube.advertise(GPU, None)


def test_replicas_on_gpus(kube: Kube, namespace: str, gpus: int) -> None:
    plain, gpu = worker_group("plain"), _gpu_group(replicas=1)
    on_gpu = {"num_cpus": 0.1, "num_gpus": 1, "accelerator_type": "L4"}
    kube.apply(rayservice(NAME, cluster_spec(plain, gpu), serve_config(ray_actor_options=on_gpu)), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    cluster, head = service.active(), service.head()["metadata"]["name"]

    assert service.answer()["pod"].startswith(f"{cluster}-gpu-worker-")
    has = _ray_has(kube, namespace, head)
    assert (has["GPU"], has[ACCELERATOR]) == (1, 1)
    assert kube.raycluster(namespace, cluster)["status"]["desiredGPU"] == "1"
    service.wait(lambda: len(service.ready_workers()) == 2, "both workers ready")

    # One more replica by a hot update, one more GPU worker in place: in whichever order they come.
    service.patch(
        serveConfigV2=serve_config(num_replicas=2, ray_actor_options=on_gpu),
        rayClusterConfig={"workerGroupSpecs": [plain, _gpu_group(replicas=gpus)]},
    )
    service.wait(lambda: len(service.ready_workers()) == 1 + gpus, "the second GPU worker")
    service.wait(lambda: _replicas(service) == gpus, "a replica on each GPU")
    service.wait_settled()
    assert service.active() == cluster
    assert _ray_has(kube, namespace, head)["GPU"] == gpus
    assert kube.raycluster(namespace, cluster)["status"]["desiredGPU"] == str(gpus)


def _gpu_group(replicas: int) -> Object:
    group = worker_group("gpu", replicas=replicas)
    group["template"]["spec"]["containers"][0]["resources"]["limits"][GPU] = 1
    return {**group, "resources": {ACCELERATOR: "1"}}


def _ray_has(kube: Kube, namespace: str, head: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(kube.exec(namespace, head, "python", "-c", _RESOURCES).splitlines()[-1])
    return found


def _replicas(service: Service) -> int:
    applications = service.status()["activeServiceStatus"]["applicationStatuses"]
    return int(applications["app"]["serveDeploymentStatuses"]["Greeter"]["replicasReady"])
