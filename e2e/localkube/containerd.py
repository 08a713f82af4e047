"""containerd of our own: configuration, sockets and folders apart from the system's."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from e2e.localkube import host
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State, cache_dir
from e2e.localkube.process import Process
from e2e.localkube.shell import run

NAMESPACE = "k8s.io"
POD_SUBNET = "10.244.0.0/24"
_CNI_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


def root_dir() -> Path:
    """Images and their unpacked layers: in the cache, so that a new cluster needn't import them again."""
    return cache_dir() / "containerd"


def socket_path(state: State) -> Path:
    return state.dir("run") / "containerd.sock"


def configure(state: State, pause_image: str) -> Path:
    """Write containerd's and CNI's configuration; returns containerd's."""
    plugins = next((path for path in _CNI_PLUGINS if (path / "ptp").exists()), None)
    if plugins is None:
        msg = "no CNI plugins found; apt-get install containernetworking-plugins"
        raise LocalKubeError(msg)
    network = state.dir("cni", "net.d")
    (network / "10-localkube.conflist").write_text(json.dumps(_network(state), indent=1))
    config = state.conf / "containerd.toml"
    config.write_text(_config(state, pause_image, plugins, network))
    return config


def _config(state: State, pause_image: str, plugins: Path, network: Path) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{root_dir()}"
state = "{state.dir("run", "containerd")}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{socket_path(state)}"

[plugins."io.containerd.internal.v1.opt"]
path = "{state.dir("run", "opt")}"

[{cri}]
sandbox_image = "{pause_image}"
# Lowering oom_score_adj needs CAP_SYS_RESOURCE, which a sandboxed machine may not have; then no pod would start.
restrict_oom_score_adj = true
disable_tcp_service = true
netns_mounts_under_state_dir = true

[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{state.dir("run", "runc")}"

[{cri}.cni]
bin_dir = "{plugins}"
conf_dir = "{network}"
"""


def _network(state: State) -> dict[str, object]:
    """Each pod on a link of its own, all traffic routed.

    With a bridge, traffic between two pods through a Service needs br_netfilter; a routed link needs nothing, and
    leaves no bridge behind.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(state.dir("cni", "ipam")),
    }
    return {
        "cniVersion": "0.4.0",
        "name": state.label,
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def ctr(state: State, *args: str | Path, timeout: float | None = 300) -> str:
    """Run ctr against our containerd."""
    return run(["ctr", "-a", socket_path(state), "-n", NAMESPACE, *args], timeout=timeout)


@contextlib.contextmanager
def importing(state: State) -> Iterator[IO[bytes]]:
    """A stream to write an image archive to; at its end the image is there, or an error is raised."""
    argv = ["ctr", "-a", str(socket_path(state)), "-n", NAMESPACE, "images", "import", "-"]
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out) as child,
    ):
        assert child.stdin is not None
        broken = False
        try:
            yield child.stdin
            child.stdin.close()
        except BrokenPipeError:
            broken = True  # what it printed says more
        if child.wait() or broken:
            out.seek(0)
            tail = out.read()[-2000:].decode(errors="replace")
            msg = f"containerd did not take the image:\n{tail}"
            raise LocalKubeError(msg)


def answers(state: State) -> bool:
    try:
        ctr(state, "version", timeout=5)
    except LocalKubeError:
        return False
    return True


def shims(state: State) -> list[Process]:
    """The containerd-shims of our own pods, known by our socket's path among their arguments."""
    ours = os.fsencode(socket_path(state))
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words and os.path.basename(words[0]).startswith(b"containerd-shim") and ours in words:  # noqa: PTH119
                process = Process.of(int(path.parent.name))
                if process:
                    found.append(process)
    return found


def sandboxes(state: State) -> set[str]:
    """Names of the pod sandboxes that are there; CNI names what it caches after them."""
    return {path.name for path in state.dir("run", "containerd").glob("io.containerd.grpc.v1.cri/sandboxes/*")}


def remove_pods(state: State) -> None:
    """End all pods at once and remove their records; the images stay."""
    host.kill_pods(state.label)
    for shim in shims(state):
        shim.signal(signal.SIGKILL)
    for shim in shims(state):
        shim.stop(grace=1)
    # A shim that is killed leaves its socket, whose name it wrote beside its task.
    for address in state.dir("run", "containerd").glob("io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            Path(address.read_text().strip().removeprefix("unix://")).unlink(missing_ok=True)


def forget_pods(state: State) -> None:
    """Remove containers and their writable layers from containerd's database. Their processes are gone already."""
    names = ctr(state, "containers", "ls", "-q").split()
    if names:
        ctr(state, "containers", "rm", *names)
    committed = "Committed"
    for line in ctr(state, "snapshots", "ls").splitlines()[1:]:
        name, *rest = line.split()
        if committed not in rest:
            ctr(state, "snapshots", "rm", name)
