"""Bringing the local cluster up and taking it down again."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from e2e.localkube import binaries, components, containerd, debian, host, images, pki
from e2e.localkube.components import Component
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State, cache_dir, default_name
from e2e.localkube.process import Process, spawn
from e2e.localkube.progress import Steps, note, wait_until
from e2e.localkube.settings import NODE, SERVICE_RANGE, Settings
from e2e.localkube.shell import run

_DEBIAN = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "socat": "socat",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "mount": "mount",
    "openssl": "openssl",
}
_CNI = {"/usr/lib/cni/ptp": "containernetworking-plugins"}
_PROGRAMS = ("hyperkube", "coredns", "kubectl")
_LONGEST_SOCKET = 107  # bytes in a Unix socket's address
_HINTS = {
    "containerd": "Is another containerd using its folder? Run `down` and then `up`.",
    "etcd": "Data that a crash left half-written goes with `down`.",
    "kubelet": "The usual causes are control groups that can't be written and mounts that aren't allowed.",
    "kube-proxy": "It needs to change iptables: root, and a kernel with netfilter.",
}


@dataclass
class Cluster:
    """One local cluster by name; only one at a time can run on a machine, since kube-proxy's chains are the host's."""

    name: str = field(default_factory=default_name)

    @property
    def state(self) -> State:
        return State.named(self.name)

    @property
    def kubeconfig(self) -> Path:
        return self.state.kubeconfig

    @property
    def _settings_file(self) -> Path:
        return self.state.root / "settings.json"

    # -- up

    def up(self, steps: Steps | None = None) -> Path:
        """Make it run, picking up what runs already; returns the kubeconfig."""
        steps = steps or Steps()
        if os.geteuid() != 0:
            msg = "the local cluster needs root: it makes network namespaces, mounts and iptables rules"
            raise LocalKubeError(msg)
        self._check_paths()
        cni = {} if Path("/opt/cni/bin/ptp").exists() else _CNI
        debian.ensure({**_DEBIAN, **cni}, steps)
        for program in _PROGRAMS:
            binaries.ensure(program, steps)
        settings = self._settings()
        host.remember_and_set_sysctls(self.state.root / "sysctls.json")
        host.refuse_stray_packets(SERVICE_RANGE)
        host.create_cgroup(self.state.label)
        pki.create(self.state.pki, node=NODE, addresses=components.certificate_addresses(settings))
        parts = components.build(self.state, settings)
        components.admin_kubeconfig(self.state, settings)
        with steps.step("containerd and etcd"):
            self._start([parts["containerd"], parts["etcd"]])
            images.ensure_pause(self.state, steps)
        with steps.step("kube-apiserver"):
            self._start([parts["kube-apiserver"]])
        with steps.step("controllers, scheduler, kube-proxy, CoreDNS, kubelet"):
            wait_until(lambda: self._bootstrap(settings), seconds=60, what="CoreDNS's objects applied", interval=0.5)
            names = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "kubelet")
            self._start([parts[name] for name in names])
        with steps.step("node Ready"):
            self._wait_node(parts["kubelet"])
        return self.kubeconfig

    def _check_paths(self) -> None:
        longest = self.state.root / "kubelet" / "plugins_registry" / ("x" * 12)
        if len(os.fsencode(longest)) > _LONGEST_SOCKET:
            msg = f"{self.state.root} is too long a path for sockets; point LOCALKUBE_CACHE at a shorter folder"
            raise LocalKubeError(msg)

    def _settings(self) -> Settings:
        settings = Settings.load(self._settings_file)
        if settings and settings.address != host.node_address():
            note(f"the machine's address was {settings.address} and has changed; starting over")
            self.down()
            settings = None
        if settings and not self._any_alive():
            # The machine was restarted, or all was ended: old pods in a database help nobody.
            note("nothing of the last local cluster runs any more; starting over")
            self.down()
            settings = None
        if settings is None:
            if host.foreign_chains():
                msg = (
                    "kube-proxy's iptables chains are on this machine, so another Kubernetes runs here, or one was not "
                    "cleaned up. Use it with CLUSTER=current, or remove what is left: "
                    "python -m e2e.localkube down --leftovers"
                )
                raise LocalKubeError(msg)
            settings = Settings.choose()
            settings.save(self._settings_file)
        return settings

    def _any_alive(self) -> bool:
        records = [Process.load(path) for path in self.state.pids.iterdir()]
        return any(record is not None and record.alive() for record in records)

    def _start(self, parts: Iterable[Component]) -> None:
        """Start those that don't run as they should, all at once, then wait for each to be well."""
        parts = list(parts)
        for part in parts:
            record = self.state.pids / part.name
            running = Process.load(record)
            fingerprint = self._fingerprint(part)
            if running and running.alive() and self._started_as(part.name) == fingerprint:
                continue
            if running:
                running.stop(part.grace)
            process = spawn(part.argv, log=self.state.log(part.name), cwd=self.state.root)
            process.save(record)
            (self.state.dir("started") / part.name).write_text(fingerprint)
        for part in parts:
            self._wait_healthy(part)

    def _fingerprint(self, part: Component) -> str:
        """Of the command line and the files named on it, so that a changed setting restarts what it concerns."""
        digest = hashlib.sha256("\0".join(part.argv).encode())
        for word in part.argv:
            path = Path(word.partition("=")[2] or word)
            if path.parent == self.state.conf and path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def _started_as(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.state.dir("started") / name).read_text()
        return ""

    def _wait_healthy(self, part: Component) -> None:
        def alive() -> None:
            process = Process.load(self.state.pids / part.name)
            if process is None or not process.alive():
                raise LocalKubeError(self._blame(part.name, "ended by itself"))

        try:
            wait_until(part.healthy, seconds=90, what=f"{part.name} healthy", alive=alive)
        except LocalKubeError as error:
            if "not so after" in str(error):
                raise LocalKubeError(self._blame(part.name, "runs but is not healthy")) from error
            raise

    def _blame(self, name: str, what: str) -> str:
        hint = _HINTS.get(name, "Run `down` and then `up`; if it stays, its log says more.")
        return f"{name} {what}. {hint}\n{self.state.log(name)} ends:\n{self.state.tail(name)}"

    def _bootstrap(self, settings: Settings) -> bool:
        # The API server is ready a moment before the namespaces it makes by itself are there.
        manifests = components.bootstrap_manifests(settings)
        try:
            self.kubectl("apply", "-f", "-", stdin=manifests)
        except LocalKubeError as error:
            if "not found" in str(error) or "refused" in str(error):
                return False
            raise
        return True

    def _wait_node(self, kubelet: Component) -> None:
        template = '{.status.conditions[?(@.type=="Ready")].status}'

        def ready() -> bool:
            try:
                node = self.kubectl("get", "node", NODE, "-o", f"jsonpath={template}")
                self.kubectl("get", "serviceaccount", "default", "-n", "default", "-o", "name")
            except LocalKubeError:
                return False
            return node == "True"

        try:
            wait_until(ready, seconds=60, what="node Ready", interval=0.3)
        except LocalKubeError as error:
            raise LocalKubeError(self._blame("kubelet", "runs but the node is not Ready")) from error
        del kubelet

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return run([binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig, *args], input_text=stdin)

    # -- status

    def running(self) -> bool:
        """Whether everything runs and is well; quick, and starts nothing."""
        return bool(self.status()) and all(word == "healthy" for word in self.status().values())

    def status(self) -> dict[str, str]:
        """Each component: healthy, unhealthy or stopped; empty when there is no cluster."""
        if not self._settings_file.exists():
            return {}
        settings = Settings.load(self._settings_file)
        if settings is None:
            return {}
        found = {}
        for name, part in components.build(self.state, settings).items():
            process = Process.load(self.state.pids / name)
            if process is None or not process.alive():
                found[name] = "stopped"
            else:
                found[name] = "healthy" if part.healthy() else "unhealthy"
        return found

    # -- down

    def down(self, steps: Steps | None = None, *, purge: bool = False, leftovers: bool = False) -> None:
        """Remove every trace of it. ``purge`` removes the cache too, ``leftovers`` cleans up after a lost state."""
        steps = steps or Steps()
        there = self._settings_file.exists()
        if there or leftovers:
            with steps.step("stop the local cluster"):
                self._stop()
            with steps.step("remove mounts, control groups, iptables chains, files"):
                self._clean()
        else:
            note("no local cluster here")
        if purge:
            with steps.step(f"remove the cache {cache_dir()}"):
                host.remove_tree(cache_dir())

    def _stop(self) -> None:
        # The kubelet first, or it would start again what we end.
        for name in ("kubelet", "kube-proxy", "coredns", "kube-scheduler", "kube-controller-manager"):
            self._stop_one(name, 3.0)
        containerd.remove_pods(self.state)
        if containerd.answers(self.state):
            try:
                containerd.forget_pods(self.state)
            except LocalKubeError as error:
                note(f"containerd keeps records of old pods ({error}); its folder goes, images will be imported anew")
                self._stop_one("containerd", 5.0)
                host.unmount_below(self.state.root)
                host.remove_tree(containerd.root_dir())
        self._stop_one("containerd", 5.0)
        self._stop_one("kube-apiserver", 0)
        self._stop_one("etcd", 0)

    def _stop_one(self, name: str, grace: float) -> None:
        record = self.state.pids / name
        if process := Process.load(record):
            process.stop(grace)
        record.unlink(missing_ok=True)

    def _clean(self) -> None:
        label = self.state.label
        sandboxes = containerd.sandboxes(self.state)
        host.kill_pods(label)
        host.unmount_below(self.state.root)
        host.remove_cgroup(label)
        host.remove_chains()
        host.restore_sysctls(self.state.root / "sysctls.json")
        host.remove_tree(self.state.root)
        host.remove_fixed_folders(sandboxes)
