"""A real Ray head on loopback for tests: own ports, own temp dir, ended by pid (``ray stop`` matches by name
over the whole host and would end other people's Ray).

Ray lives in its own virtual environment (``.cache/rayvenv``), because the operator must never need it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAY_VERSION = "2.60.0"
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}
"""For every process of a Ray of tests: a token that somebody left in their home directory would turn it on."""
WANTED = (f"ray[serve]=={RAY_VERSION}", "celery", "redis")
VENV = Path(os.environ.get("RAY_TEST_VENV", ROOT / ".cache" / "rayvenv"))


class RayUnavailableError(RuntimeError):
    """Ray could not be installed or did not start; the text says what to do."""


def ray_python(*, install: bool = True) -> Path:
    """The interpreter of a virtual environment that has Ray Serve; made when absent (about 400 MB, once).

    ``RAY_TEST_VENV`` names another one. Raises RayUnavailableError.
    """
    python = VENV / "bin" / "python"
    if all((VENV / "bin" / program).exists() for program in ("ray", "celery")):
        return python
    if not install:
        raise RayUnavailableError(f"{VENV} has no Ray or no Celery; install {' '.join(WANTED)} there")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        commands = [[sys.executable, "-m", "venv", str(VENV)], [str(python), "-m", "pip", "install", "-q"]]
    else:
        commands = [
            [uv, "venv", "-q", "-p", sys.executable, str(VENV)],
            [uv, "pip", "install", "-q", "-p", str(python)],
        ]
    commands[1] += ["-c", str(ROOT / "constraints.txt"), *WANTED]
    if python.exists():  # an older one, in which something is missing
        commands = commands[1:]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RayUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")
    return python


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, outside Ray's worker range (10002-19999) and the ephemeral range."""
    found: list[int] = []
    candidate = 20100 + (os.getpid() * 37) % 8000
    while len(found) < count:
        candidate += 1
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            found.append(candidate)
    return found


@dataclass
class RealRay:
    """A running head. ``started_at`` is the monotonic time at which its process was started."""

    process: subprocess.Popen[bytes]
    temp_dir: Path
    dashboard_port: int
    serve_port: int
    gcs_port: int
    agent_port: int
    metrics_port: int
    started_at: float

    @property
    def dashboard(self) -> str:
        """Base URL of the dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def check(self) -> None:
        """Raises RayUnavailableError with the end of its output if `ray start` has ended."""
        if self.process.poll() is not None:
            log = (self.temp_dir / "start.log").read_text(errors="replace")
            raise RayUnavailableError(f"ray start ended with {self.process.returncode}: {log.strip()[-2000:]}")

    def pids(self) -> list[int]:
        """All processes of this Ray: they name its temp dir or work in it, or descend from its head."""
        marker = str(self.temp_dir).encode()
        parents: dict[int, int] = {}
        mine: set[int] = {self.process.pid} if self.process.poll() is None else set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                pid = int(entry.name)
                parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                # Those that outlive a `ray start` that gave up have only its working directory in common with it.
                if marker in told + os.fsencode((entry / "cwd").readlink()):
                    mine.add(pid)
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in mine} - mine
            mine |= children
            grown = bool(children)
        return sorted(mine - {os.getpid()})

    def kill(self) -> None:
        """Ends every process of this Ray by pid, at once (nothing of it is to be kept), and removes its temp dir."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            time.sleep(0.05)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def start(
    *, pythonpath: tuple[Path, ...] = (), env: dict[str, str] | None = None, args: tuple[str, ...] = ()
) -> RealRay:
    """Starts a small head (2 CPUs, 75 MiB object store) and returns at once; nothing is ready yet.

    ``pythonpath`` is what its processes can import besides the repository; raises RayUnavailableError.
    """
    ray_python()
    temp_dir = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: unix sockets live below it
    gcs, dashboard, client, agent, agent_grpc, runtime_env, node_manager, object_manager, metrics, serve = free_ports(
        10
    )
    command = [
        str(VENV / "bin" / "ray"),
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={gcs}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={runtime_env}",
        f"--node-manager-port={node_manager}",
        f"--object-manager-port={object_manager}",
        f"--metrics-export-port={metrics}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--num-cpus=2",
        "--object-store-memory=78643200",
        "--disable-usage-stats",
        f"--temp-dir={temp_dir}",
        *args,
    ]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHON"))},
        "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, *pythonpath)),
        "PYTHONUNBUFFERED": "1",
        # `ray start` gives up when its raylet has not registered within 30 s, which happens on a busy machine;
        # one question for it may take this long.
        "RAY_raylet_start_wait_time_s": "120",
        **NO_TOKEN,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        **(env or {}),
    }
    with (temp_dir / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=temp_dir
        )
    return RealRay(process, temp_dir, dashboard, serve, gcs, agent, metrics, time.monotonic())


@contextlib.contextmanager
def running(**options: object) -> Iterator[RealRay]:
    """A head for the length of a ``with`` block."""
    ray = start(**options)  # type: ignore[arg-type]
    try:
        yield ray
    finally:
        ray.kill()
