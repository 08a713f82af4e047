"""Services, rights of the autoscaler, tokens, fault tolerance: the objects beside the pods."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster import auth, autoscaler, children, gcs, ingress, services
from rayservice_operator.cluster.pod import build_head, build_worker
from rayservice_operator.cluster.view import ClusterView, view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from tests.cluster.world import group, of_service, raycluster, template


def view(cluster: Manifest, **config: Any) -> ClusterView:
    return view_of(cluster, OperatorConfig(**config))


def with_head(**head: Any) -> Manifest:
    cluster = raycluster(group())
    cluster["spec"]["headGroupSpec"].update(head)
    return cluster


# --- head service


def test_head_service_is_headless_and_answers_before_readiness() -> None:
    service = services.head_service(view(raycluster()))
    assert service["metadata"]["name"] == "demo-head-svc"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == names.DEFAULT_HEAD_PORTS
    assert service["metadata"]["ownerReferences"][0]["uid"] == "cluster-uid"


@pytest.mark.parametrize(
    ("head", "config", "type_"),
    [
        ({"serviceType": "NodePort"}, {}, "NodePort"),
        ({"serviceType": "LoadBalancer"}, {}, "LoadBalancer"),
        ({"serviceType": "ClusterIP"}, {}, "ClusterIP"),
        ({}, {"head_cluster_ip_service": True}, "ClusterIP"),
        ({"headService": {"spec": {"sessionAffinity": "ClientIP"}}}, {}, "ClusterIP"),
    ],
)
def test_head_service_with_an_address_of_its_own(head: Manifest, config: dict[str, Any], type_: str) -> None:
    spec = services.head_service(view(with_head(**head), **config))["spec"]
    assert spec["type"] == type_
    assert "clusterIP" not in spec


def test_selector_finds_the_head_pod_and_no_worker() -> None:
    labels = {"metadata": {"labels": {names.APP_NAME: "mine"}}}
    found = view(with_head(template={**template(), **labels}))
    selector = services.head_service(found)["spec"]["selector"].items()
    assert selector <= build_head(found, slot=0)["metadata"]["labels"].items()
    assert not selector <= build_worker(found, found.workers[0], head_uid="")["metadata"]["labels"].items()


def test_ports_of_the_container() -> None:
    ports = [{"containerPort": 6379, "name": "gcs"}, {"containerPort": 9999}]
    found = view(with_head(template=template(ports=ports)))
    assert services.head_ports(found) == {"gcs": 6379, "9999-port": 9999, "metrics": 8080}
    assert services.serve_ports(found) == {"serve": 8000}


def test_users_head_service() -> None:
    user = {
        "metadata": {"name": "mine", "labels": {"a": "b"}, "annotations": {"c": "d", "argocd.argoproj.io/x": "no"}},
        "spec": {
            "selector": {"extra": "yes"},
            "ports": [{"name": "dashboard", "port": 80, "nodePort": 30265}, {"name": "ssh", "port": 22}],
            "type": "NodePort",
        },
    }
    cluster = with_head(headService=user)
    cluster["spec"]["headServiceAnnotations"] = {"e": "f"}
    service = services.head_service(view(cluster))
    assert service["metadata"]["name"] == "mine"
    assert service["metadata"]["annotations"] == {"c": "d", "e": "f"}
    assert service["metadata"]["labels"]["a"] == "b"
    assert service["metadata"]["labels"][names.CREATED_BY] == names.CREATED_BY_VALUE
    assert service["spec"]["selector"]["extra"] == "yes"
    ports = {port["name"]: port for port in service["spec"]["ports"]}
    assert ports["dashboard"]["port"] == 80
    assert ports["dashboard"]["targetPort"] == 8265
    assert ports["ssh"]["port"] == 22
    assert view(cluster).head_fqdn == "mine.ns.svc.cluster.local"
    assert view(of_service(cluster)).head_fqdn == "demo-head-svc.ns.svc.cluster.local"


def test_serve_service_only_when_asked_for() -> None:
    cluster = raycluster()
    assert services.serve_service(view(cluster)) is None
    cluster["metadata"]["annotations"] = {names.ENABLE_SERVE_SERVICE: "true"}
    service = services.serve_service(view(cluster))
    assert service is not None
    assert service["metadata"]["name"] == "demo-serve-svc"
    assert service["spec"]["selector"] == {names.CLUSTER: "demo", names.SERVE: "true"}
    assert services.serve_service(view(of_service(cluster))) is None


# --- ingress


def test_ingress_of_the_dashboard() -> None:
    assert ingress.ingress(view(raycluster())) is None
    cluster = with_head(enableIngress=True, ingressOptions={"host": "ray.example", "tls": [{"secretName": "cert"}]})
    mine = {
        "nginx.ingress.kubernetes.io/rewrite-target": "/",
        names.FT_ENABLED: "false",
        ingress.CLASS_ANNOTATION: "nginx",
    }
    cluster["metadata"]["annotations"] = {**mine, "argocd.argoproj.io/tracking-id": "x"}
    found = ingress.ingress(view(cluster))
    assert found is not None
    assert found["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/rewrite-target": "/"}
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["spec"]["tls"] == [{"secretName": "cert"}]
    (rule,) = found["spec"]["rules"]
    assert rule["host"] == "ray.example"
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"]["service"] == {"name": "demo-head-svc", "port": {"number": 8265}}


# --- what is applied


def test_applied_only_when_something_differs() -> None:
    wanted = services.head_service(view(raycluster()))
    (apply,) = children.changes([], [wanted])
    stored = copy.deepcopy(apply.obj)
    stored["spec"].update(clusterIPs=["None"], sessionAffinity="None")
    assert children.changes([stored], [wanted]) == []

    edited = copy.deepcopy(stored)
    edited["spec"]["selector"] = {"other": "pods"}
    assert children.changes([edited], [wanted]) == [apply]

    less = copy.deepcopy(wanted)
    del less["spec"]["publishNotReadyAddresses"]
    assert len(children.changes([stored], [less])) == 1

    terminating = copy.deepcopy(edited)
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert children.changes([terminating], [wanted]) == []


# --- autoscaler


def autoscaled(**options: Any) -> Manifest:
    return raycluster(group(), enableInTreeAutoscaling=True, autoscalerOptions=options)


@pytest.mark.parametrize(
    ("options", "ray_version", "env", "v2"),
    [
        ({}, "2.47.0", None, True),
        ({}, "2.46.9", None, False),
        ({}, "", None, False),
        ({"version": "v1"}, "2.60.0", None, False),
        ({"version": "v2"}, "2.40.0", None, True),
        ({}, "2.60.0", "0", False),
        ({}, "2.40.0", "1", True),
        ({"version": "v1"}, "2.40.0", "1", False),
    ],
)
def test_version_of_the_autoscaler(options: Manifest, ray_version: str, env: str | None, v2: bool) -> None:
    cluster = autoscaled(**options)
    cluster["spec"]["rayVersion"] = ray_version
    variables = [] if env is None else [{"name": "RAY_enable_autoscaler_v2", "value": env}]
    cluster["spec"]["headGroupSpec"]["template"] = template(env=variables, image="own")
    found = view(cluster)
    assert found.autoscaler_v2 is v2
    for pod in (build_head(found, slot=0), build_worker(found, found.workers[0], head_uid="")):
        assert pod["spec"].get("restartPolicy") == ("Never" if v2 else None)


def test_options_reach_the_sidecar() -> None:
    options = {
        "image": "own:1",
        "imagePullPolicy": "Always",
        "securityContext": {"runAsNonRoot": True},
        "env": [{"name": "RAY_CLUSTER_NAME", "value": "mine"}],
        "envFrom": [{"configMapRef": {"name": "x"}}],
        "volumeMounts": [{"name": "certs", "mountPath": "/certs"}],
        "args": ["ulimit -n 1; $KUBERAY_GEN_AUTOSCALER_START_CMD"],
    }
    container = autoscaler.container(view(autoscaled(**options)))
    assert container["image"] == "own:1"
    assert container["args"] == options["args"]
    assert container["command"][0] == "/bin/bash"
    assert [item for item in container["env"] if item["name"] == "RAY_CLUSTER_NAME"] == options["env"]
    for field in ("envFrom", "volumeMounts", "securityContext", "imagePullPolicy"):
        assert container[field] == options[field]
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}


def test_rights_of_the_autoscaler() -> None:
    assert autoscaler.rbac(view(raycluster())) == []
    account, role, binding = autoscaler.rbac(view(autoscaled()))
    assert account["metadata"]["name"] == role["metadata"]["name"] == "demo"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "demo", "namespace": "ns"}]
    assert {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]} in role["rules"]

    cluster = autoscaled()
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = "mine"
    kinds = [obj["kind"] for obj in autoscaler.rbac(view(cluster))]
    assert kinds == ["Role", "RoleBinding"]


# --- fault tolerance and tokens


def test_storage_namespace() -> None:
    options = {"redisAddress": "redis:6379"}
    cluster = raycluster(gcsFaultToleranceOptions=options)
    assert gcs.storage_namespace(view(cluster)) == "cluster-uid"
    cluster["metadata"]["annotations"] = {names.EXTERNAL_STORAGE_NAMESPACE: "by-annotation"}
    assert gcs.storage_namespace(view(cluster)) == "by-annotation"
    options["externalStorageNamespace"] = "by-option"
    assert gcs.storage_namespace(view(cluster)) == "by-option"


def test_what_survives_is_told_by_the_pod_that_runs() -> None:
    plain, durable = view(raycluster()), view(raycluster(gcsFaultToleranceOptions={"redisAddress": "r:1"}))
    assert gcs.head_state_survives(plain, build_head(durable, slot=0))
    assert not gcs.head_state_survives(durable, build_head(plain, slot=0))


def test_tokens() -> None:
    assert auth.secret(view(raycluster())) is None
    assert auth.secret(view(raycluster(authOptions={"mode": "disabled"}))) is None
    found = view(raycluster(authOptions={"mode": "token"}))
    secret = auth.secret(found)
    assert secret is not None
    assert (secret.ref.name, secret.key, secret.owner["uid"]) == ("demo", "auth_token", "cluster-uid")
    mine = view(raycluster(authOptions={"mode": "token", "secretName": "mine"}))
    assert auth.secret(mine) is None
    assert auth.env(mine)[1]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "auth_token"}
