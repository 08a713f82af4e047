"""What drains a pod, in a real Ray: the proxy's module and the preStop hook, as the operator gives them to pods."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayservice_operator.cluster import connections, drain
from tests.ray import real_ray

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

APPLICATION = """
import asyncio
from ray import serve
from starlette.responses import StreamingResponse

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Teller:
    async def __call__(self, request):
        seconds = float(request.query_params["seconds"])
        if "stream" not in request.query_params:
            await asyncio.sleep(seconds)
            return "told"
        async def words():
            for word in ("one ", "two ", "three"):
                yield word
                await asyncio.sleep(seconds / 2)
        return StreamingResponse(words())

app = Teller.bind()
"""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pod has at ``/etc/rayservice``."""
    path = tmp_path_factory.mktemp("mount")
    (path / f"{connections.MODULE_NAME}.py").write_text(connections.MODULE)
    (path / "draining").touch()
    (path / "teller.py").write_text(APPLICATION)
    return path


@pytest.fixture(scope="module")
def ray(mount: Path) -> Iterator[real_ray.RealRay]:
    """A head whose proxy has loaded the module, and an application on it."""
    callback = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{connections.MODULE_NAME}:middlewares"}
    with real_ray.running(pythonpath=(mount,), env=callback) as head:
        config = {
            "http_options": {"port": head.serve_port},
            "applications": [{"name": "teller", "import_path": "teller:app", "route_prefix": "/"}],
        }
        until(lambda: _serve_api(head, config) is not None, head)
        until(lambda: _serve_api(head)["applications"]["teller"]["status"] == "RUNNING", head)
        until(lambda: not new_one_closes(head), head)
        yield head


def until(probe: Callable[[], Any], head: real_ray.RealRay) -> None:
    """Wait for ``probe`` to be true; what it raises until then is «not yet»."""
    while True:
        head.check()
        try:
            if probe():
                return
        except (OSError, KeyError, http.client.HTTPException, AssertionError):
            pass
        time.sleep(0.1)


def _serve_api(head: real_ray.RealRay, config: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(f"{head.dashboard}/api/serve/applications/")
    if config is not None:
        request.method, request.data = "PUT", json.dumps(config).encode()
        request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as got:
        return json.loads(got.read() or "{}")


@contextlib.contextmanager
def connection(head: real_ray.RealRay) -> Iterator[http.client.HTTPConnection]:
    """A client's connection to the proxy, kept as long as the proxy lets it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", head.serve_port, timeout=30)) as made:
        yield made


def closes(to: http.client.HTTPConnection) -> bool:
    """Whether the answer to a request ends the connection."""
    to.request("GET", "/?seconds=0")
    got = to.getresponse()
    assert (got.status, got.read()) == (200, b"told")
    return got.will_close


def new_one_closes(head: real_ray.RealRay) -> bool:
    """The same for a connection that is made for it."""
    with connection(head) as new:
        return closes(new)


def test_answers_end_their_connection_while_the_pod_drains(ray: real_ray.RealRay, mount: Path) -> None:
    with connection(ray) as kept, connection(ray) as under_way, connection(ray) as streaming:
        assert not closes(kept)
        under_way.request("GET", "/?seconds=2.5")
        streaming.request("GET", "/?seconds=3&stream=1")
        stream = streaming.getresponse()
        assert stream.read(4) == b"one "

        (mount / "draining").write_text("2026-01-01T00:00:00Z")
        try:
            until(lambda: closes(kept), ray)
            assert stream.read() == b"two three"  # what was begun before is not cut
            got = under_way.getresponse()
            assert (got.status, got.read(), got.will_close) == (200, b"told", True)
            assert new_one_closes(ray)  # a client that finds no other pod is answered all the same
        finally:
            (mount / "draining").write_text("")
    until(lambda: not new_one_closes(ray), ray)


@contextlib.contextmanager
def worker_node(ray: real_ray.RealRay, log: Path) -> Iterator[dict[str, str]]:
    """A second node; its environment, in which what runs takes itself for a container of its pod. When the block ends,
    it must end in peace.
    """
    ports = real_ray.free_ports(6)
    flags = (
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "runtime-env-agent-port",
        "node-manager-port",
        "object-manager-port",
        "metrics-export-port",
    )
    environment = {
        **real_ray.NO_TOKEN,
        "PATH": f"{real_ray.VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "RAY_CLOUD_INSTANCE_ID": "worker-1",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain.SHUTDOWN_S),
        "OF_TEST": str(ray.temp_dir),  # by which its processes are found at the end
    }
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [
                *("ray", "start", "--block", f"--address=127.0.0.1:{ray.gcs_port}", "--node-ip-address=127.0.0.1"),
                *("--num-cpus=1", "--object-store-memory=78643200", "--min-worker-port=0", "--max-worker-port=0"),
                *(f"--{flag}={port}" for flag, port in zip(flags, ports, strict=True)),
            ],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=worker.wait, daemon=True).start()
    until(lambda: "Ray runtime started" in log.read_text(errors="replace"), ray)
    yield environment
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGTERM)
    until(lambda: worker.poll() is not None, ray)


def test_the_hook_drains_its_own_node_and_no_other(ray: real_ray.RealRay, tmp_path: Path) -> None:
    with worker_node(ray, tmp_path / "worker.log") as environment:
        hook = ["python", "-c", drain.DRAIN_NODE, "127.0.0.1", str(ray.gcs_port), "60"]
        done = subprocess.run(hook, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "drain: drained"
        again = subprocess.run(hook, env=environment, capture_output=True, text=True, check=True)
        assert "drained" not in again.stderr  # no other node has been taken for it
    assert not new_one_closes(ray)


# --- the same by serve_runtime's commands (docs/serve-runtime/helpers.md)


def command(ray: real_ray.RealRay, mount: Path, **env: str) -> Callable[..., subprocess.Popen[str]]:
    """Begins ``python -m serve_runtime`` as in a pod of this Ray."""
    environment = {
        **real_ray.NO_TOKEN,
        **env,
        "PATH": f"{real_ray.VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(real_ray.ROOT),
        "RAY_ADDRESS": f"127.0.0.1:{ray.gcs_port}",
    }

    def begin(name: str, *arguments: str) -> subprocess.Popen[str]:
        more = {
            "drain": ("--proxy-port", str(ray.serve_port), "--mark", str(mount / "draining")),
            "probe": ("--proxy", f"http://127.0.0.1:{ray.serve_port}", "--dashboard", ray.dashboard, "--timeout", "30"),
        }[name]
        return subprocess.Popen(
            ["python", "-m", "serve_runtime", name, *more, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def test_the_command_on_a_head_waits_for_what_is_under_way(ray: real_ray.RealRay, mount: Path) -> None:
    try:
        with connection(ray) as kept, connection(ray) as streaming:
            assert not closes(kept)
            streaming.request("GET", "/?seconds=4&stream=1")
            stream = streaming.getresponse()
            assert stream.read(4) == b"one "
            drained = command(ray, mount)("drain", "--timeout", "100")
            assert drained.stdout is not None
            assert "from which nothing can be moved; waiting for 2 connection(s)" in drained.stdout.readline()
            until(lambda: closes(kept), ray)
            assert stream.read() == b"two three"
            streaming.close()  # its answer began before, so nobody has told it to
            out, _ = drained.communicate(timeout=120)
        assert (drained.returncode, out.splitlines()[-1]) == (0, "drain: no connection is open")
    finally:
        (mount / "draining").write_text("")
    until(lambda: not new_one_closes(ray), ray)


def test_the_command_drains_a_worker_and_may_be_called_twice(ray: real_ray.RealRay, tmp_path: Path) -> None:
    (tmp_path / "mark").mkdir()
    with worker_node(ray, tmp_path / "worker.log") as environment:
        begin = command(ray, tmp_path / "mark", **environment)
        both = [begin("drain", "--timeout", "60"), begin("drain", "--timeout", "60")]
        said = [each.communicate(timeout=120)[0] for each in both]
        assert [each.returncode for each in both] == [0, 0], said
        assert any("the node has ended" in each for each in said), said
        after = begin("drain")
        assert after.communicate(timeout=60) == ("drain: nothing to drain: no living Ray node here\n", None)
    assert not new_one_closes(ray)


def test_the_probe_knows_what_runs_here(ray: real_ray.RealRay, mount: Path, tmp_path: Path) -> None:
    begin = command(ray, mount, TMPDIR=str(tmp_path))
    asked = ("--application", "teller", "--deployment", "teller/Teller", "--here", "--warm", "/?seconds=0")
    said, _ = begin("probe", "--wait", "60", *asked).communicate(timeout=120)
    assert said == "ready: the proxy takes requests, teller RUNNING, teller/Teller running here, warm\n"
    said, _ = begin("probe", "--deployment", "teller/Other").communicate(timeout=120)
    assert said == "not ready: deployment teller/Other is not there; there are Teller\n"
