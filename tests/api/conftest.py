"""A real kube-apiserver with the project's CRDs, one for the whole run; a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import kopf
import pytest

from e2e.localkube import light
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import wait_until
from rayservice_operator.kube.client import KubeClient

CRDS = Path(__file__).parents[2] / "crds"
_numbers = itertools.count(1)


FAREWELL_S = 60.0


@pytest.fixture(autouse=True)
async def farewells() -> AsyncIterator[None]:
    """Waits, last of all, until no connection of the test is open.

    aiohttp, and kopf with it, closes a TLS connection politely and forgets it; a loop that ends before the peer has
    said goodbye leaves a socket for the garbage collector to complain of, in whichever test comes later.
    """
    yield
    async with asyncio.timeout(FAREWELL_S):
        while _open_transports():  # noqa: ASYNC110  (nothing tells of a transport's end)
            await asyncio.sleep(0.01)


def _open_transports() -> list[asyncio.BaseTransport]:
    known = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    return [transport for transport in list(known.values()) if transport._sock is not None]


@pytest.fixture(scope="session")
def apiserver() -> Iterator[light.Api]:
    """Shared by all tests that do not restart it."""
    with light.apiserver() as api:
        install_crds(api)
        yield api


def install_crds(api: light.Api) -> None:
    """Apply the CRDs and wait until their kinds are served.

    Not by ``kubectl wait``: it fails on a CRD that has no conditions yet.
    """
    api.kubectl("apply", "--server-side", "-f", str(CRDS))

    def served() -> bool:
        try:
            api.kubectl("get", "rayservices,rayclusters", "--all-namespaces")
        except LocalKubeError:
            return False
        return True

    wait_until(served, seconds=60, what="kinds of the CRDs served")


@pytest.fixture
def namespace(apiserver: light.Api) -> str:
    """A fresh namespace."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    apiserver.kubectl("create", "namespace", name)
    return name


def connection(api: light.Api) -> kopf.ConnectionInfo:
    """How to reach ``api`` as cluster-admin."""
    return kopf.ConnectionInfo(server=api.url, ca_path=str(api.ca), token=api.token)


@pytest.fixture
async def client(apiserver: light.Api) -> AsyncIterator[KubeClient]:
    """Our client, as cluster-admin."""
    async with KubeClient(lambda: connection(apiserver)) as client:
        yield client
