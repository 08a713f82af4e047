"""The webhook of a real operator process, asked by a real API server."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.localkube import light
from rayservice_operator.admission import pki, renewal
from rayservice_operator.admission.review import Verdict
from rayservice_operator.admission.server import PATH
from rayservice_operator.admission.settings import AdmissionSettings, Certificates, Lifetimes
from rayservice_operator.admission.sources import BuiltIn
from rayservice_operator.core.objects import Manifest, metadata, owner_reference
from rayservice_operator.engine.app import App
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import Invalid, ServerError
from rayservice_operator.kube.resources import reference
from tests.api.admission import (
    BAD_PATH,
    OPERATOR,
    SECRET,
    WEBHOOK,
    configuration,
    heard,
    kubectl,
    named,
    operator,
    settings,
)
from tests.api.conftest import connection
from tests.api.test_kube_app import until
from tests.models.manifests import SERVE_CONFIG, changed, raycluster, rayservice

BAD = {"spec.serveConfigV2": BAD_PATH}
PROBLEM = "spec.serveConfigV2.applications[0].import_path: 'nonsense' is no import path."
FIX = "Write module:application, for example my_package.app:app"


@pytest.fixture
async def asked(apiserver: light.Api, client: KubeClient, namespace: str) -> AsyncIterator[App]:
    """An operator whose webhook the API server asks."""
    mine = settings(namespace)
    await client.create(configuration(namespace, mine.port))
    try:
        async with operator(apiserver, mine) as app:
            await heard(client, namespace)
            yield app
    finally:
        await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_kubectl_shows_field_problem_and_fix(apiserver: light.Api, namespace: str, asked: App) -> None:
    changes = {**BAD, "spec.rayClusterConfig.workerGroupSpecs[0].numOfHosts": 2}
    bad = named(changed(rayservice(), changes), namespace)
    for verb in ("create", "apply"):
        said = await kubectl(apiserver.kubeconfig, verb, "-f", "-", stdin=bad)
        assert said.code == 1
        assert f"* {PROBLEM} {FIX}" in said.err
        assert "* spec.rayClusterConfig.workerGroupSpecs[0].numOfHosts: " in said.err
        assert "Traceback" not in said.err


async def test_other_clients_are_told_in_the_message(client: KubeClient, namespace: str, asked: App) -> None:
    with pytest.raises(Invalid) as caught:
        await client.create(named(changed(rayservice(), BAD), namespace))
    assert caught.value.status == 422
    assert caught.value.message == f'admission webhook "{WEBHOOK}" denied the request: {PROBLEM} {FIX}'
    (cause,) = caught.value.causes
    assert cause.field == "spec.serveConfigV2.applications[0].import_path"
    assert not (await client.list("RayService", namespace)).items


async def test_a_right_one_passes_without_a_word(apiserver: light.Api, namespace: str, asked: App) -> None:
    for manifest in (rayservice(), raycluster()):
        said = await kubectl(apiserver.kubeconfig, "apply", "-f", "-", stdin=named(manifest, namespace))
        assert (said.code, said.err) == (0, "")


async def test_a_raycluster_is_looked_at_too(client: KubeClient, namespace: str, asked: App) -> None:
    bad = named(changed(raycluster(), {"spec.workerGroupSpecs[0].numOfHosts": 2}), namespace)
    with pytest.raises(Invalid, match=r"spec\.workerGroupSpecs\[0\]\.numOfHosts"):
        await client.create(bad)


async def test_what_was_wrong_before_stays_editable_and_is_told(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    await client.create(named(changed(rayservice(), BAD), namespace))  # before there is a webhook
    mine = settings(namespace)
    await client.create(configuration(namespace, mine.port))
    async with operator(apiserver, mine):
        await heard(client, namespace)
        label = await kubectl(apiserver.kubeconfig, "label", "-n", namespace, "rayservice/svc", "team=a")
        assert (label.code, label.err) == (0, "")
        status = {"status": {"numServeEndpoints": 7}}
        command = ("patch", "-n", namespace, "rayservice/svc", "--subresource=status", "--type=merge", "-p")
        assert (await kubectl(apiserver.kubeconfig, *command, json.dumps(status))).code == 0
        edit = ("patch", "-n", namespace, "rayservice/svc", "--type=merge", "-p")
        other = await kubectl(apiserver.kubeconfig, *edit, json.dumps({"spec": {"rayClusterDeletionDelaySeconds": 5}}))
        assert other.code == 0
        assert f"Warning: {PROBLEM} {FIX} (this was so before the change)" in other.err
        two = f"{BAD_PATH.rstrip().removesuffix(']')}, {{name: b, import_path: rubbish, route_prefix: /b}}]\n"
        worse = await kubectl(apiserver.kubeconfig, *edit, json.dumps({"spec": {"serveConfigV2": two}}))
        assert worse.code == 1
        refusal = worse.err.splitlines()[-1]
        assert "is invalid: spec.serveConfigV2.applications[1].import_path: 'rubbish' is no import path." in refusal
        assert "applications[0]" not in refusal
        mended = await kubectl(apiserver.kubeconfig, *edit, json.dumps({"spec": {"serveConfigV2": SERVE_CONFIG}}))
        assert mended.code == 0
        assert "import_path" not in mended.err  # what the change does is told all the same
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_warnings_reach_the_client_whole_or_are_counted(apiserver: light.Api, namespace: str, asked: App) -> None:
    """Long, many, and with characters that the API server would drop a warning for."""
    assert asked.webhook is not None
    many = tuple(f"{number}: über\n\x1b[1m {'many words ' * 40}end{number}" for number in range(50))
    asked.webhook._review = lambda _: Verdict(warnings=many)
    said = await kubectl(apiserver.kubeconfig, "apply", "-f", "-", stdin=named(rayservice(), namespace))
    assert said.code == 0
    lines = said.err.splitlines()
    assert all(line.startswith("Warning: ") for line in lines)
    assert lines[0].startswith("Warning: 0: über [1m many words")
    shown = [number for number in range(50) if f"end{number}" in said.err.split()]
    assert shown == list(range(len(shown)))
    assert 5 <= len(shown) < 50
    assert lines[-1].startswith(f"Warning: and {50 - len(shown)} more: ")


async def test_one_that_is_being_deleted_lets_go_of_its_finalizers(
    client: KubeClient, namespace: str, apiserver: light.Api
) -> None:
    bad = named(changed(rayservice(), {**BAD, "metadata.finalizers": ["example.com/hold"]}), namespace)
    await client.create(bad)
    service = reference("RayService", namespace, "svc")
    await client.delete(service)
    mine = settings(namespace)
    await client.create(configuration(namespace, mine.port, failure_policy="Fail"))
    async with operator(apiserver, mine):
        await heard(client, namespace)
        await client.merge_patch(service, {"metadata": {"finalizers": None}, "spec": {"serveConfigV2": "[]"}})
        assert not (await client.list("RayService", namespace)).items
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_what_the_operator_writes_itself_passes(apiserver: light.Api, namespace: str, asked: App) -> None:
    bad = named(changed(raycluster(), {"spec.workerGroupSpecs[0].numOfHosts": 2}), namespace)
    somebody, itself = (apiserver.kubeconfig_for(user, ("system:masters",)) for user in ("somebody", OPERATOR))
    assert (await kubectl(somebody, "create", "-f", "-", stdin=bad)).code == 1
    assert (await kubectl(itself, "create", "-f", "-", stdin=bad)).code == 0


async def test_clusters_of_a_service_are_not_held_up(apiserver: light.Api, namespace: str) -> None:
    """Ray's autoscaler writes them, and must be able to while the webhook is away."""
    mine = settings(namespace)  # nobody listens there
    async with KubeClient(lambda: connection(apiserver)) as client:
        await client.create(configuration(namespace, mine.port, failure_policy="Fail"))
        meta = {"ownerReferences": [owner_reference({**rayservice(), "metadata": {"name": "s", "uid": "u"}})]}
        child = named(raycluster(), namespace)
        child["metadata"] |= meta

        async def held_up() -> bool:
            try:
                await client.dry_run(named(raycluster(), namespace))
            except ServerError as error:
                return WEBHOOK in error.message
            return False

        await until(held_up)
        await client.create(child)
        await client.merge_patch(reference("RayCluster", namespace, "svc"), {"spec": {"suspend": True}})
        await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_without_the_webhook_everything_is_let_through(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    mine = settings(namespace)
    await client.create(configuration(namespace, mine.port))
    bad = named(changed(rayservice(), BAD), namespace)
    async with operator(apiserver, mine):
        await heard(client, namespace)
        with pytest.raises(Invalid):
            await client.create(bad)
    await client.create(bad)
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_it_answers_while_the_process_is_told_to_stop(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    """The way to a pod that leaves is forgotten only by and by; with failurePolicy Fail nothing may be lost."""
    mine = settings(namespace, linger_s=3.0)
    await client.create(configuration(namespace, mine.port, failure_policy="Fail"))
    async with operator(apiserver, mine, leader_elect=True, lease_namespace=namespace) as app:
        await heard(client, namespace)
        app.stop()

        async def stopping() -> bool:
            return app.health.phase == "stopping" and app.webhook is not None and app.webhook._leaving

        await until(stopping)
        await client.dry_run(named(rayservice(), namespace))
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_a_standby_answers_before_it_leads(apiserver: light.Api, client: KubeClient, namespace: str) -> None:
    election = {"leader_elect": True, "lease_namespace": namespace}
    first, second = settings(namespace, configuration=""), settings(namespace)
    await client.create(configuration(namespace, second.port))
    async with operator(apiserver, first, identity="first", **election) as leader:

        async def leads() -> bool:
            return leader.health.phase == "running"

        await until(leads)
        async with operator(apiserver, second, identity="second", **election) as standby:
            await heard(client, namespace)
            assert standby.health.phase == "standby"
            assert standby.health.ready()
            assert standby.health.report()["admission"]["listening"]
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


# -- certificates


async def _configured(client: KubeClient, name: str) -> bytes:
    found = await client.get(reference("ValidatingWebhookConfiguration", "", name))
    return base64.b64decode(found["webhooks"][0]["clientConfig"]["caBundle"])


async def _stored(client: KubeClient, namespace: str) -> renewal.Material:
    return renewal.from_secret((await client.get(reference("Secret", namespace, SECRET)))["data"])


async def test_an_authority_and_a_certificate_are_renewed_and_no_call_fails(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    """failurePolicy is Fail, and every call is a new connection, so that each sees the certificate of the moment."""
    lifetimes = Lifetimes(authority=datetime.timedelta(days=120), serving=datetime.timedelta(days=90))
    real = datetime.datetime.now(tz=datetime.UTC)
    clock = {"now": real - datetime.timedelta(days=85)}
    mine = settings(namespace, lifetimes=lifetimes)
    await client.create(configuration(namespace, mine.port, failure_policy="Fail"))
    good = named(rayservice(), namespace, "good")
    calls = 0

    async def load() -> None:
        nonlocal calls
        while True:
            await client.dry_run(good)  # raises when the API server cannot ask the webhook
            calls += 1

    async def some_calls() -> None:
        enough = calls + 5

        async def made() -> bool:
            if loading.done():
                loading.result()
            return calls >= enough

        await until(made)

    async with operator(apiserver, mine, now=lambda: clock["now"]) as app:
        assert app.webhook is not None
        app.webhook._leaving = True  # connections end with each answer
        await heard(client, namespace)
        loading = asyncio.create_task(load())
        await some_calls()
        first = await _stored(client, namespace)

        clock["now"] = real - datetime.timedelta(hours=2)
        await app.webhook.refresh()
        trusted = await _stored(client, namespace)
        assert len(pki.certificates(trusted.bundle)) == 2
        assert trusted.serving == first.serving  # the new authority is trusted, and does not sign yet
        assert await _configured(client, namespace) == trusted.bundle
        await some_calls()

        clock["now"] = real - datetime.timedelta(minutes=30)
        await app.webhook.refresh()
        renewed = await _stored(client, namespace)
        assert renewed.bundle == trusted.bundle
        assert renewed.serving != first.serving
        newest = pki.certificates(renewed.bundle)[0]
        assert pki.signed_by(pki.certificates(renewed.serving.cert)[0], newest)
        await some_calls()
        assert await _served(mine, renewed.bundle) == pki.certificates(renewed.serving.cert)[0]
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def _served(mine: AdmissionSettings, bundle: bytes) -> Any:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=bundle.decode())
    _, writer = await asyncio.open_connection("127.0.0.1", mine.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return pki.certificates(ssl.DER_cert_to_PEM_cert(shown).encode())[0]


@pytest.mark.parametrize("there", ["nothing", "the chart's empty Secret", "rubbish"])
async def test_replicas_that_start_at_once_agree(client: KubeClient, namespace: str, there: str) -> None:
    mine = settings(namespace, configuration="")
    if there != "nothing":
        data = {"ca.crt": "cnViYmlzaA==", "tls.crt": "", "tls.key": "!"} if there == "rubbish" else {}
        if "tls.key" in data:
            data["tls.key"] = "cnViYmlzaA=="
        meta = {"name": SECRET, "namespace": namespace}
        await client.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    pairs = await asyncio.gather(*(BuiltIn(client, mine).fetch() for _ in range(8)))
    assert len(set(pairs)) == 1
    stored = await _stored(client, namespace)
    assert stored.serving == pairs[0]
    assert renewal.usable(stored, mine.hosts, datetime.datetime.now(tz=datetime.UTC))


async def test_two_replicas_serve_the_same_certificate(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    one, other = settings(namespace), settings(namespace)
    await client.create(configuration(namespace, one.port))
    async with operator(apiserver, one), operator(apiserver, other):
        stored = await _stored(client, namespace)
        assert await _served(one, stored.bundle) == await _served(other, stored.bundle)
        assert await _configured(client, namespace) == stored.bundle
        await heard(client, namespace)
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


async def test_a_caBundle_taken_away_is_put_back(client: KubeClient, namespace: str, asked: App) -> None:  # noqa: N802
    remove = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
    await client.json_patch(reference("ValidatingWebhookConfiguration", "", namespace), remove)
    assert asked.webhook is not None
    await asked.webhook.refresh()
    assert await _configured(client, namespace) == (await _stored(client, namespace)).bundle


async def test_a_certificate_that_is_right_is_not_written_again(client: KubeClient, namespace: str, asked: App) -> None:
    secret = reference("Secret", namespace, SECRET)
    hook = reference("ValidatingWebhookConfiguration", "", namespace)
    before = [metadata(await client.get(ref))["resourceVersion"] for ref in (secret, hook)]
    assert asked.webhook is not None
    await asked.webhook.refresh()
    assert [metadata(await client.get(ref))["resourceVersion"] for ref in (secret, hook)] == before


async def test_a_missing_configuration_is_told_and_ends_nothing(
    apiserver: light.Api, client: KubeClient, namespace: str
) -> None:
    async with operator(apiserver, settings(namespace)) as app:
        report = app.health.report()["admission"]
        assert report["listening"]
        assert f"ValidatingWebhookConfiguration {namespace}" in report["trouble"]

        async def running() -> bool:
            return app.health.ready() and app.health.phase == "running"

        await until(running)


async def test_certificates_of_others_are_served_and_renewed(
    apiserver: light.Api, client: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """As mounted from a Secret of cert-manager's or the user's; they come after the operator has started."""
    now, day = datetime.datetime.now(tz=datetime.UTC), datetime.timedelta(days=1)
    authority = pki.new_authority(now, day)
    mine = settings(namespace, certificates=Certificates.FILES, folder=tmp_path)
    hook = configuration(namespace, mine.port, failure_policy="Fail")
    hook["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(authority.cert).decode()
    await client.create(hook)
    async with operator(apiserver, mine) as app:
        assert app.webhook is not None
        assert "tls.crt" in app.health.report()["admission"]["trouble"]
        app.webhook._leaving = True  # connections end with each answer
        for _ in range(2):
            made = pki.issue(authority, mine.hosts, now, day)
            (tmp_path / "tls.crt").write_bytes(made.cert)
            (tmp_path / "tls.key").write_bytes(made.key)
            await app.webhook.refresh()
            await heard(client, namespace)
            assert await _served(mine, authority.cert) == pki.certificates(made.cert)[0]
    await client.delete(reference("ValidatingWebhookConfiguration", "", namespace))


# -- bad input


def _asks(**request: Any) -> bytes:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", **request}}
    return json.dumps(review).encode()


def _create(obj: Any) -> bytes:
    return _asks(kind={"kind": "RayService"}, operation="CREATE", namespace="ns", object=obj)


NO_REVIEW = {
    "empty": b"",
    "text": b"hello",
    "binary": bytes(range(256)),
    "list": b"[]",
    "number": b"7",
    "no request": b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
    "no uid": b'{"apiVersion": "admission.k8s.io/v1", "request": {}}',
    "old version": b'{"apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}',
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("body", NO_REVIEW.values(), ids=NO_REVIEW)
async def test_what_is_no_review_gets_a_short_answer(
    client: KubeClient, namespace: str, lonely: AdmissionSettings, body: bytes
) -> None:
    status, text = await _post(client, lonely, body)
    assert status == 400
    assert len(text) < 200
    assert "Traceback" not in text


STRANGE = {
    "object is null": _create(None),
    "object is a list": _create([]),
    "metadata is text": _create({"metadata": "x", "spec": {}}),
    "annotations are a list": _create({"metadata": {"annotations": [1]}, "spec": {}}),
    "unknown kind": _asks(kind={"kind": "Pod"}, operation="CREATE", object={}),
    "kind is text": _asks(kind="RayService", operation="CREATE", object={}),
    "user is a list": _asks(kind={"kind": "RayService"}, operation="CREATE", object={}, userInfo=[]),
    "delete": _asks(kind={"kind": "RayService"}, operation="DELETE", object=None, oldObject={"spec": {}}),
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
async def test_a_strange_review_is_answered_as_a_review(
    client: KubeClient, namespace: str, lonely: AdmissionSettings, body: bytes
) -> None:
    status, text = await _post(client, lonely, body)
    answer = json.loads(text)
    assert status == 200
    assert answer["response"]["uid"] == "u"
    assert "Traceback" not in text


async def test_too_large_a_body_is_refused(client: KubeClient, namespace: str, lonely: AdmissionSettings) -> None:
    status, _ = await _post(client, lonely, b" " * (17 << 20))
    assert status == 413


@pytest.fixture
async def lonely(apiserver: light.Api, namespace: str) -> AsyncIterator[AdmissionSettings]:
    """An operator that only this test asks."""
    mine = settings(namespace, configuration="")
    async with operator(apiserver, mine):
        yield mine


async def _post(client: KubeClient, mine: AdmissionSettings, body: bytes) -> tuple[int, str]:
    bundle = (await _stored(client, mine.namespace)).bundle
    context = ssl.create_default_context(cadata=bundle.decode())
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"https://127.0.0.1:{mine.port}{PATH}", data=io.BytesIO(body)) as response,
    ):
        return response.status, await response.text()


def test_helpers_make_a_manifest_that_is_wrong_in_one_place() -> None:
    bad: Manifest = changed(rayservice(), BAD)
    assert bad["spec"]["serveConfigV2"] != rayservice()["spec"]["serveConfigV2"]
