"""A RabbitMQ as a process of this machine, from Debian's package, for tests that end it at will."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.localkube import debian
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.light import free_port
from e2e.localkube.progress import Steps

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # not the one in sbin, which changes the user
_INIT = Path("/run/systemd/system")  # there while systemd runs the machine
_START_SECONDS = 60.0
_AMQP = b"AMQP\x00\x00\x09\x01"  # the first bytes of a client; the server answers with a frame


class RabbitmqProcess:
    """A server at 127.0.0.1 with a port of its own, whose queues lie in ``folder``. Raises LocalKubeError."""

    def __init__(self, folder: Path) -> None:
        if _INIT.exists() and not _SERVER.exists():
            msg = "no RabbitMQ here, and its package would start a service at once; install rabbitmq-server yourself"
            raise LocalKubeError(msg)
        debian.ensure({str(_SERVER): "rabbitmq-server"}, Steps())
        self.port = free_port()
        epmd = free_port()
        self._env = {
            **os.environ,
            "HOME": str(folder),  # of Erlang's cookie
            "RABBITMQ_NODENAME": f"rabbit-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": str(folder / "log" / "rabbitmq.log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ALLOW_INPUT": "1",  # the server takes the place of its start script
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._log = folder / "output"
        # Erlang would leave one behind, which outlives the server.
        self._names = subprocess.Popen(["epmd", "-port", str(epmd), "-address", "127.0.0.1"], env=self._env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Starts it and waits until it answers. One that was killed goes on with what is in its folder."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(_SERVER), "-noinput"], env=self._env, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2000:]
                msg = f"RabbitMQ does not answer at port {self.port}: {tail}"
                raise LocalKubeError(msg)
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2) as to:
            to.sendall(_AMQP)
            return bool(to.recv(1))
        return False

    def kill(self) -> None:
        """Ends it at once, as if its machine were lost."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its session: helpers that Erlang started, too
            self._process.wait(timeout=10)

    def close(self) -> None:
        """Ends it and what it needed."""
        self.kill()
        self._names.kill()
        self._names.wait(timeout=10)


@contextmanager
def running() -> Iterator[RabbitmqProcess]:
    """A server for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as folder:
        process = RabbitmqProcess(Path(folder))
        try:
            process.start()
            yield process
        finally:
            process.close()
