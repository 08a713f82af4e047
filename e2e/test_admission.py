"""The admission webhook as the chart installs it: the API server reaches the pods through the Service."""

import pytest

from e2e.localkube.errors import LocalKubeError
from e2e.manifests import cluster_spec, rayservice, worker_group
from e2e.operators import Operator, on_host
from e2e.rayservices import Service
from e2e.support import Kube, Object, condition, is_true, wait_for

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(on_host(), reason="the operator of OPERATOR=host has no Service"),
]


def _bad(name: str) -> Object:
    manifest: Object = rayservice(name, cluster_spec(worker_group()))
    manifest["spec"]["serveConfigV2"] = "applications: [{name: a, import_path: nonsense}]"
    return manifest


def _refusal(kube: Kube, namespace: str, manifest: Object) -> str:
    """What kubectl says when it is refused; empty when it is not."""
    try:
        kube.apply(manifest, namespace)
    except LocalKubeError as error:
        return str(error)
    kube.delete("rayservice", namespace, manifest["metadata"]["name"])
    return ""


def test_refuses_while_it_is_there_and_lets_everything_through_while_it_is_not(
    kube: Kube, namespace: str, operator: Operator
) -> None:
    def refused() -> str:
        return _refusal(kube, namespace, _bad("bad"))

    said = wait_for(refused, timeout=60, what="the webhook asked", describe=lambda: "nothing was refused")
    assert "spec.serveConfigV2.applications[0].import_path: 'nonsense' is no import path" in said
    assert kube.rayservices(namespace) == []

    operator.stop()
    try:
        kube.apply(_bad("let-in"), namespace)
    finally:
        operator.start()
    service = Service(kube, namespace, "let-in")
    service.wait(lambda: is_true(service.get(), "Stalled"), "told by the operator", timeout=60)
    assert "'nonsense' is no import path" in condition(service.get(), "Stalled")["message"]
    again = wait_for(refused, timeout=60, what="the webhook back", describe=lambda: "nothing was refused")
    assert "import_path" in again
