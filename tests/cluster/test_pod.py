"""Properties of every pod, and the variations that no golden file shows."""

from __future__ import annotations

import copy
import socket
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.api import names
from rayservice_operator.cluster import init
from rayservice_operator.cluster.pod import build_head, build_worker, dry_run_key, for_dry_run, head_name
from rayservice_operator.cluster.view import ClusterView, parse_version, view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from tests.cluster.world import CALM, group, of_service, raycluster, template


def view(cluster: Manifest, **config: Any) -> ClusterView:
    return view_of(cluster, OperatorConfig(**config))


def worker(cluster: Manifest, **config: Any) -> Manifest:
    found = view(cluster, **config)
    return build_worker(found, found.workers[0], head_uid="h")


def head(cluster: Manifest, **config: Any) -> Manifest:
    return build_head(view(cluster, **config), slot=0)


def ray(pod: Manifest) -> dict[str, Any]:
    return pod["spec"]["containers"][0]


def env(pod: Manifest) -> dict[str, Any]:
    return {item["name"]: item.get("value") for item in ray(pod)["env"]}


# --- fidelity

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(extra=st.dictionaries(st.sampled_from(["tolerations", "affinity", "runtimeClassName", "newField"]), json_values))
@CALM
def test_every_field_of_a_template_comes_through(extra: dict[str, Any]) -> None:
    cluster = raycluster(group())
    cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"].update(extra)
    before = copy.deepcopy(cluster)
    pod = worker(cluster)
    assert {key: pod["spec"][key] for key in extra} == extra
    assert cluster == before


def test_env_of_the_user_wins_and_is_not_repeated() -> None:
    mine = [{"name": "RAY_PORT", "value": "1"}, {"name": "MINE", "value": "$(RAY_CLUSTER_NAME)"}]
    pod = worker(raycluster(group(template=template(env=mine))), default_env=(("MINE", "no"), ("MORE", "yes")))
    found = [item["name"] for item in ray(pod)["env"]]
    assert len(found) == len(set(found))
    assert env(pod)["RAY_PORT"] == "1"
    assert env(pod)["MINE"] == "$(RAY_CLUSTER_NAME)"
    assert env(pod)["MORE"] == "yes"
    assert found.index("RAY_CLUSTER_NAME") < found.index("MINE")


def test_labels_that_others_select_on_are_ours() -> None:
    wrong = {names.CLUSTER: "x", names.NODE_GROUP: "x", names.NODE_TYPE: "x", names.IDENTIFIER: "x", "team": "a"}
    cluster = raycluster(group(template={**template(), "metadata": {"labels": wrong}}))
    labels = worker(cluster)["metadata"]["labels"]
    assert labels[names.CLUSTER] == "demo"
    assert labels[names.NODE_GROUP] == "small"
    assert labels[names.NODE_TYPE] == "worker"
    assert labels[names.IDENTIFIER] == "demo-worker"
    assert labels["team"] == "a"


def test_nothing_of_the_clusters_own_metadata_reaches_a_pod() -> None:
    cluster = raycluster(group())
    marks = {
        "argocd.argoproj.io/tracking-id": "x",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "mine": "y",
    }
    cluster["metadata"].update(annotations=marks, labels={"app.kubernetes.io/instance": "x", "mine": "y"})
    for pod in (head(cluster), worker(cluster)):
        meta = pod["metadata"]
        assert not {"mine", "app.kubernetes.io/instance", *marks} & {*meta["labels"], *meta["annotations"]}


# --- names

cluster_names = st.from_regex(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?", fullmatch=True)


@CALM
@given(name=cluster_names, group_name=st.text("abcABC_.-019", min_size=1, max_size=80))
def test_names_fit(name: str, group_name: str) -> None:
    cluster = raycluster(group(group_name), name=name)
    found = view(cluster)
    assert len(head_name(found, 0)) <= 63
    prefix = worker(cluster)["metadata"]["generateName"]
    assert len(prefix) <= 58
    assert prefix.strip("-") == prefix[:-1].strip("-")
    assert all(ch in "abcdefghijklmnopqrstuvwxyz0123456789.-" for ch in prefix)


def test_head_name_is_the_slots() -> None:
    found = view(raycluster())
    assert head_name(found, 0) == head_name(found, 0) != head_name(found, 1)
    assert head_name(found, 0).startswith("demo-head-")


# --- ray.io/serve


@pytest.mark.parametrize(
    ("cluster", "head_label", "worker_label"),
    [
        (of_service(raycluster(group())), "false", "false"),
        (raycluster(group()), None, None),
    ],
)
def test_serve_label_at_birth(cluster: Manifest, head_label: str | None, worker_label: str | None) -> None:
    assert head(cluster)["metadata"]["labels"].get(names.SERVE) == head_label
    assert worker(cluster)["metadata"]["labels"].get(names.SERVE) == worker_label


def test_standalone_with_a_serve_service_serves_from_the_head() -> None:
    cluster = raycluster(group())
    cluster["metadata"]["annotations"] = {names.ENABLE_SERVE_SERVICE: "true"}
    assert head(cluster)["metadata"]["labels"][names.SERVE] == "true"
    assert worker(cluster)["metadata"]["labels"][names.SERVE] == "false"


def test_service_timeouts_only_in_a_rayservice() -> None:
    assert env(worker(of_service(raycluster(group()))))["RAY_SERVE_KV_TIMEOUT_S"] == "5"
    assert "RAY_SERVE_KV_TIMEOUT_S" not in env(worker(raycluster(group())))


# --- probes


@pytest.mark.parametrize(
    ("version", "image", "path"),
    [
        ("2.60.0", "x", "/api/healthz"),
        ("2.53.0", "x", "/api/healthz"),
        ("", "rayproject/ray:2.55.1-py312-gpu", "/api/healthz"),
        ("", "example.com:5000/rayproject/ray-llm:2.54.0", "/api/healthz"),
        ("", "example.com/own:3", "/api/local_raylet_healthz"),
        ("", "ray", "/api/local_raylet_healthz"),
    ],
)
def test_http_probes(version: str, image: str, path: str) -> None:
    cluster = raycluster(group(), rayVersion=version)
    cluster["spec"]["headGroupSpec"]["template"] = template(image=image)
    for pod in (head(cluster), worker(cluster)):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert ray(pod)[probe]["httpGet"] == {"path": path, "port": 52365}
        assert ray(pod)["startupProbe"]["periodSeconds"] == 1


def test_older_ray_is_asked_by_exec_and_never_about_serve() -> None:
    cluster = of_service(raycluster(group(), rayVersion="2.52.1"))
    asked_worker = ray(worker(cluster))["readinessProbe"]["exec"]["command"][2]
    asked_head = ray(head(cluster))["readinessProbe"]["exec"]["command"][2]
    assert "52365/api/local_raylet_healthz" in asked_worker
    assert "8265/api/gcs_healthz" in asked_head
    assert "8000" not in asked_worker
    assert "gcs" not in asked_worker


def test_probes_follow_the_ports() -> None:
    params = {"dashboard-agent-listen-port": "1234"}
    assert ray(worker(raycluster(group(rayStartParams=params))))["livenessProbe"]["httpGet"]["port"] == 1234


def test_own_probes_stay() -> None:
    own = {"tcpSocket": {"port": 1}}
    only_readiness = ray(worker(raycluster(group(template=template(readinessProbe=own)))))
    assert only_readiness["readinessProbe"] == own
    assert "startupProbe" in only_readiness
    only_liveness = ray(worker(raycluster(group(template=template(livenessProbe=own)))))
    assert only_liveness["livenessProbe"] == own
    assert "startupProbe" not in only_liveness
    assert "readinessProbe" not in ray(worker(raycluster(group()), inject_probes=False))


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.53.0", (2, 53, 0)), ("v2.9", (2, 9, 0)), ("2.60.0rc1", (2, 60, 0)), ("nightly", None), ("", None)],
)
def test_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


# --- volumes


@pytest.mark.parametrize(
    ("container", "params", "size"),
    [
        ({"resources": {"limits": {"memory": "3Gi"}}}, {}, "3Gi"),
        ({"resources": {"requests": {"memory": "1Gi"}}}, {}, "1Gi"),
        ({"resources": {}}, {}, None),
    ],
)
def test_shared_memory(container: dict[str, Any], params: dict[str, str], size: str | None) -> None:
    pod = worker(raycluster(group(template=template(**container), rayStartParams=params)))
    (volume,) = pod["spec"]["volumes"]
    assert volume["emptyDir"].get("sizeLimit") == size
    assert ray(pod)["volumeMounts"] == [{"name": "shared-mem", "mountPath": "/dev/shm"}]


def test_no_shared_memory_where_the_user_has_some() -> None:
    mounts = [{"name": "own", "mountPath": "/dev/shm"}]
    assert ray(worker(raycluster(group(template=template(volumeMounts=mounts)))))["volumeMounts"] == mounts
    pod = worker(raycluster(group(rayStartParams={"plasma-directory": "/x"})))
    assert "volumes" not in pod["spec"]


# --- dry runs


def test_dry_run_key_is_that_of_every_pod_of_the_template() -> None:
    found = view(raycluster(group()))
    small = found.workers[0]
    key = dry_run_key(for_dry_run(found, small))
    assert key == dry_run_key(build_worker(found, small, head_uid="h", attempt=3))
    assert dry_run_key(for_dry_run(found, found.head)) == dry_run_key(build_head(found, slot=4, attempt=1)) != key
    assert "name" not in for_dry_run(found, found.head)["metadata"]


# --- the waiting init container


def test_init_container_can_be_left_out() -> None:
    assert "initContainers" not in worker(raycluster(group()), inject_init_container=False)["spec"]
    assert "initContainers" not in head(raycluster(group()))["spec"]


def test_init_container_waits_at_the_users_address() -> None:
    (waiting,) = worker(raycluster(group(rayStartParams={"address": "far:7000"})))["spec"]["initContainers"]
    assert waiting["command"][-2:] == ["far", "7000"]
    (waiting,) = worker(raycluster(group(rayStartParams={"address": "$WHERE"})))["spec"]["initContainers"]
    assert waiting["command"][-2:] == ["demo-head-svc.ns.svc.cluster.local", "6379"]


def test_init_container_ends_when_the_port_opens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        waiting = subprocess.Popen(
            ["bash", "-c", init.SCRIPT, init.NAME, "127.0.0.1", str(port)], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        told = waiting.stdout.readline()
        assert "does not answer yet" in told
        server.listen()  # the kernel takes the connection; nobody needs to accept it
        rest, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0
        assert rest.endswith("is up\n")
