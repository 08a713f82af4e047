"""What a decision gets to see."""

from __future__ import annotations

from typing import cast

from rayservice_operator.api import names
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import DryRunResult
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Ref, name_of
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.dry_runs import MAX_PER_KEY, DryRunCache
from rayservice_operator.engine.observers import NoObservers
from rayservice_operator.engine.snapshots import Snapshots
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.store import SERVICE_NAME_LABEL, Store
from tests.engine.test_routing import CLUSTER, SERVICE, obj

service = obj("RayService", "svc")
cluster = obj("RayCluster", "svc-abcde", service)
other = obj("RayCluster", "svc-fghij", service)


class Observers(NoObservers):
    """One observation, of ``svc-abcde``."""

    seen = ServeObservation(head_uid="h", started_at=1.0)

    def get(self, cluster: Ref) -> ServeObservation | None:
        return self.seen if cluster.name == "svc-abcde" and cluster.uid == "uid-svc-abcde" else None


def snapshots(*objects: dict[str, object]) -> tuple[Snapshots, DryRunCache]:
    store, dry_runs = Store(), DryRunCache()
    for item in objects:
        store.put(item)
    surveyor = Surveyor(api=cast("KubeApi", None), clock=ManualClock(), on_answer=lambda _: None)
    return Snapshots(store, OperatorConfig(), Observers(), dry_runs, surveyor=surveyor), dry_runs


def label(cluster_name: str) -> dict[str, dict[str, str]]:
    return {"labels": {names.CLUSTER: cluster_name}}


def test_a_cluster_sees_the_pods_that_it_controls_and_that_carry_its_label() -> None:
    mine = obj("Pod", "mine", cluster, **label("svc-abcde"))
    relabelled = obj("Pod", "relabelled", cluster, **label("another"))
    foreign = obj("Pod", "foreign", other, **label("svc-abcde"))
    head = obj("Service", "svc-abcde-head-svc", cluster)
    build, dry_runs = snapshots(cluster, mine, relabelled, foreign, head)
    dry_runs.put(CLUSTER, "q", DryRunResult(1.0))
    dry_runs.put(SERVICE, "not mine", DryRunResult(1.0))
    snapshot = build.cluster(CLUSTER, cluster)
    assert [name_of(pod) for pod in snapshot.pods] == ["mine"]
    assert [name_of(child) for child in snapshot.children] == ["svc-abcde-head-svc"]
    assert set(snapshot.dry_runs) == {"q"}


def test_a_service_sees_its_clusters_their_pods_its_slices_and_revisions_in_order() -> None:
    serve = obj("Service", "svc-serve-svc", service)
    part = obj("EndpointSlice", "part", labels={SERVICE_NAME_LABEL: "svc-serve-svc"})
    elsewhere = obj("EndpointSlice", "elsewhere", labels={SERVICE_NAME_LABEL: "another"})
    revisions = [obj("ControllerRevision", f"r{n}", service) | {"revision": n} for n in (10, 9)]
    pod = obj("Pod", "p", cluster, **label("svc-abcde"))
    build, _ = snapshots(service, cluster, other, serve, part, elsewhere, pod, *revisions)
    snapshot = build.service(SERVICE, service)
    assert [name_of(c) for c in snapshot.clusters] == ["svc-abcde", "svc-fghij"]
    assert {name: [name_of(p) for p in pods] for name, pods in snapshot.pods.items()} == {
        "svc-abcde": ["p"],
        "svc-fghij": [],
    }
    assert [name_of(c) for c in snapshot.children] == ["svc-serve-svc"]
    assert [name_of(s) for s in snapshot.endpoint_slices] == ["part"]
    assert [r["revision"] for r in snapshot.revisions] == [9, 10]
    assert snapshot.observations == {"svc-abcde": Observers.seen}


def test_dry_run_answers_are_bounded_and_forgotten_with_the_object() -> None:
    cache = DryRunCache()
    for number in range(MAX_PER_KEY + 5):
        cache.put(SERVICE, f"q{number}", DryRunResult(float(number)))
    view = cache.view(SERVICE)
    assert len(view) == MAX_PER_KEY
    assert "q0" not in view
    cache.forget(SERVICE)
    assert cache.view(SERVICE) == {}
    assert len(view) == MAX_PER_KEY  # a snapshot does not change afterwards
    assert cache.view(Key("RayService", "ns", "never")) == {}


def test_a_cluster_sees_the_budgets_of_its_namespace_that_are_not_its_own() -> None:
    ours = obj("PodDisruptionBudget", "ours", cluster)
    theirs = obj("PodDisruptionBudget", "theirs")
    elsewhere = obj("PodDisruptionBudget", "elsewhere", namespace="there")
    build, _ = snapshots(cluster, ours, theirs, elsewhere)
    snapshot = build.cluster(CLUSTER, cluster)
    assert [name_of(budget) for budget in snapshot.budgets] == ["theirs"]
    assert [name_of(child) for child in snapshot.children] == ["ours"]


def test_a_service_sees_what_a_pending_cluster_has_left_behind() -> None:
    left = obj("Pod", "left", labels={names.CLUSTER: "svc-gone"})
    waiting = service | {"status": {"pendingServiceStatus": {"rayClusterName": "svc-gone"}}}
    build, _ = snapshots(waiting, cluster, left)
    assert [name_of(pod) for pod in build.service(SERVICE, waiting).pods["svc-gone"]] == ["left"]
