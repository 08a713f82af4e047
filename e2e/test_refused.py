"""Bad manifests: refused at once where the API server can tell, else by a condition and one event. Nothing is built."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from e2e.localkube.errors import LocalKubeError
from e2e.manifests import cluster_spec, raycluster, rayservice, serve_config, worker_group
from e2e.rayservices import Service
from e2e.support import Kube, account, condition, is_true, wait_for

pytestmark = pytest.mark.timeout(120)

Object = dict[str, Any]
Edit = Callable[[Object], object]


def _cluster(manifest: Object) -> Object:
    cluster: Object = manifest["spec"]["rayClusterConfig"]
    return cluster


def _head(manifest: Object) -> Object:
    head: Object = _cluster(manifest)["headGroupSpec"]
    return head


def _group(manifest: Object) -> Object:
    group: Object = _cluster(manifest)["workerGroupSpecs"][0]
    return group


def _container(manifest: Object) -> Object:
    container: Object = _head(manifest)["template"]["spec"]["containers"][0]
    return container


def _serve(manifest: Object, config: str) -> None:
    manifest["spec"]["serveConfigV2"] = config


def _bad(name: str, edit: Edit) -> Object:
    manifest = rayservice(name, cluster_spec(worker_group()))
    edit(manifest)
    return manifest


# By the API server: what it says.
AT_ONCE: list[tuple[str, Edit, str]] = [
    ("replicas-no-number", lambda m: _group(m).update(replicas="two"), "replicas"),
    ("minimum-above-maximum", lambda m: _group(m).update(minReplicas=9), "minReplicas must not be larger"),
    ("group-twice", lambda m: _cluster(m)["workerGroupSpecs"].append(worker_group()), "groupName must be unique"),
    ("managed-by-whom", lambda m: m["spec"].update(managedBy="somebody"), "managedBy must be"),
    ("negative-delay", lambda m: m["spec"].update(rayClusterDeletionDelaySeconds=-1), "rayClusterDeletionDelaySeconds"),
    ("unknown-field", lambda m: m["spec"].update(servConfig="x"), "servConfig"),
    ("no-cluster", lambda m: m["spec"].pop("rayClusterConfig"), "rayClusterConfig"),
    ("long-name", lambda m: m["metadata"].update(name="n" * 48), "at most 47"),
]

# By the operator: the field that the message names.
BY_CONDITION: list[tuple[str, Edit, str]] = [
    ("config-no-yaml", lambda m: _serve(m, "applications: ["), "spec.serveConfigV2"),
    ("config-no-import-path", lambda m: _serve(m, "applications: [{name: a}]"), "import_path"),
    (
        "config-same-route",
        lambda m: _serve(
            m, "applications: [{name: a, import_path: 'a:b', route_prefix: /}, {name: b, import_path: 'a:b'}]"
        ),
        "route_prefix",
    ),
    (
        "config-route-without-slash",
        lambda m: _serve(m, serve_config().replace("route_prefix: /", "route_prefix: app")),
        "slash",
    ),
    ("no-container", lambda m: _head(m)["template"]["spec"].update(containers=[]), "headGroupSpec.template"),
    ("dashed-flag", lambda m: _head(m)["rayStartParams"].update({"--num-gpus": "1"}), "--num-gpus"),
    ("cpus-twice", lambda m: _head(m).update(resources={"CPU": "4"}), "headGroupSpec.resources"),
    ("old-ray-with-token", lambda m: _cluster(m).update(rayVersion="2.40.0", authOptions={"mode": "token"}), "rayVers"),
    ("redis-nowhere", lambda m: _cluster(m).update(gcsFaultToleranceOptions={"backend": "redis"}), "redisAddress"),
    (
        "redis-in-env",
        lambda m: _container(m).update(env=[{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}]),
        "RAY_REDIS_ADDRESS",
    ),
    ("no-duration", lambda m: m["metadata"].update(annotations={"ray.io/initializing-timeout": "soon"}), "'soon'"),
    ("named-head-service", lambda m: _head(m).update(headService={"metadata": {"name": "mine"}}), "headService"),
    ("cluster-strategy", lambda m: _cluster(m).update(upgradeStrategy={"type": "Recreate"}), "upgradeStrategy"),
]


@pytest.fixture(scope="module", autouse=True)
def let_in(kube: Kube, module_namespace: str) -> None:
    """The webhook would refuse all of these before the operator sees them."""
    kube.let_bad_manifests_in(module_namespace)


@pytest.mark.parametrize(("name", "edit", "says"), AT_ONCE, ids=[case[0] for case in AT_ONCE])
def test_refused_by_the_api_server(kube: Kube, module_namespace: str, name: str, edit: Edit, says: str) -> None:
    with pytest.raises(LocalKubeError) as refusal:
        kube.apply(_bad(name, edit), module_namespace)
    assert says in str(refusal.value)


@pytest.mark.parametrize(("name", "edit", "field"), BY_CONDITION, ids=[case[0] for case in BY_CONDITION])
def test_refused_by_a_condition(kube: Kube, module_namespace: str, name: str, edit: Edit, field: str) -> None:
    kube.apply(_bad(name, edit), module_namespace)
    service = Service(kube, module_namespace, name)
    service.wait(lambda: is_true(service.get(), "Stalled"), "refused", timeout=20)

    obj = service.get()
    for kind in ("Ready", "Stalled"):
        assert condition(obj, kind)["reason"] == "ValidationFailed"
        assert field in condition(obj, kind)["message"]
    assert condition(obj, "Ready")["status"] == "False"
    assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    (event,) = service.wait(lambda: service.events("InvalidRayServiceSpec"), "an event", timeout=20)
    assert event["type"] == "Warning"
    assert field in event["message"]
    assert not [c for c in kube.rayclusters(module_namespace) if c["metadata"]["name"].startswith(f"{name}-")]


def test_refusals_are_said_once(kube: Kube, module_namespace: str) -> None:
    """Looked at after all of the above: the operator has come by each object many times."""
    for name, _, _ in BY_CONDITION:
        events = Service(kube, module_namespace, name).events("InvalidRayServiceSpec")
        assert len(events) == 1, events
        assert events[0].get("count") in {None, 1}
    assert kube.pods(module_namespace) == []


def test_pod_that_kubernetes_refuses(kube: Kube, module_namespace: str) -> None:
    """Seen by a dry run, before any pod is made; said on the RayCluster and on its RayService."""

    def edit(manifest: Object) -> None:
        _container(manifest)["resources"] = {"limits": {"memory": "plenty"}}

    name = "no-quantity"
    kube.apply(_bad(name, edit), module_namespace)
    service = Service(kube, module_namespace, name)
    service.wait(lambda: is_true(service.get(), "Stalled"), "refused", timeout=30)
    stalled = condition(service.get(), "Stalled")
    assert "memory" in stalled["message"] or "quantit" in stalled["message"]
    assert kube.pods(module_namespace) == []


def test_standalone_cluster_is_refused_too(kube: Kube, module_namespace: str) -> None:
    manifest = raycluster("bad-cluster", copy.deepcopy(cluster_spec(worker_group())))
    manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"] = []
    kube.apply(manifest, module_namespace)

    def stalled() -> Object:
        found = condition(kube.raycluster(module_namespace, "bad-cluster"), "Stalled")
        return found if found.get("status") == "True" else {}

    seen = wait_for(stalled, timeout=20, what="refused", describe=lambda: account(kube, module_namespace))
    assert "headGroupSpec.template" in seen["message"]
