"""Each rule refuses a manifest, names the field and what to do, and lets the corrected manifest pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rayservice_operator.api.raycluster import parse_raycluster
from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.validation import validate_raycluster, validate_rayservice
from rayservice_operator.core.violations import Violation
from tests.models.manifests import DELETE, changed, pod, raycluster, rayservice

CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
GROUP = f"{CLUSTER}.workerGroupSpecs[0]"
HEAD_ENV = f"{HEAD}.template.spec.containers[0].env"
GCS = f"{CLUSTER}.gcsFaultToleranceOptions"
STRATEGY = "spec.upgradeStrategy"
APPS = "spec.serveConfigV2.applications"
INITIALIZING = "metadata.annotations[ray.io/initializing-timeout]"


@dataclass(frozen=True)
class Case:
    """``wrong`` and ``right`` are changes of the valid RayService; ``at`` is the field that is complained about."""

    id: str
    wrong: Mapping[str, Any]
    right: Mapping[str, Any]
    at: str
    says: str
    fix: str = ""


def apps(*entries: str) -> dict[str, str]:
    """A serve config with these applications, each written as an inline mapping."""
    return {"spec.serveConfigV2": "applications:\n" + "".join(f"- {entry}\n" for entry in entries)}


INCREMENTAL = {
    f"{STRATEGY}.type": "NewClusterWithIncrementalUpgrade",
    f"{STRATEGY}.clusterUpgradeOptions": {
        "maxSurgePercent": 50,
        "stepSizePercent": 5,
        "intervalSeconds": 10,
        "gatewayClassName": "istio",
    },
    f"{CLUSTER}.enableInTreeAutoscaling": True,
}
REDIS = {f"{GCS}.redisAddress": "redis:6379"}
V2 = {f"{CLUSTER}.enableInTreeAutoscaling": True, f"{CLUSTER}.autoscalerOptions.version": "v2"}

CASES = [
    # Names.
    Case(
        "name too long", {"metadata.name": "a" * 48}, {"metadata.name": "a" * 47}, "metadata.name", "48", "at most 47"
    ),
    Case("name starts with a digit", {"metadata.name": "1st"}, {"metadata.name": "first"}, "metadata.name", "'1st'"),
    Case("name with a dot", {"metadata.name": "a.b"}, {"metadata.name": "a-b"}, "metadata.name", "'a.b'"),
    # The service.
    Case("initializing timeout is no duration", {INITIALIZING: "soon"}, {INITIALIZING: "30m"}, INITIALIZING, "'soon'"),
    Case("initializing timeout is zero", {INITIALIZING: "0s"}, {INITIALIZING: "600"}, INITIALIZING, "'0s'"),
    Case(
        "negative deletion delay",
        {"spec.rayClusterDeletionDelaySeconds": -1},
        {"spec.rayClusterDeletionDelaySeconds": 0},
        "spec.rayClusterDeletionDelaySeconds",
        "is -1",
    ),
    Case(
        "serve service with a bad name",
        {"spec.serveService.metadata.name": "My_Service"},
        {"spec.serveService.metadata.name": "my-service"},
        "spec.serveService.metadata.name",
        "'My_Service'",
    ),
    Case(
        "ports of the serve service are no list",
        {"spec.serveService.spec.ports": {"port": 80}},
        {"spec.serveService.spec.ports": [{"port": 80}]},
        "spec.serveService.spec.ports",
        "must be a list",
    ),
    Case(
        "progress deadline of zero",
        {f"{STRATEGY}.progressDeadlineSeconds": 0},
        {},
        f"{STRATEGY}.progressDeadlineSeconds",
        "is 0",
        "1 or more",
    ),
    Case(
        "no pod could be replaced in place",
        {f"{STRATEGY}.inPlace": {"maxUnavailable": 0}},
        {f"{STRATEGY}.inPlace": {"maxUnavailable": 0, "maxSurge": 1}},
        f"{STRATEGY}.inPlace.maxUnavailable",
        "no pod could ever be replaced",
        "1 or more",
    ),
    Case(
        "negative surge",
        {f"{STRATEGY}.inPlace": {"maxSurge": -1}},
        {f"{STRATEGY}.inPlace": {"maxSurge": 0}},
        f"{STRATEGY}.inPlace.maxSurge",
        "is -1",
        "0 or more",
    ),
    # Pods.
    Case(
        "head without containers",
        {f"{HEAD}.template.spec.containers": []},
        {},
        f"{HEAD}.template.spec.containers",
        "is empty",
        "runs Ray",
    ),
    Case(
        "worker template without a spec",
        {f"{GROUP}.template": {}},
        {f"{GROUP}.template": pod("worker")},
        f"{GROUP}.template.spec.containers",
        "is empty",
    ),
    Case(
        "containers are a mapping",
        {f"{HEAD}.template.spec.containers": {"name": "ray"}},
        {f"{HEAD}.template.spec.containers": [{"name": "ray", "image": "ray"}]},
        f"{HEAD}.template.spec.containers",
        "must be a list, but is a mapping",
    ),
    Case(
        "env is a mapping",
        {HEAD_ENV: {"A": "b"}},
        {HEAD_ENV: [{"name": "A", "value": "b"}]},
        HEAD_ENV,
        "must be a list",
    ),
    Case(
        "flag with dashes",
        {f"{HEAD}.rayStartParams[--num-cpus]": "0"},
        {f"{HEAD}.rayStartParams[num-cpus]": "0"},
        f"{HEAD}.rayStartParams[--num-cpus]",
        "starts with a dash",
        "'num-cpus'",
    ),
    Case(
        "labels as a flag",
        {f"{GROUP}.rayStartParams.labels": "a=b"},
        {f"{GROUP}.labels": {"a": "b"}},
        f"{GROUP}.rayStartParams.labels",
        "is not allowed",
        f"{GROUP}.labels",
    ),
    Case(
        "label with bad syntax",
        {f"{GROUP}.labels": {"ray.io/zone": "a b"}},
        {f"{GROUP}.labels": {"ray.io/zone": "a-b"}},
        f"{GROUP}.labels[ray.io/zone]",
        "ray.io/zone=a b",
    ),
    Case(
        "CPUs in resources and as a flag",
        {f"{HEAD}.resources.CPU": "4", f"{HEAD}.rayStartParams[num-cpus]": "4"},
        {f"{HEAD}.resources.CPU": "4"},
        f"{HEAD}.resources.CPU",
        "rayStartParams[num-cpus]",
    ),
    Case(
        "custom resource in both places",
        {f"{GROUP}.resources.fpga": "1", f"{GROUP}.rayStartParams.resources": '{"fpga": 1}'},
        {f"{GROUP}.resources.fpga": "1", f"{GROUP}.rayStartParams[num-cpus]": "1"},
        f"{GROUP}.resources.fpga",
        "rayStartParams[resources]",
    ),
    # Worker groups.
    Case(
        "two groups of one name",
        {f"{CLUSTER}.workerGroupSpecs[1]": {"groupName": "small", "template": pod("ray")}},
        {f"{CLUSTER}.workerGroupSpecs[1]": {"groupName": "large", "template": pod("ray")}},
        f"{CLUSTER}.workerGroupSpecs[1].groupName",
        "workerGroupSpecs[0]",
    ),
    Case(
        "group name that no pod can have",
        {f"{GROUP}.groupName": "Small_Group"},
        {f"{GROUP}.groupName": "small-group"},
        f"{GROUP}.groupName",
        "'Small_Group'",
    ),
    Case(
        "group named as the head",
        {f"{GROUP}.groupName": "headgroup", f"{CLUSTER}.enableInTreeAutoscaling": True},
        {f"{GROUP}.groupName": "headgroup"},
        f"{GROUP}.groupName",
        "autoscaler's name for the head",
    ),
    Case("negative replicas", {f"{GROUP}.replicas": -1}, {f"{GROUP}.replicas": 1}, f"{GROUP}.replicas", "is -1"),
    Case(
        "minimum above maximum",
        {f"{GROUP}.minReplicas": 6},
        {f"{GROUP}.minReplicas": 5},
        f"{GROUP}.minReplicas",
        "more than maxReplicas (5)",
    ),
    Case(
        "negative idle timeout",
        {f"{GROUP}.idleTimeoutSeconds": -1},
        {f"{GROUP}.idleTimeoutSeconds": 0},
        f"{GROUP}.idleTimeoutSeconds",
        "is -1",
    ),
    Case(
        "suspended group under the autoscaler",
        {f"{GROUP}.suspend": True, f"{CLUSTER}.enableInTreeAutoscaling": True},
        {f"{GROUP}.suspend": True},
        f"{GROUP}.suspend",
        "enableInTreeAutoscaling",
    ),
    # Autoscaler.
    Case(
        "autoscaler version in two places",
        {**V2, HEAD_ENV: [{"name": "RAY_enable_autoscaler_v2", "value": "1"}]},
        V2,
        f"{HEAD_ENV}.RAY_enable_autoscaler_v2",
        "autoscalerOptions.version",
    ),
    Case(
        "autoscaler v2 with containers that restart",
        {**V2, f"{GROUP}.template.spec.restartPolicy": "Always"},
        {**V2, f"{GROUP}.template.spec.restartPolicy": "Never"},
        f"{GROUP}.template.spec.restartPolicy",
        "autoscaler v2",
    ),
    Case(
        "reserved variable of the autoscaler",
        {f"{CLUSTER}.autoscalerOptions.env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD", "value": "x"}]},
        {f"{CLUSTER}.autoscalerOptions.env": [{"name": "A", "value": "x"}]},
        f"{CLUSTER}.autoscalerOptions.env[0].name",
        "set by the operator",
    ),
    # GCS fault tolerance.
    Case(
        "fault tolerance by annotation and options",
        {"metadata.annotations[ray.io/ft-enabled]": "true", **REDIS},
        REDIS,
        "metadata.annotations[ray.io/ft-enabled]",
        "beside gcsFaultToleranceOptions",
    ),
    Case(
        "Redis address behind the operator's back",
        {HEAD_ENV: [{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}]},
        {
            HEAD_ENV: [{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}],
            "metadata.annotations[ray.io/ft-enabled]": "true",
        },
        f"{HEAD_ENV}.RAY_REDIS_ADDRESS",
        "without the operator knowing",
    ),
    Case("no Redis address", {GCS: {"backend": "redis"}}, REDIS, f"{GCS}.redisAddress", "is missing"),
    Case(
        "Redis password as an environment variable",
        {**REDIS, HEAD_ENV: [{"name": "REDIS_PASSWORD", "value": "x"}]},
        {**REDIS, f"{GCS}.redisPassword.value": "x"},
        f"{HEAD_ENV}.REDIS_PASSWORD",
        "not allowed here",
        f"{GCS}.redisPassword",
    ),
    Case(
        "Redis password as a flag",
        {**REDIS, f"{HEAD}.rayStartParams[redis-password]": "x"},
        {**REDIS, f"{GCS}.redisPassword.valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
        f"{HEAD}.rayStartParams[redis-password]",
        "not allowed here",
    ),
    Case(
        "Redis password given twice",
        {**REDIS, f"{GCS}.redisPassword": {"value": "x", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}},
        {**REDIS, f"{GCS}.redisPassword": {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}},
        f"{GCS}.redisPassword",
        "both value and valueFrom",
    ),
    # Authentication.
    Case(
        "token with a Ray that does not know it",
        {f"{CLUSTER}.authOptions.mode": "token", f"{CLUSTER}.rayVersion": "2.51.1"},
        {f"{CLUSTER}.authOptions.mode": "token"},
        f"{CLUSTER}.rayVersion",
        "'2.51.1'",
        "version of Ray",
    ),
    Case(
        "token without a version",
        {f"{CLUSTER}.authOptions.mode": "token", f"{CLUSTER}.rayVersion": DELETE},
        {f"{CLUSTER}.authOptions.mode": "disabled", f"{CLUSTER}.rayVersion": DELETE},
        f"{CLUSTER}.rayVersion",
        "2.52",
    ),
    # Services.
    Case(
        "unknown service type",
        {f"{HEAD}.serviceType": "Loadbalancer"},
        {f"{HEAD}.serviceType": "LoadBalancer"},
        f"{HEAD}.serviceType",
        "'Loadbalancer'",
    ),
    Case(
        "head service with a name",
        {f"{HEAD}.headService.metadata.name": "mine"},
        {f"{HEAD}.headService.metadata.labels": {"a": "b"}},
        f"{HEAD}.headService.metadata.name",
        "two clusters",
    ),
    Case(
        "upgrade strategy of the cluster",
        {f"{CLUSTER}.upgradeStrategy.type": "Recreate"},
        {f"{STRATEGY}.type": "NewCluster"},
        f"{CLUSTER}.upgradeStrategy",
        "standalone RayClusters",
        "spec.upgradeStrategy",
    ),
    # Incremental upgrade.
    Case(
        "incremental without autoscaling",
        {**INCREMENTAL, f"{CLUSTER}.enableInTreeAutoscaling": False},
        {
            **INCREMENTAL,
            f"{CLUSTER}.enableInTreeAutoscaling": False,
            f"{STRATEGY}.clusterUpgradeOptions.maxSurgePercent": 100,
        },
        f"{CLUSTER}.enableInTreeAutoscaling",
        "maxSurgePercent below 100",
    ),
    Case(
        "incremental without options",
        {f"{STRATEGY}.type": "NewClusterWithIncrementalUpgrade", f"{CLUSTER}.enableInTreeAutoscaling": True},
        INCREMENTAL,
        f"{STRATEGY}.clusterUpgradeOptions",
        "is missing",
    ),
    Case(
        "incremental with a surge above all",
        {**INCREMENTAL, f"{STRATEGY}.clusterUpgradeOptions.maxSurgePercent": 101},
        INCREMENTAL,
        f"{STRATEGY}.clusterUpgradeOptions.maxSurgePercent",
        "is 101",
    ),
    Case(
        "incremental with steps above the surge",
        {**INCREMENTAL, f"{STRATEGY}.clusterUpgradeOptions.stepSizePercent": 51},
        INCREMENTAL,
        f"{STRATEGY}.clusterUpgradeOptions.stepSizePercent",
        "is 51",
    ),
    Case(
        "incremental without an interval",
        {**INCREMENTAL, f"{STRATEGY}.clusterUpgradeOptions.intervalSeconds": DELETE},
        INCREMENTAL,
        f"{STRATEGY}.clusterUpgradeOptions.intervalSeconds",
        "is missing",
    ),
    Case(
        "incremental that cannot advance",
        {
            **INCREMENTAL,
            f"{STRATEGY}.clusterUpgradeOptions.maxSurgePercent": 0,
            f"{STRATEGY}.clusterUpgradeOptions.stepSizePercent": 0,
        },
        INCREMENTAL,
        f"{STRATEGY}.clusterUpgradeOptions.maxSurgePercent",
        "could never advance",
    ),
    # Serve config.
    Case("serve config is no YAML", {"spec.serveConfigV2": "a: ["}, {}, "spec.serveConfigV2", "not valid YAML"),
    Case("serve config is a list", {"spec.serveConfigV2": "- a"}, {}, "spec.serveConfigV2", "must be a mapping"),
    Case(
        "serve config without applications",
        {"spec.serveConfigV2": "import_path: a:b"},
        apps("{import_path: 'a:b'}"),
        APPS,
        "is missing",
        "Move `import_path`",
    ),
    Case(
        "two applications of one name",
        apps("{name: a, import_path: 'a:b', route_prefix: /a}", "{name: a, import_path: 'a:c', route_prefix: /b}"),
        apps("{name: a, import_path: 'a:b', route_prefix: /a}", "{name: b, import_path: 'a:c', route_prefix: /b}"),
        f"{APPS}[1].name",
        "'a'",
    ),
    Case(
        "application without code",
        apps("{name: a}"),
        apps("{name: a, import_path: a.b}"),
        f"{APPS}[0].import_path",
        "is missing",
    ),
    Case(
        "import path without an attribute",
        apps("{name: a, import_path: fruit}"),
        apps("{name: a, import_path: 'fruit:app'}"),
        f"{APPS}[0].import_path",
        "'fruit'",
    ),
    Case(
        "two applications at one prefix",
        apps("{name: a, import_path: 'a:b'}", "{name: b, import_path: 'a:c'}"),
        apps("{name: a, import_path: 'a:b'}", "{name: b, import_path: 'a:c', route_prefix: null}"),
        f"{APPS}[1].route_prefix",
        "application 'a'",
    ),
    Case(
        "prefix without a slash",
        apps("{name: a, import_path: 'a:b', route_prefix: a}"),
        apps("{name: a, import_path: 'a:b', route_prefix: /a}"),
        f"{APPS}[0].route_prefix",
        "does not start with a slash",
    ),
    Case(
        "prefix that ends with a slash",
        apps("{name: a, import_path: 'a:b', route_prefix: /a/}"),
        apps("{name: a, import_path: 'a:b', route_prefix: /}"),
        f"{APPS}[0].route_prefix",
        "ends with a slash",
    ),
    Case(
        "prefix with a wildcard",
        apps("{name: a, import_path: 'a:b', route_prefix: '/{x}'}"),
        apps("{name: a, import_path: 'a:b', route_prefix: /x}"),
        f"{APPS}[0].route_prefix",
        "wildcard",
    ),
    Case(
        "port of one application",
        apps("{name: a, import_path: 'a:b', port: 8001}"),
        {"spec.serveConfigV2": "http_options: {port: 8001}\napplications:\n- {name: a, import_path: 'a:b'}\n"},
        f"{APPS}[0].port",
        "one application",
        "http_options.port",
    ),
    # Not available in this version.
    Case("multi-host", {f"{GROUP}.numOfHosts": 2}, {f"{GROUP}.numOfHosts": 1}, f"{GROUP}.numOfHosts", "not available"),
    Case(
        "TLS",
        {f"{CLUSTER}.tlsOptions.enabled": True},
        {f"{CLUSTER}.tlsOptions.enabled": False},
        f"{CLUSTER}.tlsOptions.enabled",
        "not available",
    ),
    Case(
        "network policy",
        {f"{CLUSTER}.networkPolicy": {"mode": "DenyAll"}},
        {},
        f"{CLUSTER}.networkPolicy",
        "not available",
        "ray.io/cluster",
    ),
    Case(
        "history server",
        {f"{CLUSTER}.historyServerOptions": {"collectorOptions": {}}},
        {},
        f"{CLUSTER}.historyServerOptions",
        "not available",
    ),
    Case(
        "RocksDB",
        {f"{GCS}.backend": "rocksdb"},
        {**REDIS, f"{GCS}.backend": "redis"},
        f"{GCS}.backend",
        "not available",
    ),
    Case(
        "idle termination",
        {f"{CLUSTER}.idleTerminationOptions": {"timeoutSeconds": 60}},
        {},
        f"{CLUSTER}.idleTerminationOptions",
        "not available",
        "drivers",
    ),
    Case(
        "idle suspend",
        {f"{CLUSTER}.idleSuspend": True},
        {f"{CLUSTER}.suspend": True},
        f"{CLUSTER}.idleSuspend",
        "not available",
    ),
    Case(
        "tokens of Kubernetes",
        {f"{CLUSTER}.authOptions": {"mode": "token", "enableK8sTokenAuth": True}},
        {f"{CLUSTER}.authOptions": {"mode": "token"}},
        f"{CLUSTER}.authOptions.enableK8sTokenAuth",
        "not available",
        "Secret",
    ),
]


def check(changes: Mapping[str, Any]) -> list[Violation]:
    """Violations of the valid RayService with ``changes``."""
    manifest = changed(rayservice(), changes)
    return validate_rayservice(manifest, parse_rayservice(manifest))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refuses_with_field_and_fix(case: Case) -> None:
    found = [v for v in check(case.wrong) if v.field == case.at and case.says in v.problem]
    assert found, check(case.wrong)
    assert found[0].fix
    assert case.fix in found[0].fix


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_accepts_the_corrected_twin(case: Case) -> None:
    assert check(case.right) == []


def test_every_mistake_is_told_at_once() -> None:
    found = check({"metadata.name": "1st", f"{GROUP}.replicas": -1, "spec.serveConfigV2": "[]"})
    assert [v.field for v in found] == ["metadata.name", f"{GROUP}.replicas", "spec.serveConfigV2"]


def test_a_shape_error_in_one_template_does_not_hide_the_others() -> None:
    found = check({f"{HEAD}.template.spec": [], f"{GROUP}.template.spec.containers": []})
    assert [v.field for v in found] == [f"{HEAD}.template.spec", f"{GROUP}.template.spec.containers"]


@dataclass(frozen=True)
class ClusterCase:
    """A rule that differs between standalone RayClusters and those of a RayService."""

    id: str
    changes: Mapping[str, Any]
    standalone: list[str] = field(default_factory=list)
    of_service: list[str] = field(default_factory=list)


CLUSTER_CASES = [
    ClusterCase("valid", {}),
    ClusterCase("longest name", {"metadata.name": "a" * 53}),
    ClusterCase("name too long", {"metadata.name": "a" * 54}, ["metadata.name"], ["metadata.name"]),
    ClusterCase(
        "named head service",
        {"spec.headGroupSpec.headService.metadata.name": "mine"},
        of_service=["spec.headGroupSpec.headService.metadata.name"],
    ),
    ClusterCase("no upgrades", {"spec.upgradeStrategy.type": "None"}, of_service=["spec.upgradeStrategy"]),
    ClusterCase(
        "recreate",
        {"spec.upgradeStrategy.type": "Recreate"},
        ["spec.upgradeStrategy.type"],
        ["spec.upgradeStrategy"],
    ),
]


@pytest.mark.parametrize("case", CLUSTER_CASES, ids=lambda case: case.id)
def test_raycluster(case: ClusterCase) -> None:
    manifest = changed(raycluster(), case.changes)
    parsed = parse_raycluster(manifest)
    assert [v.field for v in validate_raycluster(manifest, parsed, from_service=False)] == case.standalone
    assert [v.field for v in validate_raycluster(manifest, parsed, from_service=True)] == case.of_service
