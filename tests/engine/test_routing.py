"""Whose business a change is."""

from __future__ import annotations

from typing import Any

from rayservice_operator.api import names
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest
from rayservice_operator.engine.queue import Priority
from rayservice_operator.engine.routing import route
from rayservice_operator.kube.store import SERVICE_NAME_LABEL, Change, Store

SERVICE, CLUSTER = Key("RayService", "ns", "svc"), Key("RayCluster", "ns", "svc-abcde")


def obj(kind: str, name: str, owner: Manifest | None = None, **meta: Any) -> Manifest:
    made: Manifest = {
        "apiVersion": "x/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1", **meta},
    }
    if owner is not None:
        made["metadata"]["ownerReferences"] = [
            {
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
    return made


service = obj("RayService", "svc", generation=1)
cluster = obj("RayCluster", "svc-abcde", service, generation=1)
pod = obj("Pod", "p", cluster)
serve = obj("Service", "svc-serve-svc", service)


def store(*objects: Manifest) -> Store:
    filled = Store()
    for item in objects:
        filled.put(item)
    return filled


def test_a_pod_concerns_its_cluster_and_the_service_above() -> None:
    keys = route(store(service, cluster, pod), Change(None, pod))
    assert keys == {CLUSTER: Priority.CHILD, SERVICE: Priority.CHILD}


def test_a_pod_whose_cluster_is_not_known_yet_concerns_the_cluster() -> None:
    assert route(store(pod), Change(None, pod)) == {CLUSTER: Priority.CHILD}


def test_a_pod_of_a_cluster_of_that_name_before_does_not_concern_the_service() -> None:
    successor = obj("RayCluster", "svc-abcde", service, uid="another")
    assert route(store(successor), Change(pod, None)) == {CLUSTER: Priority.CHILD}


def test_a_deleted_pod_concerns_the_same() -> None:
    assert set(route(store(service, cluster), Change(pod, None))) == {CLUSTER, SERVICE}


def test_a_pod_of_somebody_else_concerns_nobody() -> None:
    assert route(store(), Change(None, obj("Pod", "p", obj("ReplicaSet", "rs")))) == {}


def test_a_cluster_concerns_itself_and_its_service() -> None:
    assert route(store(service, cluster), Change(None, cluster)) == {CLUSTER: Priority.SPEC, SERVICE: Priority.CHILD}


def test_an_edit_is_more_urgent_than_a_status() -> None:
    edited = obj("RayService", "svc", generation=2)
    status = {**service, "status": {"x": 1}}
    assert route(store(), Change(service, edited)) == {SERVICE: Priority.SPEC}
    assert route(store(), Change(service, status)) == {SERVICE: Priority.CHILD}


def test_an_orphaned_child_concerns_the_owner_before() -> None:
    assert set(route(store(service), Change(serve, obj("Service", "svc-serve-svc")))) == {SERVICE}


def test_a_slice_concerns_the_owner_of_its_service() -> None:
    part = obj("EndpointSlice", "s", obj("Service", "svc-serve-svc"), labels={SERVICE_NAME_LABEL: "svc-serve-svc"})
    assert set(route(store(service, serve, part), Change(None, part))) == {SERVICE}


def test_a_slice_of_an_unknown_service_goes_by_its_labels() -> None:
    labels = {SERVICE_NAME_LABEL: "x", names.ORIGIN_KIND: "RayService", names.ORIGIN_NAME: "svc"}
    assert set(route(store(), Change(None, obj("EndpointSlice", "s", labels=labels)))) == {SERVICE}


def test_a_users_own_budget_concerns_every_cluster_beside_it_and_one_of_ours_its_cluster() -> None:
    other, elsewhere = obj("RayCluster", "other"), obj("RayCluster", "elsewhere", namespace="there")
    known = store(service, cluster, other, elsewhere)
    theirs = obj("PodDisruptionBudget", "theirs")
    assert set(route(known, Change(None, theirs))) == {CLUSTER, Key("RayCluster", "ns", "other")}
    ours = obj("PodDisruptionBudget", "svc-abcde-head", cluster)
    assert set(route(known, Change(None, ours))) == {CLUSTER, SERVICE}
