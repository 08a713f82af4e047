"""The Helm chart: rendered by the real helm, judged by a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.localkube import binaries, light
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.shell import run
from rayservice_operator.cli.environment import load_config, load_settings
from rayservice_operator.cluster.autoscaler import RULES
from rayservice_operator.kube.reflector import CHILD_KINDS
from rayservice_operator.kube.resources import RESOURCES
from tests.models.manifests import changed, rayservice

CHART = Path(__file__).parents[2] / "charts" / "rayservice-operator"
RELEASE = "rayservice-operator"
FULL = {
    "replicas": 3,
    "image": {"repository": "registry.example.com/operator", "tag": "v1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "watchNamespaces": ["default", "kube-public"],
    "logging": {"level": "debug", "format": "json"},
    "env": [{"name": "ENABLE_LOGIN_SHELL", "value": "true"}],
    "serviceAccount": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": RELEASE}},
        }
    ],
}


def helm(*args: str | Path, api: light.Api | None = None, values: dict[str, Any] | None = None) -> str:
    """helm's output; ``values`` are given as a file."""
    connection: list[str | Path] = ["--kubeconfig", api.kubeconfig] if api else []
    options = ["--values", "-"] if values is not None else []
    return run([binaries.ensure("helm"), *connection, *args, *options], input_text=yaml.safe_dump(values or {}))


def render(values: dict[str, Any], namespace: str = "default") -> list[dict[str, Any]]:
    """Every object of the chart."""
    text = helm("template", RELEASE, CHART, "--namespace", namespace, "--kube-version", "1.34.0", values=values)
    return [document for document in yaml.safe_load_all(text) if document]


def by_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of one kind."""
    return [obj for obj in objects if obj["kind"] == kind]


def deployment(values: dict[str, Any]) -> dict[str, Any]:
    """The Deployment's spec."""
    (found,) = by_kind(render(values), "Deployment")
    spec: dict[str, Any] = found["spec"]
    return spec


def test_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_the_api_server_takes_every_object(apiserver: light.Api, namespace: str, values: dict[str, Any]) -> None:
    said = apiserver.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"),
        stdin=yaml.safe_dump_all(render(values, namespace)),
    )
    assert "deployment.apps/rayservice-operator" in said
    assert "customresourcedefinition.apiextensions.k8s.io/rayservices.ray.io" in said


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_pods_pass_the_restricted_standard(apiserver: light.Api, namespace: str, values: dict[str, Any]) -> None:
    apiserver.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    spec = {**deployment(values)["template"]["spec"], "serviceAccountName": "default", "priorityClassName": ""}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}
    apiserver.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_probes_and_image() -> None:
    (container,) = deployment({})["template"]["spec"]["containers"]
    app_version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container["image"] == f"rayservice-operator/operator:{app_version}"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["ports"][0] == {"name": "http", "containerPort": 8080}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_the_operator_reads_the_environment_it_is_given(values: dict[str, Any]) -> None:
    (container,) = deployment(values)["template"]["spec"]["containers"]
    env = {item["name"]: item.get("value", "given") for item in container["env"]}
    settings, config = load_settings(env), load_config(env)
    assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
    assert settings.leader_elect is (values.get("replicas", 1) > 1)
    assert settings.lease_name == RELEASE
    assert settings.identity == "given"
    assert settings.lease_namespace == "given"
    assert settings.http_port == container["ports"][0]["containerPort"]
    assert config.login_shell is (values == FULL)


def test_one_replica_needs_no_leader() -> None:
    objects = render({})
    assert by_kind(objects, "PodDisruptionBudget") == []
    assert f"{RELEASE}-leader" not in {obj["metadata"]["name"] for obj in by_kind(objects, "Role")}
    assert by_kind(objects, "Deployment")[0]["spec"]["strategy"] == {"type": "Recreate"}


def test_several_replicas_elect_one() -> None:
    objects = render({"replicas": 2})
    assert len(by_kind(objects, "PodDisruptionBudget")) == 1
    assert f"{RELEASE}-leader" in {obj["metadata"]["name"] for obj in by_kind(objects, "Role")}
    assert by_kind(objects, "Deployment")[0]["spec"]["strategy"] == {"type": "RollingUpdate"}


def test_namespaced_mode_has_no_rights_in_the_cluster() -> None:
    objects = render({"watchNamespaces": ["a", "b"]})
    assert by_kind(objects, "ClusterRole") == by_kind(objects, "ClusterRoleBinding") == []
    for kind in ("Role", "RoleBinding"):
        assert [obj["metadata"]["namespace"] for obj in by_kind(objects, kind)] == ["a", "b"]


def _capacity_rights(values: dict[str, Any]) -> tuple[bool, bool]:
    """Whether nodes of the cluster, and quotas of the namespaces looked after, may be listed."""
    roles = [obj for kind in ("ClusterRole", "Role") for obj in by_kind(render(values), kind)]
    resources = {resource for role in roles for rule in role["rules"] for resource in rule["resources"]}
    return "nodes" in resources, "resourcequotas" in resources


@pytest.mark.parametrize(
    ("values", "rights"),
    [
        ({}, (True, True)),
        ({"watchNamespaces": ["a"]}, (False, True)),
        ({"watchNamespaces": ["a"], "capacityCheck": {"clusterWide": True}}, (True, True)),
        ({"capacityCheck": {"enabled": False}}, (False, False)),
        ({"watchNamespaces": ["a"], "capacityCheck": {"enabled": False, "clusterWide": True}}, (False, False)),
    ],
)
def test_what_of_the_cluster_may_be_seen(values: dict[str, Any], rights: tuple[bool, bool]) -> None:
    assert _capacity_rights(values) == rights
    (container,) = deployment(values)["template"]["spec"]["containers"]
    env = {item["name"]: item.get("value", "given") for item in container["env"]}
    assert load_config(env).capacity_check is values.get("capacityCheck", {}).get("enabled", True)


def test_crds_are_those_of_the_project() -> None:
    project = {}
    for path in (CHART.parents[1] / "crds").glob("*.yaml"):
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        project[definition["metadata"]["name"]] = definition["spec"]
    objects = by_kind(render({}), "CustomResourceDefinition")
    assert {obj["metadata"]["name"]: obj["spec"] for obj in objects} == project
    assert all(obj["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for obj in objects)


def test_crds_can_be_left_out_or_removed_with_the_release() -> None:
    assert by_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == []
    objects = by_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert len(objects) == 2
    assert all("annotations" not in obj["metadata"] for obj in objects)


BAD_VALUES = [
    ({"replica": 1}, "replica"),
    ({"replicas": "two"}, "replicas"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"watchNamespaces": "default"}, "watchNamespaces"),
    ({"watchNamespaces": ["team-*"]}, "watchNamespaces"),
    ({"logging": {"level": "verbose"}}, "level"),
    ({"env": [{"name": "A", "value": True}]}, "env"),
]


@pytest.mark.parametrize(("values", "named"), BAD_VALUES, ids=[str(v[0]) for v in BAD_VALUES])
def test_wrong_values_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(LocalKubeError, match=named):
        render(values)


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - {"global"} == set(values)
    for key, value in values.items():
        known = schema["properties"][key].get("properties")
        if isinstance(value, dict) and known is not None:
            assert set(known) == set(value), key


# -- installed in a cluster ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed() -> Iterator[light.Api]:
    """An API server of our own, with the chart installed over CRDs that somebody else had put there."""
    with light.apiserver() as api:
        api.kubectl("create", "-f", str(CHART.parents[1] / "crds"))
        install: tuple[str | Path, ...] = ("install", RELEASE, CHART, "--namespace", "system", "--create-namespace")
        with pytest.raises(LocalKubeError, match="invalid ownership metadata"):
            helm(*install, api=api)
        helm(*install, "--take-ownership", api=api)
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield api


def as_operator(api: light.Api, *args: str, stdin: str | None = None) -> str:
    """kubectl with the rights of the installed operator."""
    return api.kubectl(f"--as=system:serviceaccount:system:{RELEASE}", *args, stdin=stdin)


def may(api: light.Api, verb: str, resource: str) -> bool:
    """Whether the operator may do that in a namespace of a user."""
    try:
        plural, _, subresource = resource.partition("/")
        options = ["--subresource", subresource] if subresource else []
        return as_operator(api, "auth", "can-i", verb, plural, *options, "-n", "default").strip() == "yes"
    except LocalKubeError:
        return False


def _resource(kind: str) -> str:
    row = RESOURCES[kind]
    return f"{row.plural}.{row.group}" if row.group else row.plural


def test_operator_may_watch_what_it_watches(installed: light.Api) -> None:
    for kind in (*CHILD_KINDS, "RayService", "RayCluster"):
        for verb in ("list", "watch"):
            assert may(installed, verb, _resource(kind)), f"{verb} {kind}"


ALLOWED = [
    ("patch", "rayclusters.ray.io"),
    ("create", "rayclusters.ray.io"),
    ("patch", "rayservices.ray.io/status"),
    ("patch", "rayclusters.ray.io/status"),
    ("create", "pods"),
    ("patch", "pods"),
    ("create", "events.events.k8s.io"),
    ("get", "secrets"),
    ("create", "persistentvolumeclaims"),
    ("list", "nodes"),
    ("list", "resourcequotas"),
]
FORBIDDEN = [
    ("patch", "rayservices.ray.io"),
    ("delete", "rayservices.ray.io"),
    ("list", "secrets"),
    ("watch", "secrets"),
    ("delete", "secrets"),
    ("delete", "persistentvolumeclaims"),
    ("create", "pods/exec"),
    ("create", "deployments.apps"),
    ("list", "namespaces"),
    ("get", "nodes"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
]


@pytest.mark.parametrize(("verb", "resource"), ALLOWED, ids=[" ".join(a) for a in ALLOWED])
def test_operator_may(installed: light.Api, verb: str, resource: str) -> None:
    assert may(installed, verb, resource)


@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN, ids=[" ".join(f) for f in FORBIDDEN])
def test_operator_may_not(installed: light.Api, verb: str, resource: str) -> None:
    assert not may(installed, verb, resource)


def _role(name: str, rules: Any) -> str:
    api_version = "rbac.authorization.k8s.io/v1"
    meta = {"name": name, "namespace": "default"}
    role = {"apiVersion": api_version, "kind": "Role", "metadata": meta, "rules": rules}
    binding = {
        "apiVersion": api_version,
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    return yaml.safe_dump_all([role, binding])


def test_operator_may_grant_the_autoscaler_its_role_and_nothing_more(installed: light.Api) -> None:
    rules = json.loads(json.dumps(list(RULES)))
    as_operator(installed, "apply", "--server-side", "-f", "-", stdin=_role("autoscaler", rules))
    more = [*rules, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    with pytest.raises(LocalKubeError, match="attempting to grant RBAC permissions not currently held"):
        as_operator(installed, "apply", "--server-side", "-f", "-", stdin=_role("too-much", more))


def test_crds_are_upgraded_and_survive_the_release(installed: light.Api) -> None:
    """Runs last: it takes the release away and puts it back."""
    installed.kubectl("apply", "-n", "default", "-f", "-", stdin=yaml.safe_dump(changed(rayservice(), {})))
    columns = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    before = installed.kubectl("get", "crd", "rayservices.ray.io", "-o", columns)
    helm("uninstall", RELEASE, "--namespace", "system", api=installed)
    remove = '[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]'
    installed.kubectl("patch", "crd", "rayservices.ray.io", "--type=json", "-p", remove)
    assert installed.kubectl("get", "rsv", "-n", "default", "-o", "name").strip() == "rayservice.ray.io/example"
    helm("upgrade", "--install", RELEASE, CHART, "--namespace", "system", api=installed)
    assert installed.kubectl("get", "crd", "rayservices.ray.io", "-o", columns) == before
