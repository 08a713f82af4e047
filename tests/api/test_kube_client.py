"""The client against a real API server: what the verbs promise."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import kopf
import pytest

from e2e.localkube import light
from rayservice_operator.core.objects import Manifest, name_of, ref, uid_of
from rayservice_operator.kube import errors
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.reflector import OPTIONAL_KINDS
from rayservice_operator.kube.resources import RESOURCES, reference
from tests.api.conftest import connection


def secret(namespace: str, name: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "x"}},
        "stringData": data,
    }


def pod(namespace: str, name: str = "", **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, **({"name": name} if name else {"generateName": "p-"})},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


async def test_every_kind_of_the_table_is_served(client: KubeClient, namespace: str) -> None:
    for kind in RESOURCES.keys() - OPTIONAL_KINDS.keys():  # those need CRDs that not every cluster has
        listing = await client.list(kind, namespace)
        assert listing.resource_version, kind


async def test_create_get_list_delete(client: KubeClient, namespace: str) -> None:
    made = await client.create(secret(namespace, "one", key="v"))
    assert await client.get(ref(made)) == made
    listing = await client.list("Secret", namespace, labels="app=x")
    assert listing.items == (made,)
    assert (await client.list("Secret", namespace, labels="app=y")).items == ()
    assert await client.delete(ref(made)) is None
    with pytest.raises(errors.NotFound):
        await client.get(ref(made))


async def test_list_in_pages(apiserver: light.Api, namespace: str) -> None:
    async with KubeClient(lambda: connection(apiserver), page=3) as client:
        for number in range(8):
            await client.create(secret(namespace, f"s{number}"))
        listing = await client.list("Secret", namespace)
    assert [name_of(item) for item in listing.items] == [f"s{n}" for n in range(8)]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Secret")}


async def test_create_twice_is_already_exists(client: KubeClient, namespace: str) -> None:
    await client.create(secret(namespace, "one"))
    with pytest.raises(errors.AlreadyExists):
        await client.create(secret(namespace, "one"))


async def test_apply_owns_what_it_names_and_drops_what_it_no_longer_names(client: KubeClient, namespace: str) -> None:
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": namespace, "annotations": {"ours": "1"}},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "1"}},
    }
    first = await client.apply(service)
    await client.merge_patch(ref(first), {"metadata": {"annotations": {"theirs": "1", "ours": "stolen"}}})
    again = await client.apply(service)
    assert again["metadata"]["annotations"] == {"ours": "1", "theirs": "1"}
    del service["metadata"]["annotations"]
    assert (await client.apply(service))["metadata"]["annotations"] == {"theirs": "1"}


async def test_apply_of_the_same_writes_nothing(client: KubeClient, namespace: str) -> None:
    manifest = secret(namespace, "one", key="v")
    first = await client.apply(manifest)
    second = await client.apply(manifest)
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_json_patch_with_a_failing_test_is_a_conflict(client: KubeClient, namespace: str) -> None:
    made = await client.create(secret(namespace, "one"))
    change = {"op": "add", "path": "/metadata/labels/new", "value": "1"}
    with pytest.raises(errors.Conflict):
        await client.json_patch(ref(made), [{"op": "test", "path": "/metadata/labels/app", "value": "other"}, change])
    patched = await client.json_patch(ref(made), [{"op": "test", "path": "/metadata/labels/app", "value": "x"}, change])
    assert patched["metadata"]["labels"] == {"app": "x", "new": "1"}


async def test_json_patch_to_an_invalid_object_is_invalid(client: KubeClient, namespace: str) -> None:
    made = await client.create(secret(namespace, "one"))
    with pytest.raises(errors.Invalid) as caught:
        await client.json_patch(ref(made), [{"op": "add", "path": "/metadata/labels/new", "value": "no good!"}])
    assert caught.value.causes[0].field == "metadata.labels"


@pytest.mark.parametrize("kind", ["Secret", "RayService"])
async def test_patches_of_a_successor_are_conflicts(client: KubeClient, namespace: str, kind: str) -> None:
    manifest = secret(namespace, "one") if kind == "Secret" else _ray_service(namespace)
    old = ref(await client.create(manifest))
    await client.delete(old)
    successor = await client.create(manifest)
    with pytest.raises(errors.Conflict):
        await client.merge_patch(old, {"metadata": {"labels": {"new": "1"}}})
    with pytest.raises(errors.Conflict):
        await client.json_patch(old, [{"op": "add", "path": "/metadata/labels", "value": {"new": "1"}}])
    with pytest.raises(errors.NotFound):
        await client.delete(old)
    assert await client.get(ref(successor)) == successor


async def test_status_is_patched_apart_from_spec(client: KubeClient, namespace: str) -> None:
    made = await client.create(_ray_service(namespace))
    patched = await client.patch_status(ref(made), {"numServeEndpoints": 3})
    assert patched["status"]["numServeEndpoints"] == 3
    assert patched["metadata"]["generation"] == made["metadata"]["generation"]
    gone = reference("RayService", namespace, name_of(made), "00000000-0000-0000-0000-000000000000")
    with pytest.raises(errors.Conflict):
        await client.patch_status(gone, {"numServeEndpoints": 4})


async def test_delete_tells_terminating_from_gone(client: KubeClient, namespace: str) -> None:
    held = pod(namespace, "held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    made = await client.create(held)
    left = await client.delete(ref(made), grace_seconds=0)
    assert left is not None
    assert left["metadata"]["deletionTimestamp"]
    await client.json_patch(ref(made), [{"op": "remove", "path": "/metadata/finalizers"}])
    with pytest.raises(errors.NotFound):
        await client.delete(ref(made))
    unscheduled = await client.create(pod(namespace, "unscheduled"))
    assert await client.delete(ref(unscheduled)) is None
    with pytest.raises(errors.NotFound):
        await client.get(ref(unscheduled))


async def test_delete_of_what_has_changed_since_is_a_conflict(client: KubeClient, namespace: str) -> None:
    made = await client.create(secret(namespace, "one"))
    changed = await client.merge_patch(ref(made), {"metadata": {"labels": {"new": "1"}}})
    with pytest.raises(errors.Conflict):
        await client.delete(ref(made), resource_version=made["metadata"]["resourceVersion"])
    assert await client.delete(ref(made), resource_version=changed["metadata"]["resourceVersion"]) is None


async def test_dry_run_refuses_with_the_field_and_writes_nothing(client: KubeClient, namespace: str) -> None:
    await client.dry_run(pod(namespace, "fine"))
    with pytest.raises(errors.Invalid, match=r"spec.containers\[0\].image"):
        await client.dry_run(pod(namespace, "bad", containers=[{"name": "c"}]))
    with pytest.raises(errors.Invalid, match="unknown field"):
        await client.dry_run(pod(namespace, "typo", contaners=[]))
    assert (await client.list("Pod", namespace)).items == ()


async def test_dry_run_sees_pod_security(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    apiserver.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(errors.Forbidden, match="PodSecurity"):
        await client.dry_run(pod(namespace, "fine"))


async def test_watch_goes_on_from_a_list(client: KubeClient, namespace: str) -> None:
    before = await client.create(secret(namespace, "before"))
    listing = await client.list("Secret", namespace)
    watch = client.watch("Secret", namespace, resource_version=listing.resource_version)
    async with contextlib.aclosing(watch) as events:
        made = await client.create(secret(namespace, "after"))
        await client.delete(ref(before))
        first, second = await anext(events), await anext(events)
    assert (first.type, first.obj) == ("ADDED", made)
    assert (second.type, uid_of(second.obj)) == ("DELETED", uid_of(before))


async def test_watch_of_objects_larger_than_a_read_buffer(client: KubeClient, namespace: str) -> None:
    listing = await client.list("Secret", namespace)
    watch = client.watch("Secret", namespace, resource_version=listing.resource_version)
    async with contextlib.aclosing(watch) as events:
        made = await client.create(secret(namespace, "large", key="x" * 700_000))
        assert (await anext(events)).obj == made


async def test_forbidden_names_who_and_what(apiserver: light.Api, namespace: str) -> None:
    async with KubeClient(lambda: _impersonating(apiserver)) as client:
        with pytest.raises(errors.Unauthorized):
            await client.list("Pod", namespace)


async def test_a_rotated_token_is_picked_up(apiserver: light.Api, namespace: str) -> None:
    good, bad = connection(apiserver), _impersonating(apiserver)
    logins = iter([bad, good])
    async with KubeClient(lambda: next(logins)) as client:
        assert (await client.list("Pod", namespace)).items == ()


async def test_nobody_listens(unused_tcp_port: int) -> None:
    info = kopf.ConnectionInfo(server=f"http://127.0.0.1:{unused_tcp_port}")
    async with KubeClient(lambda: info) as client:
        with pytest.raises(errors.Unreachable):
            await client.list("Pod")
        with pytest.raises(errors.Unreachable):
            await anext(client.watch("Pod"))


async def test_silence_ends_a_watch(apiserver: light.Api, namespace: str) -> None:
    async with KubeClient(lambda: connection(apiserver), watch_silence_s=0.2) as client:
        listing = await client.list("Lease", namespace)
        with pytest.raises(errors.Unreachable):
            await asyncio.wait_for(
                anext(client.watch("Lease", namespace, resource_version=listing.resource_version)), timeout=30
            )


def _impersonating(api: light.Api) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(server=api.url, ca_path=str(api.ca), token="outdated")


def _ray_service(namespace: str) -> Manifest:
    template = {"spec": {"containers": [{"name": "ray", "image": "ray"}]}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "svc", "namespace": namespace},
        "spec": {"rayClusterConfig": {"headGroupSpec": {"rayStartParams": {}, "template": template}}},
    }
