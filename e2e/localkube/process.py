"""Processes known by more than their pid.

A pid alone may belong to somebody else by the time we want to end it, so each record also holds the process's start
time and the boot it was started in. Nothing is ever ended by name.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_STARTTIME_FIELD = 19  # of /proc/<pid>/stat, counted after the command's closing parenthesis
_STATE_FIELD = 0


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Process:
    """A process as recorded when it was started or found."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        fields = _stat_fields(pid)
        return cls(pid, fields[_STARTTIME_FIELD], _boot_id()) if fields else None

    def alive(self) -> bool:
        fields = _stat_fields(self.pid)
        return (
            fields is not None
            and fields[_STARTTIME_FIELD] == self.started
            and fields[_STATE_FIELD] not in {"Z", "X"}
            and _boot_id() == self.boot
        )

    def signal(self, number: signal.Signals) -> None:
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def stop(self, grace: float = 5.0) -> None:
        """Ask, wait, then insist. Returns when the process is gone."""
        self.signal(signal.SIGTERM)
        if not self._gone_within(grace):
            self.signal(signal.SIGKILL)
            self._gone_within(5.0)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            self._reap()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _reap(self) -> None:
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return  # not ours to reap

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Process | None":
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    tied: bool = False,
) -> Process:
    """Start a process with its output in ``log``.

    ``tied`` ends it together with this process however this one ends; otherwise it outlives us in a session of its own.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            [*(["setpriv", "--pdeathsig", "KILL"] if tied else []), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    process = Process.of(child.pid)
    if process is None:  # it can't have gone unreaped
        msg = f"{argv[0]} vanished at once; see {log}"
        raise RuntimeError(msg)
    # Waiting is done through the record, so the Popen object must not complain that nobody waited.
    child.returncode = 0
    return process
