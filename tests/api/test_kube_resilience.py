"""The whole process when the API server goes away, kopf dies, or the process is told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from e2e.localkube import light
from e2e.localkube.light import free_port
from rayservice_operator.core.objects import name_of, ref
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError
from rayservice_operator.kube.resources import reference
from tests.api.conftest import connection, install_crds
from tests.api.test_kube_app import WAIT_S, ray_service, running, serving, until


@pytest.fixture(scope="module")
def own() -> Iterator[light.Api]:
    """An API server of our own, to restart."""
    with light.apiserver() as api:
        install_crds(api)
        yield api


@pytest.fixture
async def mine(own: light.Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(lambda: connection(own)) as client:
        yield client


@pytest.mark.parametrize("backoffs", [(), (1,) * 30], ids=["kopf dies", "kopf holds on"])
async def test_a_restarted_api_server_is_survived(
    own: light.Api, mine: KubeClient, backoffs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayservice_operator.engine.primaries.ERROR_BACKOFFS_S", backoffs)
    namespace = f"restart-{len(backoffs)}"
    own.kubectl("create", "namespace", namespace)
    async with running(own, namespace) as app:
        await mine.create(ray_service(namespace))
        await until(lambda: serving(mine, namespace))
        tasks = set(app._background)
        own.compact()
        for kind in ("RayService", "Pod"):
            await until(lambda kind=kind: _answers(mine, kind, namespace))
        # Deleted, and another of the same name made, as soon as the server lets us.
        await mine.delete(reference("RayService", namespace, "svc"))
        await mine.create(ray_service(namespace))
        served = await until(lambda: serving(mine, namespace))
        clusters = (await mine.list("RayCluster", namespace)).items  # nobody collects garbage here
        owners = {cluster["metadata"]["ownerReferences"][0]["uid"] for cluster in clusters}
        assert len(clusters) == 2
        assert served["metadata"]["uid"] in owners
        assert served["status"]["activeServiceStatus"]["rayClusterName"] in {name_of(c) for c in clusters}
        assert tasks == app._background
        assert not any(task.done() for task in tasks)


async def _answers(client: KubeClient, kind: str, namespace: str) -> bool:
    try:
        await client.list(kind, namespace)
    except ApiError:
        return False
    return True


async def test_sigterm_ends_the_real_process_in_order(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    port = free_port()
    env = os.environ | {
        "KUBECONFIG": str(apiserver.kubeconfig),
        "WATCH_NAMESPACES": namespace,
        "HTTP_PORT": str(port),
        "LEADER_ELECT": "true",
        "POD_NAMESPACE": namespace,
        "LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rayservice_operator.cli.main", "run", env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                        return (await response.json())["phase"] == "running"
                except aiohttp.ClientConnectionError:
                    return False

            await until(ready)
        lease = await client.get(reference("Lease", namespace, "rayservice-operator"))
        assert lease["spec"]["holderIdentity"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert (await client.get(ref(lease)))["spec"].get("holderIdentity", "") == ""
        assert "Traceback" not in errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_without_a_way_to_the_api_it_says_so(tmp_path: object) -> None:
    env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {"HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rayservice_operator.cli.main", env=env, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"KUBECONFIG" in errors
    assert b"Traceback" not in errors
