"""What the cluster changes on the machine outside its own folder, and how that is put back.

Network settings of the kernel, iptables chains, control groups, and a few folders whose place the components fix.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from e2e.localkube.errors import LocalKubeError
from e2e.localkube.process import Process
from e2e.localkube.shell import run

_CHAINS = ("KUBE-", "CNI-")
_STRAY = "KUBE-LOCAL-STRAY"
_WANTED = {"net/ipv4/ip_forward": "1"}
# The kubelet and kube-proxy set these by themselves.
_TOUCHED = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/vs/conntrack",
    "net/bridge/bridge-nf-call-iptables",
)


def node_address() -> str:
    """The machine's own address: the one its default route uses. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            msg = "this machine has no IPv4 route, so pods would have no address to reach the API server at"
            raise LocalKubeError(msg) from error
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        msg = "this machine has no address but loopback; pods could not reach the API server"
        raise LocalKubeError(msg)
    return address


# -- kernel settings


def remember_and_set_sysctls(record: Path) -> None:
    """Note the values before the first start, so that ``restore_sysctls`` can put them back, then set ours."""
    if not record.exists():
        before = {}
        for name in (*_WANTED, *_TOUCHED):
            path = Path("/proc/sys") / name
            if path.exists():
                before[name] = path.read_text().strip()
        record.write_text(json.dumps(before, indent=1))
    for name, value in _WANTED.items():
        (Path("/proc/sys") / name).write_text(value)


def restore_sysctls(record: Path) -> None:
    if not record.exists():
        return
    for name, value in json.loads(record.read_text()).items():
        path = Path("/proc/sys") / name
        with contextlib.suppress(OSError):
            if path.read_text().strip() != value:
                path.write_text(value)


# -- iptables


def foreign_chains() -> bool:
    """Whether kube-proxy's chains are there. Before our first start that means another Kubernetes on this machine."""
    return any("KUBE-SVC" in _save(family) or "KUBE-SERVICES" in _save(family) for family in ("iptables", "ip6tables"))


def _save(family: str) -> str:
    with contextlib.suppress(LocalKubeError):
        return run([f"{family}-save"], env=_sbin())
    return ""


def refuse_stray_packets(service_range: str) -> None:
    """Nothing that is meant for a service leaves the machine.

    In the moments in which kube-proxy has no rule for a service that its endpoints have just left or joined, a packet
    would follow the default route: the connection hangs on it, or something beyond answers in the service's name.
    """
    rules = f"*filter\n:{_STRAY} - [0:0]\n-A {_STRAY} -d {service_range} -j REJECT\nCOMMIT\n"
    run(["iptables-restore", "--noflush"], input_text=rules, env=_sbin())
    if f"-A FORWARD -j {_STRAY}" not in _save("iptables").splitlines():
        run(["iptables", "-A", "FORWARD", "-j", _STRAY], env=_sbin())


def remove_chains() -> None:
    """Remove the chains of kube-proxy, the kubelet and CNI, and every rule that jumps to them."""
    for family in ("iptables", "ip6tables"):
        script = removal_script(_save(family))
        if script:
            run([f"{family}-restore", "--noflush"], input_text=script, env=_sbin())


def removal_script(saved: str) -> str:
    """From the output of iptables-save, the input for iptables-restore that removes our chains only."""
    out: list[str] = []
    jumps: list[str] = []
    chains: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            out.append(line)
            jumps, chains = [], []
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            if chain.startswith(_CHAINS):
                chains.append(chain)
        elif line.startswith("-A "):
            source = line.split()[1]
            target = _jump_target(line)
            if not source.startswith(_CHAINS) and target.startswith(_CHAINS):
                jumps.append("-D" + line[2:])
        elif line == "COMMIT":
            if chains or jumps:
                out += [*jumps, *(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains), line]
            else:
                out.pop()
    return "\n".join(out) + "\n" if out else ""


def _jump_target(rule: str) -> str:
    words = rule.split()
    for flag in ("-j", "-g"):
        if flag in words:
            return words[words.index(flag) + 1]
    return ""


def _sbin() -> dict[str, str]:
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


# -- control groups


def _cgroup_roots() -> list[Path]:
    """Every hierarchy that is mounted: one on cgroup v2, one for each controller on v1."""
    roots = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"} and mountpoint.startswith("/sys/fs/cgroup"):
            roots.append(Path(mountpoint))
    return roots


def create_cgroup(name: str) -> None:
    """All pods live in one group, so that ours are known; the kubelet wants it to exist in each hierarchy."""
    for root in _cgroup_roots():
        if root == Path("/sys/fs/cgroup/unified"):  # the hybrid layout's second tree, which the kubelet doesn't use
            continue
        group = root / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # v1: a new group has none, and no task may enter it
            ours, above = group / setting, root / setting
            if ours.exists() and above.exists() and not ours.read_text().strip():
                with contextlib.suppress(OSError):
                    ours.write_text(above.read_text())
        controllers = root / "cgroup.controllers"
        if controllers.exists():
            wanted = " ".join(f"+{controller}" for controller in controllers.read_text().split())
            for subtree in (root / "cgroup.subtree_control", group / "cgroup.subtree_control"):
                with contextlib.suppress(OSError):
                    subtree.write_text(wanted)


def _groups(name: str) -> Iterator[Path]:
    """Our group and those below it, children before parents."""
    for root in _cgroup_roots():
        if (root / name).is_dir():
            for folder, _, _ in os.walk(root / name, topdown=False):
                yield Path(folder)


def pod_processes(name: str) -> set[int]:
    pids: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            pids.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return pids


def kill_pods(name: str) -> None:
    """End every process in our control group."""
    deadline = time.monotonic() + 10
    while (pids := pod_processes(name)) and time.monotonic() < deadline:
        for pid in pids:
            if process := Process.of(pid):
                process.signal(signal.SIGKILL)
        time.sleep(0.05)


def remove_cgroup(name: str) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = False
        for group in _groups(name):
            try:
                group.rmdir()
            except OSError:
                left = True
        if not left:
            return
        time.sleep(0.1)


# -- mounts and folders


def unmount_below(root: Path) -> None:
    """Unmount everything below a folder, the deepest first, as often as it is mounted."""
    prefix = f"{root}/"
    for _ in range(5):
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        ours = sorted((p for p in map(_unescape, points) if p.startswith(prefix)), key=len, reverse=True)
        if not ours:
            return
        for point in ours:
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _unescape(mountpoint: str) -> str:
    return mountpoint.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def remove_fixed_folders(sandboxes: Collection[str]) -> None:
    """Folders whose place the kubelet and CNI fix: remove what is ours, and the folder if nothing else is in it."""
    results = Path("/var/lib/cni/results")
    if results.is_dir():
        for path in results.iterdir():
            if any(sandbox in path.name for sandbox in sandboxes):
                path.unlink(missing_ok=True)
    links = Path("/var/log/containers")
    if links.is_dir():
        for path in links.iterdir():
            if path.is_symlink() and not path.exists():
                path.unlink(missing_ok=True)
    plugins = Path("/var/lib/kubelet/device-plugins")
    for name in ("kubelet.sock", "DEPRECATION", "kubelet_internal_checkpoint"):
        with contextlib.suppress(OSError):
            (plugins / name).unlink(missing_ok=True)
    for folder in (results, results.parent, links, plugins, plugins.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a folder, but never through a mount that could not be undone."""
    prefix = f"{path}/"
    if any(line.split()[1].startswith(prefix) for line in Path("/proc/mounts").read_text().splitlines()):
        msg = f"something is still mounted below {path}; see /proc/mounts, then run `down` again"
        raise LocalKubeError(msg)
    shutil.rmtree(path, ignore_errors=True)
