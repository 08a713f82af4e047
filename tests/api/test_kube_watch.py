"""The store against a real API server that is restarted and compacted: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from e2e.localkube import light
from rayservice_operator.core.objects import Manifest, ref
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError, Gone
from rayservice_operator.kube.reflector import Reflector
from rayservice_operator.kube.store import Change, Store
from tests.api.conftest import connection

WAIT_S = 240
NAMESPACE = "default"


@pytest.fixture(scope="module")
def own() -> Iterator[light.Api]:
    """An API server of our own, to restart."""
    with light.apiserver() as api:
        yield api


@pytest.fixture
async def mine(own: light.Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(lambda: connection(own)) as client:
        yield client


def lease(name: str) -> Manifest:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"leaseDurationSeconds": 1},
    }


async def until(store: Store, condition: Any) -> None:
    """Wait for the store to change until ``condition`` holds."""
    changed = asyncio.Event()
    store.subscribe(lambda _: changed.set())
    async with asyncio.timeout(WAIT_S):
        while not condition():
            changed.clear()
            await changed.wait()


@contextlib.asynccontextmanager
async def reflecting(client: KubeClient, store: Store) -> AsyncIterator[Reflector]:
    reflector = Reflector(client, store, "Lease", NAMESPACE)
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(reflector.synced.wait(), WAIT_S)
        yield reflector
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def patient_create(client: KubeClient, obj: Manifest) -> Manifest:
    """Create as soon as the server lets us."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await client.create(obj)
            except ApiError:
                await asyncio.sleep(0.1)


async def test_a_watch_survives_a_restart_of_the_server(own: light.Api, mine: KubeClient) -> None:
    store = Store()
    async with reflecting(mine, store):
        before = await mine.create(lease("before-restart"))
        await until(store, lambda: store.get("Lease", NAMESPACE, "before-restart"))
        own.restart()  # in this thread: the server dies with the thread that started it
        await patient_create(mine, lease("after-restart"))
        await until(store, lambda: store.get("Lease", NAMESPACE, "after-restart"))
        await mine.delete(ref(before))
        await until(store, lambda: not store.get("Lease", NAMESPACE, "before-restart"))


async def test_what_is_deleted_in_a_gap_that_etcd_forgot_is_found(own: light.Api, mine: KubeClient) -> None:
    store = Store()
    changes: list[Change] = []
    ghost = await mine.create(lease("ghost"))
    async with reflecting(mine, store):
        assert store.get("Lease", NAMESPACE, "ghost") is not None
    # Nobody watches now.
    stale = (await mine.list("Lease", NAMESPACE)).resource_version
    await mine.delete(ref(ghost))
    await mine.create(lease("fresh"))
    own.compact()
    store.subscribe(changes.append)
    with pytest.raises(Gone):
        async with contextlib.aclosing(mine.watch("Lease", NAMESPACE, resource_version=stale)) as events:
            await anext(events)
    async with reflecting(mine, store):
        assert store.get("Lease", NAMESPACE, "ghost") is None
        assert store.get("Lease", NAMESPACE, "fresh") is not None
    assert any(change.new is None and change.old is not None for change in changes)


async def test_our_own_writes_are_not_undone_by_the_watch(mine: KubeClient) -> None:
    store = Store()
    seen: list[str] = []
    store.subscribe(lambda change: seen.append(change.new["metadata"]["resourceVersion"] if change.new else "-"))
    async with reflecting(mine, store):
        made = await mine.create(lease("written-through"))
        for number in range(20):
            made = await mine.merge_patch(ref(made), {"spec": {"leaseTransitions": number}})
            store.put(made)
            assert store.get("Lease", NAMESPACE, "written-through") == {
                **made,
                "metadata": {k: v for k, v in made["metadata"].items() if k != "managedFields"},
            }
        await mine.create(lease("end"))
        await until(store, lambda: store.get("Lease", NAMESPACE, "end"))
    versions = [int(version) for version in seen if version != "-"]
    assert versions == sorted(versions)
