"""The simulated API server of ``tests/sim`` against the real one: one script of operations, the same answers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rayservice_operator.core.objects import Manifest, Ref, ref
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError
from rayservice_operator.kube.resources import reference
from tests.sim import manifests as m
from tests.sim.apiserver import Client, Server

MANAGER = "rayservice-operator"


def labelled(obj: Manifest, **labels: str) -> Manifest:
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


class Script:
    """Does things through one ``KubeApi`` and keeps what came back, without what must differ."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.results: list[tuple[str, Any]] = []
        self.uids: dict[str, str] = {}
        self.versions: dict[str, int] = {}

    async def do(self, what: str, call: Awaitable[Any]) -> Any:
        """One operation: its answer or its error."""
        try:
            answer = await call
        except ApiError as error:
            self.results.append((what, type(error).__name__))
            return None
        self.results.append((what, self.plain(answer)))
        return answer

    def plain(self, answer: Any) -> Any:
        """Names for UIDs, «same» or «newer» for versions; no times, no managed fields, no addresses."""
        if not isinstance(answer, dict):
            return answer
        meta = {k: v for k, v in answer["metadata"].items() if k in _KEPT}
        uid = answer["metadata"].get("uid", "")
        version = int(answer["metadata"].get("resourceVersion") or 0)
        before = self.versions.get(uid)
        self.versions[uid] = version
        meta["version"] = "first" if before is None else "same" if before == version else "newer"
        meta["uid"] = self.uids.setdefault(uid, f"uid-{len(self.uids)}")
        meta["terminating"] = "deletionTimestamp" in answer["metadata"]
        if "generateName" in meta:
            meta.pop("name", None)
        body = {k: v for k, v in answer.items() if k not in ("metadata", "managedFields")}
        if answer["kind"] == "Service":
            body["spec"] = {k: v for k, v in body["spec"].items() if k not in ("clusterIP", "clusterIPs")}
        if answer["kind"] == "Pod":  # dozens of defaults that no decision reads
            body = {"phase": body["status"]["phase"], "node": body["spec"].get("nodeName")}
        for owner in meta.get("ownerReferences") or ():
            owner["uid"] = self.uids.get(owner["uid"], owner["uid"])
        return {"metadata": meta, **body}

    def ref(self, kind: str, name: str, uid: str = "") -> Ref:
        return reference(kind, self.namespace, name, uid)


_KEPT = (
    "name",
    "generateName",
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "deletionGracePeriodSeconds",
)


def service(namespace: str, name: str = "svc", **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "serve", "port": 8000}], "selector": {"a": "b"}, **spec},
    }


async def custom_resources(s: Script) -> None:
    """Defaults, pruning, generation, status subresource, conditional and no-op writes."""
    manifest = m.rayservice() | {"metadata": {"name": "demo", "namespace": s.namespace}}
    del manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"]
    made = await s.do("create", s.api.create({**manifest, "status": {"serviceStatus": "Running"}}))
    target = ref(made)
    await s.do("create again", s.api.create(manifest))
    # With a label, because the first patch after a creation makes a new version even where nothing differs.
    unknown = {"spec": {"nonsense": 1}, "metadata": {"labels": {"c": "d"}}}
    await s.do("unknown field", s.api.merge_patch(target, unknown))
    await s.do("wrong type", s.api.merge_patch(target, {"spec": {"suspend": "yes"}}))
    await s.do("no change", s.api.merge_patch(target, {"spec": {"rayClusterDeletionDelaySeconds": 20}}))
    await s.do("spec", s.api.merge_patch(target, {"spec": {"suspend": True}}))
    await s.do("label", s.api.merge_patch(target, {"metadata": {"labels": {"a": "b"}}}))
    await s.do("status by the main resource", s.api.merge_patch(target, {"status": {"serviceStatus": "Running"}}))
    await s.do("status", s.api.patch_status(target, {"observedGeneration": 2, "serviceStatus": "Running"}))
    await s.do("status, no change", s.api.patch_status(target, {"observedGeneration": 2}))
    await s.do("status, removal", s.api.patch_status(target, {"serviceStatus": None}))
    await s.do("other uid", s.api.merge_patch(s.ref("RayService", "demo", "no-such-uid"), {"spec": {"suspend": False}}))
    await s.do("old version", s.api.merge_patch(target, {"metadata": {"resourceVersion": "1"}}))
    groups = "/spec/rayClusterConfig/workerGroupSpecs/0"
    test = {"op": "test", "path": f"{groups}/groupName", "value": "gpu"}
    await s.do("json", s.api.json_patch(target, [test, {"op": "add", "path": f"{groups}/replicas", "value": 3}]))
    await s.do("json, no such path", s.api.json_patch(target, [test, {"op": "remove", "path": "/spec/serveService"}]))
    await s.do("json, wrong test", s.api.json_patch(target, [{**test, "value": "cpu"}]))
    await s.do("dry run", s.api.dry_run(manifest | {"metadata": {"name": "other", "namespace": s.namespace}}))
    await s.do("dry run of a name that is taken", s.api.dry_run(manifest))
    await s.do("get what was not made", s.api.get(s.ref("RayService", "other")))
    await s.do("finalizer", s.api.merge_patch(target, {"metadata": {"finalizers": ["example.com/wait"]}}))
    await s.do("delete other uid", s.api.delete(s.ref("RayService", "demo", "no-such-uid")))
    await s.do("delete with finalizer", s.api.delete(target))
    await s.do("get terminating", s.api.get(target))
    await s.do("finalizer gone", s.api.merge_patch(target, {"metadata": {"finalizers": None}}))
    await s.do("get gone", s.api.get(target))
    await s.do("delete gone", s.api.delete(target))
    await s.do("patch gone", s.api.merge_patch(target, {"spec": {"suspend": False}}))


async def applying(s: Script) -> None:
    """Server-side apply: creation, no change, dropped fields, lists by key, fields of others."""
    first = labelled(service(s.namespace), one="1", two="2")
    await s.do("apply", s.api.apply(first))
    await s.do("apply the same", s.api.apply(first))
    await s.do("drop a label", s.api.apply(labelled(first, one="1")))
    ports = [{"name": "serve", "port": 8000}, {"name": "dashboard", "port": 8265}]
    await s.do("add a port", s.api.apply(labelled(service(s.namespace, ports=ports), one="1")))
    await s.do("drop a port", s.api.apply(labelled(service(s.namespace, ports=ports[1:]), one="1")))
    await s.do("change the selector", s.api.apply(labelled(service(s.namespace, selector={"c": "d"}), one="1")))
    target = s.ref("Service", "svc")
    await s.do("somebody's annotation", s.api.merge_patch(target, {"metadata": {"annotations": {"theirs": "1"}}}))
    await s.do("somebody's type", s.api.merge_patch(target, {"spec": {"internalTrafficPolicy": "Local"}}))
    await s.do("apply over it", s.api.apply(labelled(service(s.namespace), one="1")))
    await s.do("take a field back", s.api.apply(service(s.namespace, internalTrafficPolicy="Cluster")))
    await s.do("create first", s.api.create(labelled(service(s.namespace, "made"), one="1")))
    await s.do("then apply less", s.api.apply(service(s.namespace, "made")))
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "rev", "namespace": s.namespace},
        "data": {"spec": {"a": 1}},
        "revision": 1,
    }
    await s.do("revision", s.api.apply(revision))
    await s.do("another number", s.api.apply({**revision, "revision": 2}))
    await s.do("other data", s.api.apply({**revision, "data": {"spec": {"a": 2}}}))
    await s.do("delete a service", s.api.delete(target))
    await s.do("get it", s.api.get(target))


async def pods(s: Script) -> None:
    """Generated names, grace periods, status, foreground deletion."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "p-", "namespace": s.namespace},
        "spec": {"containers": [{"name": "ray", "image": "ray:a"}]},
    }
    one = await s.do("create", s.api.create(manifest))
    await s.do("another", s.api.create(manifest))
    await s.do("status by creation", s.api.patch_status(ref(one), {"phase": "Running"}))
    await s.do("delete, not scheduled", s.api.delete(ref(one)))
    bound = {**manifest, "spec": {**manifest["spec"], "nodeName": "node-1"}}
    two = await s.do("create on a node", s.api.create(bound))
    await s.do("running", s.api.patch_status(ref(two), {"phase": "Running"}))
    await s.do("delete, changed since", s.api.delete(ref(two), resource_version=two["metadata"]["resourceVersion"]))
    await s.do("delete", s.api.delete(ref(two)))
    await s.do("delete again", s.api.delete(ref(two)))
    await s.do("delete sooner", s.api.delete(ref(two), grace_seconds=5))
    await s.do("delete now", s.api.delete(ref(two), grace_seconds=0))
    await s.do("gone", s.api.get(ref(two)))
    three = await s.do("create a third", s.api.create(bound))
    await s.do("failed", s.api.patch_status(ref(three), {"phase": "Failed"}))
    await s.do("delete failed", s.api.delete(ref(three)))
    cluster = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "c", "namespace": s.namespace},
        "spec": m.cluster_spec(),
    }
    made = await s.do("cluster", s.api.create(cluster))
    await s.do("in the foreground", s.api.delete(ref(made), propagation="Foreground"))
    await s.do("collector's part", s.api.merge_patch(ref(made), {"metadata": {"finalizers": None}}))
    await s.do("gone too", s.api.get(ref(made)))


@pytest.mark.parametrize("script", [custom_resources, applying, pods])
async def test_same_answers(client: KubeClient, namespace: str, script: Callable[[Script], Awaitable[None]]) -> None:
    real = Script(client, namespace)
    simulated = Script(Client(Server(time.time), MANAGER), namespace)
    await script(real)
    await script(simulated)
    assert [what for what, _ in real.results] == [what for what, _ in simulated.results]
    for (what, expected), (_, got) in zip(real.results, simulated.results, strict=True):
        assert got == expected, what
