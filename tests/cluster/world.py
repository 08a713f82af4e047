"""A tiny cluster around ``decide``: carries decisions out, plays the kubelet, and counts what was written."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings

from rayservice_operator.api import names
from rayservice_operator.cluster.decide import decide
from rayservice_operator.cluster.pod import dry_run_key
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import (
    Action,
    Apply,
    Create,
    Decision,
    Delete,
    DryRun,
    DryRunResult,
    EnsureSecret,
    JsonPatch,
    Note,
)
from rayservice_operator.core.objects import Manifest, labels_of, metadata, name_of
from rayservice_operator.core.timestamps import to_rfc3339

CALM = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For property tests on a machine that others use as well."""

START = 1_700_000_000.0
IMAGE = "rayproject/ray:2.60.0"


def template(**container: Any) -> Manifest:
    """A pod template with one Ray container."""
    ray = {"name": "ray", "image": IMAGE, "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}, **container}
    return {"spec": {"containers": [ray]}}


def group(name: str = "small", replicas: int = 1, **more: Any) -> Manifest:
    """A worker group."""
    return {
        "groupName": name,
        "replicas": replicas,
        "minReplicas": 0,
        "maxReplicas": 100,
        "rayStartParams": {},
        "template": template(),
        **more,
    }


def raycluster(*groups: Manifest, name: str = "demo", **spec: Any) -> Manifest:
    """A RayCluster of generation 1; ``spec`` are further fields of the spec."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": "cluster-uid",
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {"rayStartParams": {}, "template": template()},
            "workerGroupSpecs": list(groups),
            **spec,
        },
    }


def of_service(cluster: Manifest) -> Manifest:
    """The same cluster as a RayService makes it."""
    result = copy.deepcopy(cluster)
    labels = {names.ORIGIN_KIND: "RayService", names.ORIGIN_NAME: "svc"}
    result["metadata"]["labels"] = {**(result["metadata"].get("labels") or {}), **labels}
    return result


class World:
    """State of one RayCluster and its children, changed only by actions and by the kubelet's methods below."""

    def __init__(self, cluster: Manifest, config: OperatorConfig | None = None) -> None:
        self.cluster = copy.deepcopy(cluster)
        self.config = config or OperatorConfig()
        self.now = START
        self.careful = True
        self.pods: dict[str, Manifest] = {}
        self.children: dict[tuple[str, str], Manifest] = {}
        self.dry_runs: dict[str, DryRunResult] = {}
        self.refusals: dict[str, str] = {}
        self.load: Mapping[str, int] | None = None
        self.secrets: set[str] = set()
        self.notes: list[Note] = []
        self.writes = 0
        self._serial = 0

    # --- the operator

    def snapshot(self) -> ClusterSnapshot:
        """What ``decide`` is shown: a copy, so that a change by it would be seen, unless ``careful`` is off."""
        if not self.careful:
            pods, children = tuple(self.pods.values()), tuple(self.children.values())
            return ClusterSnapshot(self.cluster, self.config, pods, children, self.dry_runs, self.load)
        return ClusterSnapshot(
            cluster=copy.deepcopy(self.cluster),
            config=self.config,
            pods=tuple(copy.deepcopy(list(self.pods.values()))),
            children=tuple(copy.deepcopy(list(self.children.values()))),
            dry_runs=dict(self.dry_runs),
            load=self.load,
        )

    def decide(self) -> Decision:
        """One decision, not carried out. Checks that it is pure."""
        snapshot = self.snapshot()
        if not self.careful:
            return decide(snapshot, self.now)
        before = copy.deepcopy(snapshot)
        decision = decide(snapshot, self.now)
        assert snapshot == before, "decide changed its snapshot"
        assert decision == decide(dataclasses.replace(snapshot), self.now), "same snapshot, another decision"
        return decision

    def step(self, stop_after: int | None = None) -> Decision:
        """Decide and carry out, or only the first ``stop_after`` actions, as if the operator died then."""
        decision = self.decide()
        for action in decision.actions[:stop_after]:
            self.act(action)
        if stop_after is None or stop_after > len(decision.actions):
            if decision.status is not None and decision.status != self.cluster.get("status"):
                self.cluster["status"] = copy.deepcopy(decision.status)
                self.writes += 1
            self.notes += decision.notes
        return decision

    def settle(self, limit: int = 30) -> int:
        """Steps until a decision writes nothing; the kubelet does nothing meanwhile. Returns the number of steps."""
        for count in range(limit):
            before = self.writes
            self.step()
            if self.writes == before:
                return count
        raise AssertionError(f"no end of writing after {limit} decisions: {self.decide().actions}")

    def act(self, action: Action) -> None:
        """Carry one action out."""
        self.writes += 1
        match action:
            case DryRun(key=key, obj=obj):
                assert key == dry_run_key(obj)
                self.dry_runs[key] = DryRunResult(self.now, self.refusals.get(labels_of(obj)[names.NODE_GROUP]))
            case Create(obj=obj) if obj["kind"] == "Pod":
                self._create_pod(copy.deepcopy(obj))
            case Create(obj=obj) | Apply(obj=obj):
                self.children[(obj["kind"], name_of(obj))] = copy.deepcopy(obj)
            case Delete(ref=ref, grace_seconds=grace):
                assert ref.uid, "deletions name the UID"
                pod = self.pods.get(ref.name)
                if pod is not None and metadata(pod)["uid"] == ref.uid:
                    if grace == 0:
                        del self.pods[ref.name]
                    else:
                        pod["metadata"].setdefault("deletionTimestamp", to_rfc3339(self.now + 30))
            case EnsureSecret(ref=ref):
                self.secrets.add(ref.name)
            case JsonPatch(operations=operations):
                self._patch(operations)
            case other:
                raise AssertionError(f"unexpected action {other}")

    def _create_pod(self, pod: Manifest) -> None:
        meta = pod["metadata"]
        self._serial += 1
        name = meta.get("name") or f"{meta['generateName']}{self._serial:05d}"
        if name in self.pods:
            return  # already exists, same controller
        meta.update(name=name, uid=f"uid-{self._serial}", creationTimestamp=to_rfc3339(self.now))
        pod["status"] = {"phase": "Pending"}
        self.pods[name] = pod

    def _patch(self, operations: tuple[dict[str, Any], ...]) -> None:
        finalizers = self.cluster["metadata"].setdefault("finalizers", [])
        for operation in operations:
            match operation:
                case {"op": "add", "value": list(value)}:
                    self.cluster["metadata"]["finalizers"] = value
                case {"op": "add", "value": value}:
                    finalizers.append(value)
                case {"op": "remove", "path": path}:
                    del finalizers[int(path.rsplit("/", 1)[1])]

    # --- the kubelet and the user

    def run_pods(self) -> None:
        """Every pod that was only created now runs and is ready; terminating ones are gone."""
        for name, pod in list(self.pods.items()):
            if metadata(pod).get("deletionTimestamp"):
                del self.pods[name]
            elif pod["status"]["phase"] == "Pending":
                self.set_running(name)

    def set_running(self, name: str, *, ready: bool = True) -> None:
        """The pod runs."""
        pod = self.pods[name]
        at = to_rfc3339(self.now)
        ray = pod["spec"]["containers"][0]["name"]
        pod["status"] = {
            "phase": "Running",
            "podIP": f"10.0.0.{int(metadata(pod)['uid'].split('-')[1])}",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": at}],
            "containerStatuses": [{"name": ray, "restartCount": 0, "state": {"running": {"startedAt": at}}}],
        }

    def fail(self, name: str) -> None:
        """The pod ends."""
        pod = self.pods[name]
        ray = pod["spec"]["containers"][0]["name"]
        started = to_rfc3339(self.now - 1) if pod["status"]["phase"] == "Pending" else None
        old = (pod["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("running", {}).get("startedAt")
        ended = {"startedAt": old or started, "finishedAt": to_rfc3339(self.now), "exitCode": 1}
        pod["status"] = {"phase": "Failed", "containerStatuses": [{"name": ray, "state": {"terminated": ended}}]}

    def edit(self, **spec: Any) -> None:
        """A user's edit of fields of the spec."""
        self.cluster["spec"].update(copy.deepcopy(spec))
        self.cluster["metadata"]["generation"] += 1

    def delete(self) -> None:
        """The user deletes the RayCluster."""
        self.cluster["metadata"]["deletionTimestamp"] = to_rfc3339(self.now)

    # --- what the tests ask

    def of(self, group_name: str) -> list[Manifest]:
        """Pods of that group that are not terminating."""
        return [
            pod
            for pod in self.pods.values()
            if labels_of(pod)[names.NODE_GROUP] == group_name and not metadata(pod).get("deletionTimestamp")
        ]

    @property
    def head(self) -> Manifest:
        """The head pod; there must be exactly one."""
        (head,) = self.of(names.HEAD_GROUP)
        return head

    def condition(self, type_: str) -> dict[str, Any] | None:
        """The stored condition."""
        stored = (self.cluster.get("status") or {}).get("conditions") or ()
        return next((c for c in stored if c["type"] == type_), None)

    def reasons(self) -> list[str]:
        """Reasons of all notes so far."""
        return [note.reason for note in self.notes]


def provisioned(cluster: Manifest, config: OperatorConfig | None = None) -> World:
    """A world in which the cluster has come up."""
    world = World(cluster, config)
    for _ in range(10):
        world.settle()
        world.run_pods()
    world.settle()
    assert world.condition("RayClusterProvisioned")["status"] == "True"  # type: ignore[index]
    return world
