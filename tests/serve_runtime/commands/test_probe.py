"""``probe`` against a proxy and a dashboard that say what they are told to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from serve_runtime.commands import node
from tests.serve_runtime.commands.running import Ended, run, serving, until


class Pod:
    """A node's proxy and its head's dashboard."""

    def __init__(self) -> None:
        self.health = (200, "success")
        self.routes = {"/": "scorer"}
        self.details: dict[str, Any] = {
            "proxies": {"n1": {"node_ip": "10.0.0.1", "status": "HEALTHY"}},
            "applications": {
                "scorer": {
                    "status": "RUNNING",
                    "route_prefix": "/",
                    "deployments": {"Predictor": {"replicas": [{"node_ip": "10.0.0.1", "state": "RUNNING"}]}},
                }
            },
        }
        self.warm: list[int] = []
        self.gate: asyncio.Event | None = None
        self.seen: list[dict[str, str]] = []

    def all(self) -> list[web.RouteDef]:
        """Its routes."""
        return [
            web.get("/-/healthz", self._health),
            web.get("/-/routes", self._routes),
            web.get("/api/serve/applications/", self._details),
            web.route("*", "/predict", self._predict),
        ]

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.health[0], text=self.health[1])

    async def _routes(self, request: web.Request) -> web.Response:
        return web.json_response(self.routes)

    async def _details(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.headers))
        return web.json_response(self.details)

    async def _predict(self, request: web.Request) -> web.Response:
        self.warm.append(len(await request.read()))
        if self.gate is not None:
            await self.gate.wait()
        return web.Response(status=200 if len(self.warm) != 2 else 503)


async def probe(url: str, *arguments: str, **env: str) -> Ended:
    """One look, with time enough on a busy machine."""
    return await run("probe", "--proxy", url, "--dashboard", url, "--timeout", "20", *arguments, **env)


async def test_a_proxy_that_takes_requests() -> None:
    pod = Pod()
    async with serving(*pod.all()) as url:
        got = await probe(url)
        assert (got.code, got.out) == (0, "ready: the proxy takes requests\n")
        pod.health = (503, "This node is being drained.")
        got = await probe(url)
    assert (got.code, got.out) == (1, "not ready: the proxy of this node says 503: This node is being drained.\n")
    assert (await probe(url)).out.startswith("not ready: the proxy of this node (http://127.0.0.1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "DEPLOYING", "message": "step\n2"}, "application scorer is DEPLOYING: step 2"),
        ({"route_prefix": "/other"}, "no route /other"),
        ({"deployments": {}}, "deployment scorer/Predictor is not there"),
        ({"deployments": {"Predictor": {"replicas": [{"node_ip": "10.0.0.1", "state": "STARTING"}]}}}, "STARTING"),
        ({"deployments": {"Predictor": {"replicas": [{"node_ip": "10.0.0.2", "state": "RUNNING"}]}}}, "here: none"),
        ({}, "ready: the proxy takes requests, scorer RUNNING, scorer/Predictor running here"),
    ],
)
async def test_what_runs_here(change: dict[str, Any], says: str) -> None:
    pod = Pod()
    pod.details["applications"]["scorer"] |= change
    wanted = ("--application", "scorer", "--deployment", "scorer/Predictor", "--here", "--node-ip", "10.0.0.1")
    async with serving(*pod.all()) as url:
        got = await probe(url, *wanted, RAY_AUTH_TOKEN="t")
    assert says.replace("here: none", "on this node: none") in got.out
    assert got.code == (0 if says.startswith("ready") else 1)
    assert pod.seen[0]["Authorization"] == "Bearer t"


async def test_a_replica_is_known_by_the_name_of_its_pod() -> None:
    pod = Pod()
    (replica,) = pod.details["applications"]["scorer"]["deployments"]["Predictor"]["replicas"]
    replica["node_instance_id"] = "pod-1"
    async with serving(*pod.all()) as url:
        for name, code in (("pod-1", 0), ("pod-2", 1)):
            asked = ("--deployment", "scorer/Predictor", "--here", "--node-ip", "10.0.0.1")
            assert (await probe(url, *asked, RAY_CLOUD_INSTANCE_ID=name)).code == code


async def test_a_worker_without_anything_of_serve_may_be_ready() -> None:
    pod = Pod()
    pod.health = (503, "No replicas are available yet.")
    async with serving(*pod.all()) as url:
        assert (await probe(url, "--idle-ok", "--node-ip", "10.0.0.9")).code == 0
        assert (await probe(url, "--idle-ok", "--node-ip", "10.0.0.1")).code == 1


async def test_a_head_that_is_silent_costs_no_more_than_the_time() -> None:
    gate = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        await gate.wait()
        return web.Response()

    async with serving(web.get("/api/serve/applications/", silent)) as url:
        got = await run("probe", "--dashboard", url, "--application", "a", "--timeout", "0.3")
        gate.set()
    assert got.code == 1
    assert "no answer within" in got.out


async def test_waiting_until_it_is_ready() -> None:
    asked: list[str] = []

    async def health(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=503 if len(asked) == 1 else 200)

    async with serving(web.get("/-/healthz", health)) as url:
        got = await probe(url, "--wait", "60")
    assert (got.code, got.out, len(asked)) == (0, "ready: the proxy takes requests\n", 2)


# --- warm-up


async def test_warm_once_in_the_life_of_a_container(tmp_path: Path) -> None:
    pod = Pod()
    pod.gate = asyncio.Event()
    asked = ("--warm", "/predict", "--warm-body", '{"x": 1}', "--warm-times", "3")
    async with serving(*pod.all()) as url:
        quick = ("probe", "--proxy", url, "--timeout", "1", *asked)
        first = await run(*quick, TMPDIR=str(tmp_path))
        assert (first.code, first.out) == (1, "not ready: warming up has begun\n")
        await until(lambda: pod.warm)
        second = await run(*quick, TMPDIR=str(tmp_path))
        assert second.out.startswith("not ready: warming up, for "), "it goes on, and is not begun twice"
        assert pod.warm == [8]
        pod.gate.set()
        got = await probe(
            url, "--wait", "60", *asked, TMPDIR=str(tmp_path)
        )  # the second request is answered 503, so all begins anew
        assert (got.code, got.out) == (0, "ready: the proxy takes requests, warm\n")
        assert len(pod.warm) == 5
        assert (await probe(url, *asked, TMPDIR=str(tmp_path))).code == 0
    assert len(pod.warm) == 5


# --- parts


def test_where_the_head_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left = tmp_path / "ray_current_cluster"
    monkeypatch.setattr(node, "CURRENT_CLUSTER", left)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(node.NodeError, match="--address"):
        node.gcs_address()
    left.write_text("10.0.0.7:6380\n")
    assert node.gcs_address() == ("10.0.0.7", 6380)
    monkeypatch.setenv("RAY_ADDRESS", "demo-head-svc:6379")
    assert node.dashboard_url() == "http://demo-head-svc:8265"
    assert node.gcs_address("[::1]:1") == ("::1", 1)


async def test_connections_are_counted_by_port() -> None:
    gate = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert node.open_connections(port) == 0
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: node.open_connections(port) == 1)
        writer.close()
        gate.set()
        await until(lambda: node.open_connections(port) == 0)


async def test_a_probe_starts_without_ray_and_without_the_other_commands() -> None:
    import sys  # noqa: PLC0415

    code = (
        "import sys; sys.argv = ['x']\n"
        "from serve_runtime.commands import main\n"
        "main(['probe', '--no-proxy'])\n"
        "print([m for m in ('ray', 'pydantic', 'aiohttp', 'serve_runtime.commands.prefetch') if m in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines() == ["ready: nothing was asked", "[]"]
