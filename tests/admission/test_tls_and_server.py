"""The server by itself: certificates exchanged under open connections, and reviews that go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rayservice_operator.admission import pki
from rayservice_operator.admission.pki import Pair
from rayservice_operator.admission.review import Reviewer, ReviewRequest, Verdict
from rayservice_operator.admission.server import BROKEN, MAX_WAITING, PATH, TOO_BUSY, TOO_SLOW, Webhook
from rayservice_operator.admission.settings import AdmissionSettings
from rayservice_operator.admission.sources import Files, Unavailable
from rayservice_operator.admission.tls import BadCertificate, ServerTls
from tests.models.manifests import rayservice

NOW = datetime.datetime.now(tz=datetime.UTC)
DAY = datetime.timedelta(days=1)
HOST = "127.0.0.1"
AUTHORITY = pki.new_authority(NOW, DAY)
REVIEW = json.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u", "kind": {"kind": "RayService"}, "operation": "CREATE", "object": rayservice()},
    }
).encode()


def pair() -> Pair:
    """Another certificate for this machine."""
    return pki.issue(AUTHORITY, (HOST,), NOW, DAY)


def write(folder: Path, made: Pair) -> None:
    """As the kubelet mounts a Secret."""
    (folder / "tls.crt").write_bytes(made.cert)
    (folder / "tls.key").write_bytes(made.key)


def trusting() -> ssl.SSLContext:
    """A client that trusts our authority."""
    return ssl.create_default_context(cadata=AUTHORITY.cert.decode())


@contextlib.asynccontextmanager
async def serving(folder: Path, reviewer: Reviewer) -> AsyncIterator[Webhook]:
    """A webhook with the certificate in ``folder``."""
    webhook = Webhook(AdmissionSettings(host=HOST, port=0, linger_s=0.0), Files(folder), reviewer)
    await webhook.refresh()
    try:
        yield webhook
    finally:
        await webhook.close()


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that is really closed at the end."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting()))
    try:
        yield session
    finally:
        await session.close()
        await asyncio.sleep(0)


async def post(session: aiohttp.ClientSession, webhook: Webhook, query: str = "") -> dict[str, Any]:
    """The response in an answered AdmissionReview."""
    async with session.post(f"https://{HOST}:{webhook.port}{PATH}{query}", data=REVIEW) as response:
        assert response.status == 200
        found: dict[str, Any] = (await response.json())["response"]
        return found


async def shown(webhook: Webhook) -> Any:
    """The certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection(HOST, webhook.port, ssl=trusting())
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    await asyncio.sleep(0)
    return pki.certificates(ssl.DER_cert_to_PEM_cert(found).encode())[0]


async def test_a_renewed_file_is_served_to_new_connections_and_open_ones_go_on(tmp_path: Path) -> None:
    first, second = pair(), pair()
    write(tmp_path, first)
    async with serving(tmp_path, lambda _: Verdict()) as webhook, client() as session:
        await post(session, webhook)
        assert await shown(webhook) == pki.certificates(first.cert)[0]
        write(tmp_path, second)
        await webhook.refresh()
        assert await shown(webhook) == pki.certificates(second.cert)[0]
        assert (await post(session, webhook))["allowed"]  # on the connection of before


@pytest.mark.parametrize("wrong", ["the key of another", "rubbish", "empty", "an encrypted key"])
async def test_a_bad_file_leaves_the_good_one_in_place(tmp_path: Path, wrong: str) -> None:
    first = pair()
    write(tmp_path, first)
    async with serving(tmp_path, lambda _: Verdict()) as webhook:
        key = {
            "the key of another": pair().key,
            "rubbish": b"rubbish",
            "empty": b"",
            "an encrypted key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        }[wrong]
        write(tmp_path, Pair(pair().cert, key))
        with pytest.raises(BadCertificate, match="cannot be used"):
            await webhook.refresh()
        assert await shown(webhook) == pki.certificates(first.cert)[0]
        write(tmp_path, mended := pair())
        await webhook.refresh()
        assert await shown(webhook) == pki.certificates(mended.cert)[0]


async def test_a_certificate_that_comes_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not there at the start, as with cert-manager: it is told once, the process is ready, and then it listens."""
    settings = AdmissionSettings(host=HOST, port=0, retry_s=0.0, check_every_s=0.0)
    webhook = Webhook(settings, Files(tmp_path), lambda _: Verdict())
    with pytest.raises(Unavailable, match=r"tls\.crt: No such file"):
        await webhook.refresh()
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(webhook.run())
        while not webhook.settled:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not webhook.report()["listening"]
        assert "tls.crt" in webhook.report()["trouble"]
        write(tmp_path, pair())
        while not webhook.report()["listening"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with client() as session:
            assert (await post(session, webhook))["allowed"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await webhook.close()
    assert len([record for record in caplog.records if "No such file" in record.getMessage()]) == 1


async def test_a_taken_port_is_told_and_ends_nothing(tmp_path: Path) -> None:
    write(tmp_path, pair())
    async with serving(tmp_path, lambda _: Verdict()) as first:
        second = Webhook(AdmissionSettings(host=HOST, port=first.port), Files(tmp_path), lambda _: Verdict())
        with pytest.raises(OSError, match="ADMISSION_PORT"):
            await second.refresh()
        await second.close()


async def test_a_mistake_of_ours_lets_everything_through(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: ReviewRequest) -> Verdict:
        raise RuntimeError("oops")

    write(tmp_path, pair())
    async with serving(tmp_path, broken) as webhook, client() as session:
        with caplog.at_level(logging.ERROR):
            response = await post(session, webhook)
    assert response["allowed"] is True
    assert response["warnings"] == [BROKEN]
    assert "oops" in caplog.text


async def test_slow_and_too_many_reviews_let_through(tmp_path: Path) -> None:
    """One that takes too long answers before the API server gives up; the queue behind it has an end."""
    go, begun = threading.Event(), threading.Event()

    def slow(_: ReviewRequest) -> Verdict:
        begun.set()
        go.wait()
        return Verdict()

    write(tmp_path, pair())
    async with serving(tmp_path, slow) as webhook, client() as session:
        try:
            response = await post(session, webhook, "?timeout=100ms")
            assert response["allowed"] is True
            assert response["warnings"] == [TOO_SLOW]
            assert begun.is_set()
            waiting = [asyncio.create_task(post(session, webhook)) for _ in range(MAX_WAITING - 1)]
            while webhook._waiting < MAX_WAITING:  # noqa: ASYNC110
                await asyncio.sleep(0)
            response = await post(session, webhook)
            assert response["allowed"] is True
            assert response["warnings"] == [TOO_BUSY]
        finally:
            go.set()
        assert all(found["allowed"] for found in await asyncio.gather(*waiting))
        assert webhook._waiting == 0


async def test_when_leaving_connections_end_with_the_answer(tmp_path: Path) -> None:
    write(tmp_path, pair())
    async with serving(tmp_path, lambda _: Verdict()) as webhook, client() as session:
        await webhook.linger()
        async with session.post(f"https://{HOST}:{webhook.port}{PATH}", data=REVIEW) as response:
            assert response.headers["Connection"] == "close"


async def test_plain_http_is_no_way_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, pair())
    async with serving(tmp_path, lambda _: Verdict()) as webhook:
        reader, writer = await asyncio.open_connection(HOST, webhook.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()
    assert caplog.text == ""


def test_the_same_certificate_is_not_loaded_again() -> None:
    tls, made = ServerTls(), pair()
    assert tls.load(made) is True
    assert tls.load(made) is False
