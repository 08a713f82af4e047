"""The whole operator process with its webhook, known to a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import datetime
import functools
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml

from e2e.localkube import binaries, light
from rayservice_operator.admission import sources
from rayservice_operator.admission.server import PATH
from rayservice_operator.admission.settings import AdmissionSettings
from rayservice_operator.admission.sources import BuiltIn
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.engine.app import App
from rayservice_operator.engine.observers import NoObservers
from rayservice_operator.engine.settings import Settings
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError, Invalid
from tests.api.conftest import connection
from tests.api.test_chart import by_kind, render
from tests.api.test_kube_app import WAIT_S, decide_cluster, decide_service, until
from tests.models.manifests import changed, rayservice

WEBHOOK = "admission.rayservice.ray.io"
SECRET = "admission-tls"
OPERATOR = "system:serviceaccount:rayservice-system:rayservice-operator"
BAD_PATH = "applications: [{name: a, import_path: nonsense}]\n"


def settings(namespace: str, **others: Any) -> AdmissionSettings:
    """Served on a loopback address, where a real API server calls."""
    return AdmissionSettings(
        **{
            "host": "127.0.0.1",
            "port": light.free_port(),
            "hosts": ("127.0.0.1",),
            "namespace": namespace,
            "secret": SECRET,
            "configuration": namespace,
            "own_user": OPERATOR,
            "linger_s": 0.0,
            **others,
        }
    )


@functools.cache
def _chart() -> Manifest:
    """The configuration that the chart makes, as installed by OPERATOR's release."""
    (found,) = by_kind(render({}, "rayservice-system"), "ValidatingWebhookConfiguration")
    return found


def configuration(namespace: str, port: int, *, failure_policy: str = "Ignore") -> Manifest:
    """What the chart makes, for one namespace, by URL instead of a Service."""
    made = copy.deepcopy(_chart())
    (hook,) = made["webhooks"]
    hook |= {
        "failurePolicy": failure_policy,
        "timeoutSeconds": 30,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "clientConfig": {"url": f"https://127.0.0.1:{port}{PATH}"},
    }
    return {**made, "metadata": {"name": namespace}}


@contextlib.asynccontextmanager
async def operator(
    api: light.Api,
    admission: AdmissionSettings,
    *,
    now: Callable[[], datetime.datetime] = sources.utc_now,
    decisions: tuple[Any, Any] = (decide_service, decide_cluster),
    **others: Any,
) -> AsyncIterator[App]:
    """The process, listening for the API server, until the block ends; it must end with exit code 0."""
    app = App(
        Settings(namespaces=(admission.namespace,), http_host="127.0.0.1", http_port=0, admission=admission, **others),
        OperatorConfig(),
        decide_service=decisions[0],
        decide_cluster=decisions[1],
        new_observers=lambda *_: NoObservers(),
        login=lambda: connection(api),
    )
    webhook = app.webhook
    assert webhook is not None
    if isinstance(webhook._source, BuiltIn):
        webhook._source = BuiltIn(app.api, admission, now)
    task = asyncio.create_task(app.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not webhook.settled and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield app
        app.stop()
        async with asyncio.timeout(WAIT_S):
            assert await task == 0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard(client: KubeClient, namespace: str) -> None:
    """Until the API server asks the webhook: it hears of a configuration by and by."""
    bad = named(changed(rayservice(), {"spec.serveConfigV2": BAD_PATH}), namespace, "probe")

    async def refused() -> bool:
        try:
            await client.dry_run(bad)
        except Invalid as error:
            return WEBHOOK in error.message
        except ApiError:  # failurePolicy Fail, and it cannot be called yet
            return False
        return False

    await until(refused)


def named(manifest: Manifest, namespace: str, name: str = "svc") -> Manifest:
    """``manifest`` under another name."""
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace, "name": name}}


@dataclasses.dataclass(frozen=True)
class Said:
    """What kubectl did and said."""

    code: int
    out: str
    err: str


async def kubectl(kubeconfig: Path, *args: str, stdin: Manifest | None = None) -> Said:
    """kubectl beside this process' event loop, which serves the webhook."""
    command = [str(binaries.ensure("kubectl")), "--kubeconfig", str(kubeconfig), *args]

    def run() -> Said:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, input=yaml.safe_dump(stdin) if stdin else None
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)
