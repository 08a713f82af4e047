"""``drain`` with a stub of Ray's client; tests/ray has the real one (test_drain_against_real)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_runtime.commands.running import ROOT, Ended, ended, run, start

STUB = """
import json, os, pathlib
STATE = pathlib.Path(os.environ["STUB"])
class Node:
    def __init__(self, name, state, head=False):
        self.node_id, self.state, self.instance_id, self.node_manager_address = name.encode(), state, name, "10.0.0.1"
        self.is_head_node = head
class GcsClient:
    def __init__(self, address): pass
    def get_all_node_info(self, timeout=None):
        asked = json.loads(STATE.read_text())
        asked["questions"] += 1
        STATE.write_text(json.dumps(asked))
        gone = asked["questions"] > asked["lives"]
        return {1: Node("other", 0), 2: Node("me", 1 if gone else 0, asked["head"])}
    def drain_node(self, node_id, reason, message, deadline_ms):
        asked = json.loads(STATE.read_text())
        asked["drained"].append(bytes.fromhex(node_id).decode())
        STATE.write_text(json.dumps(asked))
        return asked["accepts"], "no"
"""


@pytest.fixture
def gcs() -> Iterator[str]:
    """Somebody who listens where the GCS would; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class Stub:
    """A Ray that does as it is told."""

    def __init__(self, at: Path, **state: Any) -> None:
        (at / "ray").mkdir()
        (at / "ray" / "__init__.py").touch()
        (at / "ray" / "_raylet.py").write_text(STUB)
        self.file = at / "state.json"
        self.file.write_text(
            json.dumps({"questions": 0, "lives": 1, "accepts": True, "head": False, "drained": []} | state)
        )
        self.env = {
            "PYTHONPATH": f"{ROOT}:{at}",
            "STUB": str(self.file),
            "RAY_CLOUD_INSTANCE_ID": "me",
        }

    @property
    def drained(self) -> list[str]:
        """Nodes that it was asked to drain."""
        return list(json.loads(self.file.read_text())["drained"])

    def arguments(self, address: str, *more: str) -> tuple[str, ...]:
        """Of the command."""
        return ("drain", "--address", address, "--mark", str(self.file.with_name("mark")), *more)

    async def drain(self, address: str, *arguments: str) -> Ended:
        """The command."""
        return await run(*self.arguments(address, *arguments), **self.env)


async def test_it_waits_until_its_own_node_has_ended_and_may_be_called_again(tmp_path: Path, gcs: str) -> None:
    ray = Stub(tmp_path, lives=2)
    log = tmp_path / "log"
    got = await ray.drain(gcs, "--every", "0.1", "--log", str(log))
    assert got.code == 0, got
    lines = got.err.splitlines()
    assert lines[0] == f"drain: node {b'me'.hex()} is being drained, 100 s at most"
    assert "connection(s) to the proxy" in lines[1]
    assert lines[-1] == "drain: drained: the node has ended"
    assert log.read_text() == got.err
    again = await ray.drain(gcs)
    assert (again.code, again.err) == (0, "drain: nothing to drain: no living Ray node here\n")
    assert ray.drained == ["me"]
    assert (tmp_path / "mark").read_text()  # clients with kept connections are told to go


async def test_it_ends_in_time(tmp_path: Path, gcs: str) -> None:
    got = await Stub(tmp_path, lives=99).drain(gcs, "--timeout", "0.2")
    assert got.code == 1
    assert "not drained within 0.2 s; 0 connection(s)" in got.err


async def test_what_cannot_be_drained(tmp_path: Path, gcs: str) -> None:
    got = await Stub(tmp_path, accepts=False, lives=99).drain(gcs)
    assert (got.code, got.err) == (1, "drain: Ray refuses: no\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    got = await run("drain", "--address", address, "--mark", str(tmp_path / "mark"))
    assert got.code == 0
    assert "does not answer" in got.err


async def test_an_image_without_ray_is_told(tmp_path: Path, gcs: str) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").touch()
    got = await run("drain", "--address", gcs, "--mark", str(tmp_path / "mark"), PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert got.code == 1
    assert "has no Ray" in got.err


async def test_a_head_is_not_drained_but_its_connections_are_awaited(tmp_path: Path, gcs: str) -> None:
    ray = Stub(tmp_path, head=True, lives=99)
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, client = await asyncio.open_connection("127.0.0.1", port)
        process = await start(*ray.arguments(gcs, "--proxy-port", str(port)), **ray.env)
        assert process.stderr is not None
        first = await asyncio.wait_for(process.stderr.readline(), 60)
        assert b"nothing can be moved; waiting for 1 connection(s)" in first
        client.close()
        served.set()
        got = await ended(process)
    assert (got.code, got.err, ray.drained) == (0, "drain: no connection is open\n", [])
