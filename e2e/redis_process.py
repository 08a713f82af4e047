"""A redis-server as a process of this machine, from Debian's package: where no registry gives an image, and for tests
that end it at will.
"""

import contextlib
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

# redis-tools has the server's program under another name; the package redis-server would start a service at once.
_PROGRAM = "redis-check-rdb"
_START_SECONDS = 20.0


class RedisProcess:
    """A server at ``address``:``port`` whose settings and data lie in ``folder``. Raises LocalKubeError."""

    def __init__(self, folder: Path, address: str, port: int, *, password: str = "", settings: str = 'save ""') -> None:
        debian.ensure({_PROGRAM: "redis-tools"}, Steps())
        self.address, self.port, self.password = address, port, password
        # Not on the command line, where everybody could read the password.
        self._file = folder / "redis.conf"
        secret = f"requirepass {password}\n" if password else ""
        self._file.write_text(f"bind {address}\nport {port}\n{secret}dir {folder}\n{settings}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For clients."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}{self.address}:{self.port}/0"

    def start(self) -> None:
        """Starts it and waits until it answers. One that was killed goes on with what is in its folder."""
        argv = ["redis-server", str(self._file)]
        self._process = subprocess.Popen(argv, executable=f"/usr/bin/{_PROGRAM}", stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with socket.create_connection((self.address, self.port), timeout=1) as to:
                    to.sendall(b"PING\r\n")
                    answer = to.recv(64)
                if answer.startswith(b"-LOADING"):  # it reads what it had kept
                    raise OSError(answer.decode().strip())
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    msg = f"redis-server does not answer at {self.address}:{self.port}: {error}"
                    raise LocalKubeError(msg) from error
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """Ends it at once, as if its machine were lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def stop(self) -> None:
        """Ends it in peace, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
                return
            self.kill()


@contextmanager
def running(
    address: str = "127.0.0.1", *, password: str = "", settings: str = 'save ""', port: int | None = None
) -> Iterator[RedisProcess]:
    """A server for the length of the block; port: a free one."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = RedisProcess(Path(folder), address, port or free_port(), password=password, settings=settings)
        process.start()
        try:
            yield process
        finally:
            process.stop()
