"""The generated definitions: complete, described, structural, small and up to date."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayservice_operator.api import crd

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
CHART = ROOT / "charts" / "rayservice-operator"

# Keys that a structural schema may have (apiextensions.k8s.io/v1 JSONSchemaProps), as far as we use them.
STRUCTURAL = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minimum",
    "nullable",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}

KUBERAY_SPEC = """
serveConfigV2 rayClusterConfig upgradeStrategy serveService excludeHeadPodFromServeSvc rayClusterDeletionDelaySeconds
suspend managedBy serviceUnhealthySecondThreshold deploymentUnhealthySecondThreshold
upgradeStrategy.type upgradeStrategy.clusterUpgradeOptions.maxSurgePercent
upgradeStrategy.clusterUpgradeOptions.stepSizePercent upgradeStrategy.clusterUpgradeOptions.intervalSeconds
upgradeStrategy.clusterUpgradeOptions.gatewayClassName
"""

KUBERAY_CLUSTER = """
rayVersion headGroupSpec.template headGroupSpec.rayStartParams headGroupSpec.resources headGroupSpec.labels
headGroupSpec.serviceType headGroupSpec.headService headGroupSpec.enableIngress headGroupSpec.ingressOptions.host
headGroupSpec.ingressOptions.path headGroupSpec.ingressOptions.pathType headGroupSpec.ingressOptions.tls
headServiceAnnotations workerGroupSpecs.groupName workerGroupSpecs.template workerGroupSpecs.replicas
workerGroupSpecs.minReplicas workerGroupSpecs.maxReplicas workerGroupSpecs.rayStartParams workerGroupSpecs.resources
workerGroupSpecs.labels workerGroupSpecs.numOfHosts workerGroupSpecs.idleTimeoutSeconds workerGroupSpecs.priority
workerGroupSpecs.scaleStrategy.workersToDelete workerGroupSpecs.suspend enableInTreeAutoscaling
autoscalerOptions.version autoscalerOptions.idleTimeoutSeconds autoscalerOptions.upscalingMode
autoscalerOptions.resources autoscalerOptions.image autoscalerOptions.imagePullPolicy
autoscalerOptions.securityContext autoscalerOptions.env autoscalerOptions.envFrom autoscalerOptions.volumeMounts
autoscalerOptions.command autoscalerOptions.args gcsFaultToleranceOptions.backend
gcsFaultToleranceOptions.redisAddress gcsFaultToleranceOptions.redisUsername.value
gcsFaultToleranceOptions.redisUsername.valueFrom gcsFaultToleranceOptions.redisPassword.value
gcsFaultToleranceOptions.redisPassword.valueFrom gcsFaultToleranceOptions.externalStorageNamespace
gcsFaultToleranceOptions.storage.claimName gcsFaultToleranceOptions.storage.size
gcsFaultToleranceOptions.storage.storageClassName gcsFaultToleranceOptions.storage.accessModes
gcsFaultToleranceOptions.storage.subPath gcsFaultToleranceOptions.storage.deletionPolicy authOptions.mode
authOptions.secretName authOptions.enableK8sTokenAuth suspend managedBy upgradeStrategy.type networkPolicy.mode
networkPolicy.head networkPolicy.worker networkPolicy.workerGroups tlsOptions.enabled
historyServerOptions.collectorOptions idleTerminationOptions.timeoutSeconds idleTerminationOptions.policy idleSuspend
"""

SERVICE_STATUS = """
conditions.type conditions.status conditions.reason conditions.message conditions.lastTransitionTime
conditions.observedGeneration serviceStatus numServeEndpoints observedGeneration lastUpdateTime
activeServiceStatus.rayClusterName activeServiceStatus.applicationStatuses.*.status
activeServiceStatus.applicationStatuses.*.message
activeServiceStatus.applicationStatuses.*.serveDeploymentStatuses.*.status
activeServiceStatus.applicationStatuses.*.serveDeploymentStatuses.*.message
activeServiceStatus.applicationStatuses.*.serveDeploymentStatuses.*.replicasReady
activeServiceStatus.applicationStatuses.*.serveDeploymentStatuses.*.replicasTarget
activeServiceStatus.rayClusterStatus.head.podIP activeServiceStatus.targetCapacity
activeServiceStatus.trafficRoutedPercent activeServiceStatus.lastTrafficMigratedTime
pendingServiceStatus.rayClusterName pendingServiceStatus.appliedConfigHash pendingServiceStatus.lastUpdateTime
upgrade.strategy upgrade.from upgrade.to upgrade.phase upgrade.started upgrade.deadline upgrade.step upgrade.message
applied.configHash applied.specHash applied.revision applied.time
"""

CLUSTER_STATUS = """
state reason conditions.type desiredCPU desiredMemory desiredGPU desiredTPU readyWorkerReplicas
availableWorkerReplicas desiredWorkerReplicas minWorkerReplicas maxWorkerReplicas endpoints head.podIP head.podName
head.serviceIP head.serviceName stateTransitionTimes lastUpdateTime observedGeneration
"""


def schema(plural: str) -> dict[str, Any]:
    """The OpenAPI schema of one kind."""
    definition = yaml.safe_load((CRDS / f"ray.io_{plural}.yaml").read_text(encoding="utf-8"))
    result: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return result


def has(node: dict[str, Any], path: str) -> bool:
    """Whether a dotted path is declared; lists are stepped into, ``*`` stands for any key of a map."""
    for key in path.split("."):
        while "items" in node:
            node = node["items"]
        if key == "*":
            node = node["additionalProperties"]
        elif key in node.get("properties", {}):
            node = node["properties"][key]
        else:
            return False
    return True


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside ``node``."""
    yield path, node
    for key, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[{key}]")


@pytest.mark.parametrize(
    ("plural", "part", "fields"),
    [
        ("rayservices", "spec", KUBERAY_SPEC),
        ("rayservices", "spec", " ".join(f"rayClusterConfig.{path}" for path in KUBERAY_CLUSTER.split())),
        ("rayclusters", "spec", KUBERAY_CLUSTER),
        ("rayservices", "status", SERVICE_STATUS),
        ("rayclusters", "status", CLUSTER_STATUS),
    ],
    ids=["service spec", "cluster spec in a service", "cluster spec", "service status", "cluster status"],
)
def test_has_every_field(plural: str, part: str, fields: str) -> None:
    root = schema(plural)["properties"][part]
    assert [path for path in fields.split() if not has(root, path)] == []


@pytest.mark.parametrize("plural", ["rayservices", "rayclusters"])
def test_is_structural_and_described(plural: str) -> None:
    for path, node in nodes(schema(plural)):
        assert set(node) <= STRUCTURAL, path
        any_type = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or any_type, path
        named = not path.endswith(("[items]", "[additionalProperties]")) and path != ".metadata"
        assert not named or node.get("description"), path


def test_defaults_stand_in_rayclusters_only() -> None:
    """The Ray autoscaler's JSON patches need them there; in a RayService they would show as drift from Git."""
    group = schema("rayclusters")["properties"]["spec"]["properties"]["workerGroupSpecs"]["items"]["properties"]
    found = {key: node["default"] for key, node in group.items() if "default" in node}
    assert found == {
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": 2147483647,
        "numOfHosts": 1,
        "scaleStrategy": {},
    }
    assert [path for path, node in nodes(schema("rayservices")) if "default" in node] == [".status"]


@pytest.mark.parametrize("plural", ["rayservices", "rayclusters"])
def test_is_small(plural: str) -> None:
    assert (CRDS / f"ray.io_{plural}.yaml").stat().st_size < 100_000


def test_committed_files_are_up_to_date() -> None:
    assert crd.main(["--out", str(CRDS), "--chart", str(CHART), "--check"]) == 0


def test_check_finds_a_stale_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, chart = tmp_path / "crds", tmp_path / "chart"
    arguments = ["--out", str(out), "--chart", str(chart)]
    assert crd.main([*arguments, "--check"]) == 1
    assert crd.main(arguments) == 0
    assert crd.main([*arguments, "--check"]) == 0
    stale = chart / crd.CHART_FOLDER / "ray.io_rayclusters.yaml"
    stale.write_text("edited by hand\n", encoding="utf-8")
    capsys.readouterr()
    assert crd.main([*arguments, "--check"]) == 1
    assert str(stale) in capsys.readouterr().err
    shutil.rmtree(out)
    assert crd.main([*arguments, "--check"]) == 1
