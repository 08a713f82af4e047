"""A real kube-apiserver with the project's CRDs, one for the whole run; a namespace of its own for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import kopf
import pytest

from e2e.localkube import light
from rayservice_operator.kube.client import KubeClient

CRDS = Path(__file__).parents[2] / "crds"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[light.Api]:
    """Shared by all tests that do not restart it."""
    with light.apiserver() as api:
        api.kubectl("apply", "--server-side", "-f", str(CRDS))
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield api


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
