"""The cluster, the operator and a namespace for each test.

``pytest e2e`` brings up the cluster that ``CLUSTER`` chooses (see ``e2e.cluster``), builds and loads the images, and
installs the operator with its chart; all of it is picked up when it is there already, and left running for next time.
"""

import contextlib
import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from e2e import cluster as clusters
from e2e import deploy, gateway
from e2e.cluster import Target
from e2e.gateway import GatewayClass, NoGatewayClassError
from e2e.images import TARGETS
from e2e.localkube import binaries
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import Steps
from e2e.operators import HelmOperator, HostOperator, Operator, on_host
from e2e.support import Kube, Object, account, wait_for

_GONE_SECONDS = 150.0


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Target:
    """A running cluster that has the project's images."""
    steps = Steps()
    with _shown(pytestconfig):
        target = clusters.up(steps)
        clusters.load_images(target, TARGETS, steps)
    return target


@pytest.fixture(scope="session")
def operator(cluster: Target, pytestconfig: pytest.Config) -> Iterator[Operator]:
    """The operator at work: installed by Helm, or with OPERATOR=host a process of this machine."""
    steps = Steps()
    if on_host():
        process = HostOperator(cluster)
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(deploy.ROOT / "crds"))
        process.start()
        yield process
        process.stop()
        return
    with _shown(pytestconfig):
        binaries.ensure("helm", steps)
        with steps.step("operator (Helm)"):
            deploy.install(cluster, values=deploy.LETS_BAD_MANIFESTS_IN)
    yield HelmOperator(cluster)


@pytest.fixture(scope="session")
def kube(operator: Operator) -> Kube:
    """The API of the cluster that the operator runs in."""
    return Kube(operator.target)


@pytest.fixture(scope="session")
def gateway_class(cluster: Target, pytestconfig: pytest.Config) -> GatewayClass:
    """A GatewayClass that a real implementation serves."""
    with _shown(pytestconfig):
        try:
            return gateway.provide(cluster, Steps())
        except NoGatewayClassError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def llm_image(cluster: Target, pytestconfig: pytest.Config) -> None:
    """The cluster has the image with vLLM for CPUs too. Only the LLM cases need its gigabytes."""
    with _shown(pytestconfig):
        clusters.load_images(cluster, ["llm-cpu"], Steps())


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, removed afterwards together with its pods, so that the next test has the machine to itself.

    When the test failed, all there is to see in it becomes part of the report.
    """
    yield from _namespace(kube, request.node.name.removeprefix("test_"))


@pytest.fixture(scope="module")
def module_namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """The same for all tests of a file, which then share a RayService."""
    yield from _namespace(kube, request.node.name.rpartition("test_")[2].removesuffix(".py"))


def _namespace(kube: Kube, title: str) -> Iterator[str]:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    name = f"e2e-{words[:40].strip('-')}-{secrets.token_hex(2)}"
    kube.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    try:
        _empty(kube, name)
    finally:
        kube.core.delete_namespace(name)


def _empty(kube: Kube, namespace: str) -> None:
    """Delete the ray.io objects and Deployments, then the pods without their grace period, and wait until all are gone.

    Deleting the namespace alone would take a minute: its controller waits for half of the pods' grace before it looks
    again. An object that stays means a finalizer that nobody serves, which is a failure worth reporting.
    """
    for kind in ("rayservice", "raycluster", "deployment"):
        with contextlib.suppress(LocalKubeError):  # without the operator there are no such kinds
            kube.target.kubectl("delete", kind, "--all", "-n", namespace, "--wait=false")

    def empty() -> bool:
        pods = kube.pods(namespace)
        for pod in pods:
            with contextlib.suppress(ApiException):
                kube.delete_pod(namespace, pod["metadata"]["name"], grace_seconds=1)
        return not pods and not _ray_objects(kube, namespace)

    what = f"{namespace} emptied"
    wait_for(empty, timeout=_GONE_SECONDS, what=what, describe=lambda: account(kube, namespace), interval=0.5)


def _ray_objects(kube: Kube, namespace: str) -> list[Object]:
    try:
        return [*kube.rayservices(namespace), *kube.rayclusters(namespace)]
    except ApiException as error:
        if error.status == 404:
            return []
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed is reported with all there is to see in its namespace at that moment."""
    report = yield
    values: Object = getattr(item, "funcargs", {})
    if report.failed and report.when != "teardown" and "kube" in values:
        for fixture in ("namespace", "module_namespace"):
            if fixture in values:
                report.sections.append(("cluster", account(values["kube"], values[fixture])))
    return report


def _shown(pytestconfig: pytest.Config) -> AbstractContextManager[None]:
    """Progress of what takes minutes is shown at once, not captured for a failure report."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return nullcontext()
    return cast("AbstractContextManager[None]", capture.global_and_fixture_disabled())
