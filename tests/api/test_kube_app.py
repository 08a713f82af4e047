"""The whole process, kopf included, against a real API server; only the decisions are stand-ins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

from e2e.localkube import light
from rayservice_operator.api import names
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Create, Decision, Note
from rayservice_operator.core.objects import Manifest, metadata, name_of, owner_reference, ref
from rayservice_operator.engine.app import App
from rayservice_operator.engine.observers import NoObservers
from rayservice_operator.engine.settings import Settings
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import NotFound
from rayservice_operator.kube.resources import reference
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.api.conftest import connection

WAIT_S = 240


def decide_service(snapshot: ServiceSnapshot, now: float) -> Decision:
    """One RayCluster for each RayService; the status tells how many there are and which pods."""
    service = snapshot.service
    if not snapshot.clusters:
        return Decision(actions=(Create(_child(service, "RayCluster", service["spec"]["rayClusterConfig"])),))
    pods = sorted(name_of(pod) for pods in snapshot.pods.values() for pod in pods)
    status = {
        "numServeEndpoints": len(pods),
        "observedGeneration": metadata(service)["generation"],
        "activeServiceStatus": {"rayClusterName": name_of(snapshot.clusters[0])},
    }
    if status == service.get("status"):
        return Decision(status=status)
    return Decision(status=status, notes=(Note("Seen", f"{len(pods)} pods"),))


def decide_cluster(snapshot: ClusterSnapshot, now: float) -> Decision:
    """One pod for each RayCluster."""
    if snapshot.pods:
        return Decision()
    pod = _child(snapshot.cluster, "Pod", {"containers": [{"name": "ray", "image": "ray"}]})
    pod["metadata"]["labels"][names.CLUSTER] = name_of(snapshot.cluster)
    return Decision(actions=(Create(pod),))


def _child(owner: Manifest, kind: str, spec: Any) -> Manifest:
    return {
        "apiVersion": reference(kind, "", "").api_version,
        "kind": kind,
        "metadata": {
            "generateName": f"{name_of(owner)}-",
            "namespace": metadata(owner)["namespace"],
            "labels": {names.CREATED_BY: names.CREATED_BY_VALUE},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": spec,
    }


def ray_service(namespace: str, name: str = "svc") -> Manifest:
    template = {"spec": {"containers": [{"name": "ray", "image": "ray"}]}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"rayClusterConfig": {"headGroupSpec": {"rayStartParams": {}, "template": template}}},
    }


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Whatever ``condition`` gives as soon as it is true."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(NotFound):
                if found := await condition():
                    return found
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(api: light.Api, namespace: str, **settings: Any) -> AsyncIterator[App]:
    """The process, until the block ends; it must end with exit code 0."""
    app = App(
        Settings(namespaces=(namespace,), http_host="127.0.0.1", http_port=0, **settings),
        OperatorConfig(),
        decide_service=decide_service,
        decide_cluster=decide_cluster,
        new_observers=lambda *_: NoObservers(),
        login=lambda: connection(api),
    )
    task = asyncio.create_task(app.run())
    try:
        yield app
        app.stop()
        async with asyncio.timeout(WAIT_S):
            assert await task == 0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def serving(client: KubeClient, namespace: str, endpoints: int = 1) -> Manifest | None:
    service = await client.get(reference("RayService", namespace, "svc"))
    return service if (service.get("status") or {}).get("numServeEndpoints") == endpoints else None


async def test_from_a_service_to_its_pods_and_back(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    async with running(apiserver, namespace):
        await client.create(ray_service(namespace))
        await until(lambda: serving(client, namespace))
        clusters = (await client.list("RayCluster", namespace)).items
        pods = (await client.list("Pod", namespace)).items
        assert len(clusters) == len(pods) == 1
        await client.delete(ref(pods[0]), grace_seconds=0)

        async def another() -> bool:
            now = (await client.list("Pod", namespace)).items
            return len(now) == 1 and name_of(now[0]) != name_of(pods[0])

        await until(another)

        async def told() -> bool:
            events = (await client.list("Event", namespace)).items
            return any(event["reason"] == "Seen" and event["regarding"]["name"] == "svc" for event in events)

        await until(told)


async def test_nothing_is_written_when_nothing_changes(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    async with running(apiserver, namespace) as app:
        await client.create(ray_service(namespace))
        await until(lambda: serving(client, namespace))
        await app.recorder.flush()

        async def quiet() -> bool:
            return app.queue.depth() == app.queue.working() == 0 and app.queue.next_due() is None

        await until(quiet)
        before = (await client.list("RayService", namespace)).items
        writes = _writes(app)
        app.reconciler.resync()
        await until(quiet)
        assert _writes(app) == writes
        assert (await client.list("RayService", namespace)).items == before


async def test_kopf_leaves_no_trace_on_the_object(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    async with running(apiserver, namespace):
        made = await client.create(ray_service(namespace))
        served = await until(lambda: serving(client, namespace))
        assert "finalizers" not in metadata(served)
        assert metadata(served).get("annotations") == metadata(made).get("annotations")
        await client.delete(ref(served))

        async def gone() -> bool:
            return not (await client.list("RayService", namespace)).items

        await until(gone)


async def test_a_restart_decides_on_a_full_store(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    await client.create(ray_service(namespace))
    for _ in range(3):
        async with running(apiserver, namespace):
            await until(lambda: serving(client, namespace))
    assert len((await client.list("RayCluster", namespace)).items) == 1
    assert len((await client.list("Pod", namespace)).items) == 1


async def test_health_readiness_and_metrics(apiserver: light.Api, namespace: str) -> None:
    async with running(apiserver, namespace) as app, aiohttp.ClientSession() as session:

        async def ready() -> bool:
            if app.port == 0:
                return False
            async with session.get(f"http://127.0.0.1:{app.port}/readyz") as response:
                return response.status == 200

        await until(ready)
        async with session.get(f"http://127.0.0.1:{app.port}/healthz") as response:
            report = await response.json()
            assert response.status == 200, report
        assert report["phase"] == "running"
        assert all(watch["synced"] for watch in report["watches"].values())
        async with session.get(f"http://127.0.0.1:{app.port}/metrics") as response:
            text = await response.text()
        for metric in ("workqueue_depth", "rest_client_requests_total", "leader_election_master_status"):
            assert metric in text


async def test_a_standby_takes_over_at_once_when_the_leader_stops(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    election = {"leader_elect": True, "lease_namespace": namespace}
    async with running(apiserver, namespace, identity="second", **election) as second:
        async with running(apiserver, namespace, identity="first", **election) as first:

            async def one_leads() -> bool:
                return "running" in {first.health.phase, second.health.phase}

            await until(one_leads)
            assert {first.health.phase, second.health.phase} == {"running", "standby"}
            assert first.health.ready()
            assert second.health.ready()

        async def second_leads() -> bool:
            return second.health.phase == "running"

        await until(second_leads)
        await client.create(ray_service(namespace))
        await until(lambda: serving(client, namespace))


def _writes(app: App) -> float:
    return sum(
        sample.value
        for metric in app.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "rest_client_requests_total"
        and sample.labels["verb"] in {"create", "apply", "patch", "patch_status", "delete"}
    )
