"""What the local cluster takes away again is its own, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

from e2e.localkube import host
from e2e.localkube.process import Process, spawn

_SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
:CNI-1234 - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \\"localkube\\"" -j CNI-1234
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-ABC
-A CNI-1234 -d 10.244.0.0/24 -j ACCEPT
-A DOCKER -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -j ACCEPT
COMMIT
"""


def test_only_our_chains_and_the_jumps_to_them_are_removed() -> None:
    assert host.removal_script(_SAVED).splitlines() == [
        "*nat",
        '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-D POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \\"localkube\\"" -j CNI-1234',
        "-F KUBE-SERVICES",
        "-F KUBE-SVC-ABC",
        "-F CNI-1234",
        "-X KUBE-SERVICES",
        "-X KUBE-SVC-ABC",
        "-X CNI-1234",
        "COMMIT",
    ]


def test_nothing_to_remove() -> None:
    assert host.removal_script("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n") == ""


def test_sysctls_come_back_as_they_were(tmp_path: Path) -> None:
    record = tmp_path / "sysctls.json"
    record.write_text("{}")
    host.restore_sysctls(record)
    host.restore_sysctls(tmp_path / "no-such-file")


def test_a_recycled_pid_is_not_ours(tmp_path: Path) -> None:
    ours = Process.of(os.getpid())
    assert ours is not None
    assert ours.alive()
    assert not Process(ours.pid, "1", ours.boot).alive(), "started at another time"
    assert not Process(ours.pid, ours.started, "another boot").alive()
    ours.save(tmp_path / "record")
    assert Process.load(tmp_path / "record") == ours
    assert Process.load(tmp_path / "nothing") is None


def test_stop_insists(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = spawn([sys.executable, "-c", deaf], log=tmp_path / "log")
    while "deaf" not in (tmp_path / "log").read_text():
        assert process.alive()
    process.stop(grace=0.1)
    assert not process.alive()


def test_tied_processes_end_with_whoever_started_them(tmp_path: Path) -> None:
    starter = (
        "import sys, os; from pathlib import Path; from e2e.localkube.process import spawn;"
        f"p = spawn(['sleep', '60'], log=Path({str(tmp_path / 'log')!r}), tied=True); print(p.pid, p.started, p.boot)"
    )
    root = str(Path(host.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", starter], cwd=root, capture_output=True, text=True, check=True)
    pid, started, boot = done.stdout.split()
    child = Process(int(pid), started, boot)
    child.stop(grace=1.0)  # reaped or not, it has to be gone by now
    assert not child.alive()
