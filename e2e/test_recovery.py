"""What the thresholds do with real Ray: a hot update goes back, a dead service gets another cluster."""

import json

import pytest
import yaml

from e2e.manifests import PATIENT, cluster_spec, rayservice, serve_config, worker_group
from e2e.operators import Operator
from e2e.rayservices import Service
from e2e.support import Kube, condition

pytestmark = pytest.mark.timeout(900)

_SCALE = """
import json, sys, urllib.request
url = "http://127.0.0.1:8265/api/v1/applications/app/deployments/Greeter/scale"
body = json.dumps({"target_num_replicas": int(sys.argv[1])}).encode()
request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
print(urllib.request.urlopen(request).status)
"""


def _scaled_from_outside(greeting: str) -> str:
    config = yaml.safe_load(serve_config(greeting, num_replicas=1))
    config["applications"][0]["external_scaler_enabled"] = True
    return json.dumps(config)


def _replicas(service: Service) -> tuple[int, int]:
    """Ready and wanted, as the status tells."""
    app = service.status()["activeServiceStatus"]["applicationStatuses"]["app"]
    greeter = app["serveDeploymentStatuses"]["Greeter"]
    return greeter["replicasReady"], greeter["replicasTarget"]


def test_targets_of_an_external_scaler_outlive_a_hot_update(kube: Kube, namespace: str) -> None:
    kube.apply(rayservice("scaled", cluster_spec(worker_group()), _scaled_from_outside("Hello")), namespace)
    service = Service(kube, namespace, "scaled")
    service.wait_settled()
    head = service.head()["metadata"]["name"]
    assert kube.exec(namespace, head, "python", "-c", _SCALE, "3").split()[-1] == "200"
    service.wait(lambda: _replicas(service) == (3, 3), "three replicas")

    service.patch(serveConfigV2=_scaled_from_outside("Good day"))
    service.wait_answer(lambda answer: answer["greeting"] == "Good day", "the new config")
    service.wait_settled()
    assert _replicas(service) == (3, 3)


def test_a_hot_update_that_does_not_stay_healthy_goes_back(kube: Kube, namespace: str, operator: Operator) -> None:
    """Everything runs for a moment, then the health checks fail. The operator is killed while time counts."""
    manifest = rayservice("update", cluster_spec(worker_group()), _ill(False), deploymentUnhealthySecondThreshold=20)
    kube.apply(manifest, namespace)
    service = Service(kube, namespace, "update")
    good = service.wait_settled()["status"]["applied"]["goodConfigHash"]

    service.patch(serveConfigV2=_ill(True))
    service.wait(lambda: "unmovedSince" in service.status().get("progress", {}), "time counts")
    operator.kill()
    service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "RolledBack", "the way back told")
    obj = service.get()
    assert obj["status"]["failedUpdate"]["rolledBackTo"] == good
    assert "deploymentUnhealthySecondThreshold" in obj["status"]["failedUpdate"]["message"]
    assert "ill on purpose" in condition(obj, "Stalled")["message"]
    assert condition(obj, "Ready")["status"] == "True"
    assert service.answer()["pid"]


def test_a_service_that_dies_gets_another_cluster(kube: Kube, namespace: str, operator: Operator) -> None:
    """The config is put again, which does not help, then the cluster is replaced; the operator is killed on the way."""
    manifest = rayservice(
        "sick", cluster_spec(worker_group()), serve_config(import_path=PATIENT), deploymentUnhealthySecondThreshold=15
    )
    manifest["metadata"]["annotations"] = {"ray.io/auto-recovery": "true"}
    kube.apply(manifest, namespace)
    service = Service(kube, namespace, "sick")
    service.wait_settled()
    old = service.active()
    service.answer("/fall-ill")

    service.wait(lambda: service.status().get("recovery", {}).get("step") == "Reapplied", "the config put again")
    operator.kill()
    service.wait(lambda: service.status().get("recovery", {}).get("step") == "Replacing", "the cluster replaced")
    assert condition(service.get(), "Reconciling")["reason"] == "Recovering"
    service.wait(lambda: service.active() not in ("", old), "the new cluster took over", timeout=300)
    obj = service.wait_settled()
    assert obj["status"]["recovery"]["attempts"] == 1
    assert obj["status"]["recovery"]["reason"] == "DeploymentUnhealthy"
    # kube-proxy follows the slices a moment later; till then a request may end at the old cluster, which is silent.
    service.wait_answer(lambda answer: bool(answer["pod"]), "an answer of the new cluster")
    assert service.events("AutoRecovery")


def _ill(yes: bool) -> str:
    return serve_config(import_path=PATIENT, user_config={"ill": yes})
