"""The REST client: what each answer of a dashboard means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from rayservice_operator.ray import client as client_module
from rayservice_operator.ray.client import (
    ServeClient,
    ServeRejectedError,
    ServeUnavailableError,
    UnauthorizedError,
    new_session,
    proxy_healthy,
)
from rayservice_operator.ray.details import HeadVersion, parse_details
from tests.fakes.fake_ray import FakeRay
from tests.ray.configs import BAD_IMPORT, NO_IMPORT_PATH, payload
from tests.ray.conftest import StartHead

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
async def http(start_head: StartHead) -> AsyncIterator[aiohttp.ClientSession]:
    """The operator's own session."""
    async with new_session() as session:
        yield session


def speak(http: aiohttp.ClientSession, head: FakeRay, token: str | None = None) -> ServeClient:
    """A client of ``head``."""
    return ServeClient(http, head.address, head.port, token)


async def test_put_then_get(http: aiohttp.ClientSession, start_head: StartHead) -> None:
    head = await start_head()
    serve = speak(http, head)
    assert parse_details(await serve.get_serve()).applications == {}
    await serve.put_config(payload("hi"))
    assert head.bodies == [payload("hi")]
    assert list(parse_details(await serve.get_serve()).applications) == ["q"]
    assert await serve.version() == HeadVersion("2.60.0", "session_1")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (NO_IMPORT_PATH, "applications.0.import_path: Field required"),
        (BAD_IMPORT, "ModuleNotFoundError: No module named 'nomod'"),
        ("[]", "Input should be a valid dictionary"),
    ],
)
async def test_rejected(http: aiohttp.ClientSession, start_head: StartHead, body: str, says: str) -> None:
    head = await start_head()
    with pytest.raises(ServeRejectedError) as caught:
        await speak(http, head).put_config(body)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "File" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 404, 408, 429, 500, 501, 502, 503, 504])
async def test_other_answers_are_worth_another_try(
    http: aiohttp.ClientSession, start_head: StartHead, status: int
) -> None:
    head = await start_head()
    head.status = status
    with pytest.raises(ServeUnavailableError, match=str(status)) as caught:
        await speak(http, head).put_config(payload())
    assert caught.value.connected
    with pytest.raises(ServeUnavailableError, match=str(status)):
        await speak(http, head).get_serve()


async def test_a_body_too_large_for_the_dashboard_is_rejected(
    http: aiohttp.ClientSession, start_head: StartHead
) -> None:
    head = await start_head()
    head.put_status = 413
    with pytest.raises(ServeRejectedError, match="larger"):
        await speak(http, head).put_config(payload())


async def test_an_error_inside_the_head_is_no_rejection(http: aiohttp.ClientSession, start_head: StartHead) -> None:
    """500 with a traceback that has nothing to do with the config: the GCS is away, say."""
    head = await start_head()
    with pytest.raises(ServeUnavailableError, match="JSONDecodeError"):
        await speak(http, head).put_config("{")


async def test_nobody_listens(http: aiohttp.ClientSession, start_head: StartHead) -> None:
    head = await start_head(listening=False)
    with pytest.raises(ServeUnavailableError, match="cannot connect to the dashboard: Connection refused") as caught:
        await speak(http, head).get_serve()
    assert not caught.value.connected


async def test_a_hanging_head_has_a_deadline(http: aiohttp.ClientSession, start_head: StartHead) -> None:
    head = await start_head()
    head.hang = True
    with pytest.raises(ServeUnavailableError, match=r"no answer to PUT /api/serve/applications/ within 0\.05 s"):
        await speak(http, head).put_config(payload(), timeout_s=0.05)


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_auth(http: aiohttp.ClientSession, start_head: StartHead, token: str | None) -> None:
    head = await start_head(token="right")
    with pytest.raises(UnauthorizedError, match="auth token"):
        await speak(http, head, token).get_serve()
    assert await speak(http, head, "right").get_serve()


async def test_an_answer_without_end_is_cut(
    http: aiohttp.ClientSession, start_head: StartHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await start_head()
    monkeypatch.setattr(client_module, "MAX_BODY", 10)
    with pytest.raises(ServeUnavailableError, match="longer than 10 bytes"):
        await speak(http, head).get_serve()


async def test_proxy_health(http: aiohttp.ClientSession, start_head: StartHead) -> None:
    head = await start_head()
    assert not await proxy_healthy(http, "127.0.0.1", head.serve_port)
    assert not await proxy_healthy(http, "127.0.0.9", head.serve_port)
    assert not await proxy_healthy(http, "no such address", head.serve_port)
    status, _ = head.serve.put(json.dumps({"applications": [{"import_path": "m:a"}]}))
    assert status == 200
    while not await proxy_healthy(http, "127.0.0.1", head.serve_port):
        pass


async def test_the_user_agent_is_no_browser(http: aiohttp.ClientSession) -> None:
    """Ray masks environment variables for browsers (RAY_DASHBOARD_REDACT_RUNTIME_ENV)."""
    assert http.headers["User-Agent"] == "rayservice-operator"
