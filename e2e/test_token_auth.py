"""Token authentication: the dashboard refuses strangers, and the operator is none."""

import pytest

from e2e.manifests import cluster_spec, rayservice, worker_group
from e2e.rayservices import Service
from e2e.support import Kube

pytestmark = pytest.mark.timeout(900)

# Run in a pod, so that it reaches the dashboard on any cluster; prints the HTTP status.
_ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers=dict([sys.argv[2].split("=", 1)]) if len(sys.argv) > 2 else {})
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_service_with_token(kube: Kube, namespace: str) -> None:
    cluster = cluster_spec(worker_group(replicas=0), head_cpus=1, authOptions={"mode": "token"})
    kube.apply(rayservice("guarded", cluster), namespace)
    service = Service(kube, namespace, "guarded")
    service.wait_settled()
    assert service.answer()["greeting"] == "Hello"

    head = service.head()["metadata"]["name"]
    url = f"http://{service.name}-head-svc:8265/api/serve/applications/"

    def ask(*header: str) -> str:
        return kube.exec(namespace, head, "python", "-c", _ASK, url, *header).strip()

    assert ask() == "401"
    assert ask("Authorization=Bearer wrong") == "403"
    secret = kube.plain(kube.core.read_namespaced_secret(service.active(), namespace))
    assert set(secret["data"]) == {"auth_token"}
    token = kube.exec(namespace, head, "bash", "-c", 'printf %s "$RAY_AUTH_TOKEN"')
    assert ask(f"Authorization=Bearer {token}") == "200"
