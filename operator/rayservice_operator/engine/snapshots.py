"""Gathers what one decision looks at. Nothing here waits: it is all in memory already."""

from __future__ import annotations

from collections.abc import Mapping

from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Failure
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, controller_uid, metadata, name_of, ref, uid_of
from rayservice_operator.engine.dry_runs import DryRunCache
from rayservice_operator.engine.observers import Observers
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.store import Store
from rayservice_operator.service.context import PENDING, role_name
from rayservice_operator.service.snapshot import ServiceSnapshot


class Snapshots:
    """Builds the snapshot of a RayCluster or RayService from store, observers and dry-run answers."""

    def __init__(
        self,
        store: Store,
        config: OperatorConfig,
        observers: Observers,
        dry_runs: DryRunCache,
        *,
        surveyor: Surveyor,
        failures: Mapping[Key, Failure] | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._observers = observers
        self._dry_runs = dry_runs
        self._surveyor = surveyor
        self._failures = failures if failures is not None else {}

    def cluster(self, key: Key, obj: Manifest) -> ClusterSnapshot:
        """Everything observed about the RayCluster ``obj``."""
        owned = self._store.owned(uid_of(obj))
        return ClusterSnapshot(
            cluster=obj,
            config=self._config,
            pods=self._pods(obj),
            children=tuple(child for child in owned if child["kind"] != "Pod"),
            budgets=tuple(
                budget
                for budget in self._store.within("PodDisruptionBudget", key.namespace)
                if controller_uid(budget) != uid_of(obj)
            ),
            dry_runs=self._dry_runs.view(key),
            load=self._observers.load(ref(obj)),
            failure=self._failures.get(key),
        )

    def service(self, key: Key, obj: Manifest) -> ServiceSnapshot:
        """Everything observed about the RayService ``obj``."""
        owned = self._store.owned(uid_of(obj))
        clusters = tuple(child for child in owned if child["kind"] == "RayCluster")
        revisions = (child for child in owned if child["kind"] == "ControllerRevision")
        slices = (
            found
            for child in owned
            if child["kind"] == "Service"
            for found in self._store.labelled("EndpointSlice", key.namespace, name_of(child))
        )
        observed = ((name_of(cluster), self._observers.get(ref(cluster))) for cluster in clusters)
        return ServiceSnapshot(
            service=obj,
            config=self._config,
            clusters=clusters,
            pods={name_of(cluster): self._pods(cluster) for cluster in clusters} | self._left_behind(obj, clusters),
            children=tuple(c for c in owned if c["kind"] not in {"RayCluster", "ControllerRevision", "Pod"}),
            endpoint_slices=tuple(slices),
            revisions=tuple(sorted(revisions, key=lambda revision: int(revision.get("revision") or 0))),
            observations={name: observation for name, observation in observed if observation is not None},
            dry_runs=self._dry_runs.view(key),
            rooms=self._surveyor.view(key),
            failure=self._failures.get(key),
        )

    def _left_behind(self, service: Manifest, clusters: tuple[Manifest, ...]) -> dict[str, tuple[Manifest, ...]]:
        """Pods of the pending cluster that the status names, where that cluster is gone before they are."""
        name = role_name(service.get("status") or {}, PENDING)
        if not name or name in map(name_of, clusters):
            return {}
        return {name: tuple(self._store.labelled("Pod", metadata(service).get("namespace", ""), name))}

    def _pods(self, cluster: Manifest) -> tuple[Manifest, ...]:
        """Pods that the RayCluster controls and that carry its label: what a user relabels is on its own."""
        labelled = self._store.labelled("Pod", metadata(cluster).get("namespace", ""), name_of(cluster))
        owned = {name_of(pod) for pod in self._store.owned(uid_of(cluster), "Pod")}
        return tuple(pod for pod in labelled if name_of(pod) in owned)
