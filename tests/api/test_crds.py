"""The definitions in a real API server: what it keeps, fills in, refuses and prints."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from e2e.localkube import light
from e2e.localkube.errors import LocalKubeError
from tests.models.manifests import DELETE, changed, documents, pod, raycluster, rayservice
from tests.models.test_manifests import missing, without_nulls

MANIFESTS = [
    (name, manifest)
    for folder in ("", "unavailable")
    for kind in ("RayService", "RayCluster")
    for name, manifest in documents(kind, folder)
]


def apply(api: light.Api, namespace: str, manifest: dict[str, Any], *options: str) -> dict[str, Any]:
    """Server-side apply with kubectl's strict validation; the object as stored."""
    manifest = changed(manifest, {"metadata.namespace": namespace})
    out = api.kubectl("apply", "--server-side", "-o", "json", *options, "-f", "-", stdin=yaml.safe_dump(manifest))
    stored: dict[str, Any] = json.loads(out)
    return stored


def refusal(api: light.Api, namespace: str, manifest: dict[str, Any]) -> str:
    """The API server's message."""
    with pytest.raises(LocalKubeError) as caught:
        apply(api, namespace, manifest, "--dry-run=server")
    return str(caught.value)


@pytest.mark.parametrize("manifest", [m for _, m in MANIFESTS], ids=[m["metadata"]["name"] for _, m in MANIFESTS])
def test_manifest_is_stored_whole(apiserver: light.Api, namespace: str, manifest: dict[str, Any]) -> None:
    apply(apiserver, namespace, manifest)
    name = manifest["metadata"]["name"]
    stored = json.loads(apiserver.kubectl("get", manifest["kind"], name, "-n", namespace, "-o", "json"))
    assert list(missing(without_nulls(manifest["spec"]), stored["spec"])) == []


def test_client_side_apply_fits_its_annotation(apiserver: light.Api, namespace: str) -> None:
    for kind in ("rayservices", "rayclusters"):
        text = apiserver.kubectl("get", "crd", f"{kind}.ray.io", "-o", "json")
        assert len(text) < 256 * 1024
    manifest = yaml.safe_dump(changed(rayservice(), {"metadata.namespace": namespace}))
    apiserver.kubectl("apply", "-f", "-", stdin=manifest)
    apiserver.kubectl("apply", "-f", "-", stdin=manifest)


def test_rayservice_gets_no_defaults_in_spec(apiserver: light.Api, namespace: str) -> None:
    manifest = rayservice()
    assert apply(apiserver, namespace, manifest)["spec"] == manifest["spec"]


def test_raycluster_gets_what_the_autoscaler_patches(apiserver: light.Api, namespace: str) -> None:
    manifest = changed(raycluster(), {"spec.workerGroupSpecs": [{"groupName": "g", "template": pod("ray")}]})
    apply(apiserver, namespace, manifest)
    # As Ray's autoscaler does: "replace" fails where the path is absent.
    patch = [
        {"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": 2},
        {"op": "replace", "path": "/spec/workerGroupSpecs/0/scaleStrategy", "value": {"workersToDelete": ["a"]}},
    ]
    out = apiserver.kubectl(
        "patch", "rcl", "example", "-n", namespace, "--type=json", "-p", json.dumps(patch), "-o", "json"
    )
    group = json.loads(out)["spec"]["workerGroupSpecs"][0]
    assert {key: value for key, value in group.items() if key != "template"} == {
        "groupName": "g",
        "replicas": 2,
        "minReplicas": 0,
        "maxReplicas": 2147483647,
        "numOfHosts": 1,
        "scaleStrategy": {"workersToDelete": ["a"]},
    }


@pytest.mark.parametrize("manifest", [rayservice(), raycluster()], ids=["RayService", "RayCluster"])
def test_generation_is_unseen_before_the_first_status(
    apiserver: light.Api, namespace: str, manifest: dict[str, Any]
) -> None:
    """Without it kstatus would call an object done that nobody has looked at."""
    assert apply(apiserver, namespace, manifest)["status"] == {"observedGeneration": -1}


STATUS = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "NonZeroServeEndpoints",
            "message": "Serving.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        },
        {
            "type": "UpgradeInProgress",
            "status": "False",
            "reason": "NoPendingCluster",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        },
    ],
    "serviceStatus": "Running",
    "numServeEndpoints": 2,
    "observedGeneration": 1,
    "lastUpdateTime": "2026-01-01T00:00:00Z",
    "activeServiceStatus": {
        "rayClusterName": "example-abcde",
        "appliedConfigHash": "0123",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
        "rayClusterStatus": {"state": "ready", "desiredCPU": "2", "desiredGPU": "0", "head": {"podIP": "10.0.0.1"}},
        "applicationStatuses": {
            "fruit": {
                "status": "RUNNING",
                "message": "",
                "serveDeploymentStatuses": {
                    "Mango": {"status": "HEALTHY", "message": "", "replicasReady": 1, "replicasTarget": 2}
                },
            }
        },
    },
    "upgrade": {
        "strategy": "NewCluster",
        "from": "a",
        "to": "b",
        "phase": "Promoted",
        "started": "2026-01-01T00:00:00Z",
        "deadline": "2026-01-01T01:00:00Z",
        "step": 1,
        "message": "Done.",
    },
    "applied": {"configHash": "0123", "specHash": "4567", "revision": 3, "time": "2026-01-01T00:00:00Z"},
}


def test_status_is_stored_whole_and_printed(apiserver: light.Api, namespace: str) -> None:
    apply(apiserver, namespace, rayservice())
    arguments = ("rayservice", "example", "-n", namespace)
    patch = json.dumps({"status": STATUS})
    apiserver.kubectl("patch", *arguments, "--subresource=status", "--type=merge", "-p", patch)
    assert json.loads(apiserver.kubectl("get", *arguments, "-o", "json"))["status"] == STATUS
    header, row = apiserver.kubectl("get", "rsv", "-n", namespace).splitlines()
    assert header.split("  ")[0] == "NAME"
    titles = [title.strip() for title in header.split("  ") if title.strip()]
    assert titles == ["NAME", "READY", "REASON", "ENDPOINTS", "ACTIVE CLUSTER", "UPGRADING", "AGE"]
    assert row.split()[:6] == ["example", "True", "NonZeroServeEndpoints", "2", "example-abcde", "False"]
    assert "Promoted" in apiserver.kubectl("get", "rsv", "-n", namespace, "-o", "wide")


def test_spec_writes_do_not_touch_status(apiserver: light.Api, namespace: str) -> None:
    manifest = {**rayservice(), "status": {"serviceStatus": "Running", "observedGeneration": 7}}
    assert apply(apiserver, namespace, manifest)["status"] == {"observedGeneration": -1}


def test_two_conditions_of_one_type_are_refused(apiserver: light.Api, namespace: str) -> None:
    apply(apiserver, namespace, rayservice())
    patch = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}] * 2}})
    with pytest.raises(LocalKubeError, match="Duplicate value"):
        apiserver.kubectl(
            "patch", "rsv", "example", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
        )


def test_unknown_fields_are_told(apiserver: light.Api, namespace: str) -> None:
    manifest = changed(rayservice(), {"spec.serveConfigv2": "typo", "metadata.namespace": namespace})
    assert ".spec.serveConfigv2: field not declared in schema" in refusal(apiserver, namespace, manifest)
    with pytest.raises(LocalKubeError, match=r'unknown field "spec.serveConfigv2"'):
        apiserver.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    with pytest.raises(LocalKubeError, match=r'Warning: unknown field "spec.serveConfigv2"'):
        apiserver.kubectl("apply", "--validate=warn", "--warnings-as-errors", "-f", "-", stdin=yaml.safe_dump(manifest))
    stored = json.loads(apiserver.kubectl("get", "rsv", "example", "-n", namespace, "-o", "json"))
    assert "serveConfigv2" not in stored["spec"]


def test_kubectl_explains_every_level(apiserver: light.Api) -> None:
    for path in ("rsv.spec.upgradeStrategy.type", "rcl.spec.workerGroupSpecs.maxReplicas", "rsv.status.upgrade"):
        text = apiserver.kubectl("explain", path)
        assert "DESCRIPTION" in text
        assert "<no description>" not in text


def test_both_are_in_the_category_all(apiserver: light.Api, namespace: str) -> None:
    apply(apiserver, namespace, rayservice())
    apply(apiserver, namespace, raycluster())
    listed = apiserver.kubectl("get", "all", "-n", namespace, "-o", "name")
    assert "rayservice.ray.io/example" in listed
    assert "raycluster.ray.io/example" in listed


GROUPS = "spec.rayClusterConfig.workerGroupSpecs"
OPTIONS = "spec.upgradeStrategy.clusterUpgradeOptions"
INCREMENTAL = {
    "spec.upgradeStrategy.type": "NewClusterWithIncrementalUpgrade",
    OPTIONS: {"maxSurgePercent": 50, "stepSizePercent": 5, "intervalSeconds": 10},
}

# id, changes of the valid RayService, part of the API server's message.
REFUSED = [
    ("name too long", {"metadata.name": "a" * 48}, "metadata.name must have at most 47 characters"),
    ("name with a dot", {"metadata.name": "a.b"}, "metadata.name must consist of lower-case letters"),
    ("name starts with a digit", {"metadata.name": "1a"}, "start with a letter"),
    ("no cluster", {"spec.rayClusterConfig": DELETE}, "spec.rayClusterConfig: Required value"),
    ("no head", {"spec.rayClusterConfig.headGroupSpec": DELETE}, "headGroupSpec: Required value"),
    ("no group name", {f"{GROUPS}[0].groupName": DELETE}, "groupName: Required value"),
    ("unknown strategy", {"spec.upgradeStrategy.type": "Rolling"}, 'Unsupported value: "Rolling"'),
    ("unknown autoscaler", {"spec.rayClusterConfig.autoscalerOptions.version": "v3"}, 'Unsupported value: "v3"'),
    ("foreign manager", {"spec.managedBy": "example.com/other"}, "managedBy must be ray.io/kuberay-operator or"),
    (
        "foreign manager of the cluster",
        {"spec.rayClusterConfig.managedBy": "example.com/other"},
        "managedBy must be ray.io/kuberay-operator or",
    ),
    ("negative delay", {"spec.rayClusterDeletionDelaySeconds": -1}, "greater than or equal to 0"),
    ("number as a flag", {f"{GROUPS}[0].rayStartParams": {"num-cpus": 4}}, "num-cpus: expected string"),
    ("minimum above maximum", {f"{GROUPS}[0].minReplicas": 6}, "minReplicas must not be larger than maxReplicas"),
    (
        "two groups of one name",
        {f"{GROUPS}[1]": {"groupName": "small", "template": {}}},
        "groupName must be unique among workerGroupSpecs",
    ),
    (
        "incremental without options",
        {"spec.upgradeStrategy.type": "NewClusterWithIncrementalUpgrade"},
        "clusterUpgradeOptions is required",
    ),
    ("surge", {**INCREMENTAL, f"{OPTIONS}.maxSurgePercent": 101}, "maxSurgePercent must be from 0 to 100"),
    ("step above surge", {**INCREMENTAL, f"{OPTIONS}.stepSizePercent": 51}, "from 0 to maxSurgePercent"),
    ("no step", {**INCREMENTAL, f"{OPTIONS}.stepSizePercent": DELETE}, "stepSizePercent is required"),
    ("no interval", {**INCREMENTAL, f"{OPTIONS}.intervalSeconds": DELETE}, "intervalSeconds is required"),
    ("interval of zero", {**INCREMENTAL, f"{OPTIONS}.intervalSeconds": 0}, "must be at least 1"),
    ("deadline of zero", {"spec.upgradeStrategy.progressDeadlineSeconds": 0}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("changes", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refuses_with_a_message(apiserver: light.Api, namespace: str, changes: dict[str, Any], message: str) -> None:
    assert message in refusal(apiserver, namespace, changed(rayservice(), changes))


ACCEPTED = [
    ("null where KubeRay has defaults", {f"{GROUPS}[0].minReplicas": None, f"{GROUPS}[0].maxReplicas": None}),
    ("null surge", {**INCREMENTAL, f"{OPTIONS}.maxSurgePercent": None}),
    ("longest name", {"metadata.name": "a" * 47}),
    ("incremental", INCREMENTAL),
    ("step without surge", {**INCREMENTAL, f"{OPTIONS}.maxSurgePercent": DELETE, f"{OPTIONS}.stepSizePercent": 100}),
    (
        "no progress at all",
        {**INCREMENTAL, OPTIONS: {"maxSurgePercent": 0, "stepSizePercent": 0, "intervalSeconds": 1}},
    ),
    ("250 groups", {GROUPS: [{"groupName": f"g{n}", "template": {}} for n in range(250)]}),
    *((kind, {"spec.upgradeStrategy.type": kind}) for kind in ("NewCluster", "InPlace", "Recreate", "None")),
]


@pytest.mark.parametrize("changes", [a[1] for a in ACCEPTED], ids=[a[0] for a in ACCEPTED])
def test_accepts(apiserver: light.Api, namespace: str, changes: dict[str, Any]) -> None:
    apply(apiserver, namespace, changed(rayservice(), changes), "--dry-run=server")


def test_raycluster_names(apiserver: light.Api, namespace: str) -> None:
    apply(apiserver, namespace, changed(raycluster(), {"metadata.name": "a" * 53}), "--dry-run=server")
    said = refusal(apiserver, namespace, changed(raycluster(), {"metadata.name": "a" * 54}))
    assert "metadata.name must have at most 53 characters" in said


GCS = "gcsFaultToleranceOptions"

# id, manifest, first changes, then changes, part of the message.
IMMUTABLE = [
    (
        "managedBy of a service",
        rayservice(),
        {"spec.managedBy": "ray.io/kuberay-operator"},
        {"spec.managedBy": "kueue.x-k8s.io/multikueue"},
        "managedBy is immutable",
    ),
    (
        "managedBy of a cluster",
        raycluster(),
        {"spec.managedBy": "kueue.x-k8s.io/multikueue"},
        {"spec.managedBy": "ray.io/kuberay-operator"},
        "managedBy is immutable",
    ),
    (
        "backend in a service",
        rayservice(),
        {f"spec.rayClusterConfig.{GCS}": {"backend": "redis", "redisAddress": "redis:6379"}},
        {f"spec.rayClusterConfig.{GCS}": {"backend": "rocksdb"}},
        "backend is immutable",
    ),
    (
        "backend in a cluster",
        raycluster(),
        {f"spec.{GCS}": {"backend": "rocksdb"}},
        {f"spec.{GCS}": {"backend": "redis", "redisAddress": "redis:6379"}},
        "backend is immutable",
    ),
]


@pytest.mark.parametrize("case", [i[1:] for i in IMMUTABLE], ids=[i[0] for i in IMMUTABLE])
def test_immutable(
    apiserver: light.Api, namespace: str, case: tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]
) -> None:
    manifest, first, then, message = case
    apply(apiserver, namespace, changed(manifest, first))
    assert message in refusal(apiserver, namespace, changed(manifest, then))
