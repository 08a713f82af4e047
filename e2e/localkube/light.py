"""etcd and kube-apiserver, nothing else: a real Kubernetes API in a few seconds, for tests.

In a test::

    from e2e.localkube import light

    @pytest.fixture(scope="session")
    def api() -> Iterator[light.Api]:
        with light.apiserver() as api:
            yield api

    def test_something(api):
        api.kubeconfig      # Path: cluster-admin, context "localkube"
        api.url             # "https://127.0.0.1:<port>"
        api.token           # bearer token of a member of system:masters
        api.ca              # Path of the CA certificate to verify ``url`` with
        api.kubectl("apply", "-f", "crds/")        # runs kubectl, returns stdout, raises with its output
        api.kubeconfig_for("system:serviceaccount:ns:operator")   # a kubeconfig that acts as that user

What it is: the very kube-apiserver (version in ``versions.py``) on free loopback ports, its data in a temporary folder,
RBAC authorizer on, all default admission plugins but ServiceAccount (no controller makes the default service account
here, and pods couldn't be created without). No controllers run: nothing garbage-collects by ownerReferences, namespaces
stay Terminating, Deployments make no pods; no scheduler, no kubelet: tests set pod status themselves. Watches are real;
``api.restart()`` cuts all of them, ``api.compact()`` makes every older resourceVersion 410 Gone.

No root is needed. It ends with the ``with`` block, and also when this process is killed in whatever way. Any number may
run side by side (pytest-xdist), each with its own ports and folder.

From a shell: ``python -m e2e.localkube light up`` keeps one in the background and prints its kubeconfig;
``python -m e2e.localkube light down`` ends it. ``LIGHT_APISERVER_LOGS=<folder>`` keeps the logs of all.
"""

import base64
import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from e2e.localkube import binaries, kubeconfig
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State
from e2e.localkube.process import Process, spawn
from e2e.localkube.progress import wait_until
from e2e.localkube.shell import run

_START_SECONDS = 60.0
_ATTEMPTS = 3  # a port found free may be taken by the time it is bound
_PORTS = (12000, 30000)  # Linux' own begin at 32768, node ports at 30000
_PORT_TRIES = 200


@dataclass
class Api:
    """A running etcd and kube-apiserver."""

    state: State
    etcd_port: int
    port: int
    token: str
    extra_args: tuple[str, ...]
    tied: bool
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.state.kubeconfig

    @property
    def ca(self) -> Path:
        return self.state.pki / "apiserver.crt"

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as cluster-admin and return what it printed."""
        return run([binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig, *args], input_text=stdin)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig that acts as another user (by impersonation), to find missing RBAC rules.

        For a service account the groups that its real token would carry are added by themselves.
        """
        if user.startswith("system:serviceaccount:") and not groups:
            namespace = user.split(":")[2]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] |= {"as": user, "as-groups": list(groups)}
        path = self.state.dir("users") / (base64.urlsafe_b64encode(user.encode()).decode() + ".kubeconfig")
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        path.chmod(0o600)
        return path

    def healthy(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca.exists() else None
        if context is None:
            return False
        request = urllib.request.Request(self.url + "/readyz", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ssl.SSLError):
            return False

    def restart(self) -> None:
        """Stop and start kube-apiserver on the same port: every watch and connection is cut."""
        self.processes["kube-apiserver"].stop(grace=0)
        self._start_apiserver()
        self._wait()

    def compact(self) -> None:
        """Compact etcd up to now, so that older resourceVersions answer 410 Gone (expired)."""
        status = self._etcd("/v3/maintenance/status", {})
        revision = status["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        # The API server's watch cache would still answer from memory; a restart empties it.
        self.restart()

    def stop(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            if process := self.processes.pop(name, None):
                process.stop(grace=0)  # its data is thrown away, so there is nothing to end gracefully

    def _etcd(self, path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.etcd_port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            parsed: dict[str, dict[str, str]] = json.load(answer)
            return parsed

    def start(self) -> None:
        peer = free_port()
        client = f"http://127.0.0.1:{self.etcd_port}"
        self.processes["etcd"] = spawn(
            [
                str(binaries.as_("etcd")),
                f"--data-dir={self.state.root / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            log=self.state.log("etcd"),
            tied=self.tied,
        )
        key = self.state.pki / "sa.key"
        run(["openssl", "genrsa", "-out", key, "2048"], hint="Install it: apt-get install openssl.")
        (self.state.pki / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self._start_apiserver()
        self._wait()
        kubeconfig.write(self.kubeconfig, server=self.url, ca=self.ca, token=self.token)

    def _start_apiserver(self) -> None:
        key = self.state.pki / "sa.key"
        self.processes["kube-apiserver"] = spawn(
            [
                str(binaries.as_("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--cert-dir={self.state.pki}",
                f"--token-auth-file={self.state.pki / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--allow-privileged=true",
                "--endpoint-reconciler-type=none",
                "--profiling=false",
                "--shutdown-delay-duration=0s",
                *self.extra_args,
            ],
            log=self.state.log("kube-apiserver"),
            tied=self.tied,
        )

    def _wait(self) -> None:
        def alive() -> None:
            for name, process in self.processes.items():
                if not process.alive():
                    msg = f"{name} ended by itself. Its log ends:\n{self.state.tail(name)}"
                    raise LocalKubeError(msg)

        try:
            wait_until(self.healthy, seconds=_START_SECONDS, what="kube-apiserver ready", alive=alive, interval=0.05)
        except LocalKubeError as error:
            if "not so after" not in str(error):
                raise
            msg = f"{error}. Its log ends:\n{self.state.tail('kube-apiserver')}"
            raise LocalKubeError(msg) from error


def free_port() -> int:
    """A port of this machine to listen on, below those that outgoing connections begin at.

    One of theirs may be taken by a connection, of a client that tries to come back for one, while a server restarts.
    """
    for _ in range(_PORT_TRIES):
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    msg = f"no free port from {_PORTS[0]} to {_PORTS[1] - 1}; end what listens there"
    raise LocalKubeError(msg)


def start(root: Path, *, extra_args: Sequence[str] = (), tied: bool = True) -> Api:
    """Start one with its state in ``root``; whoever calls this stops it."""
    for attempt in range(1, _ATTEMPTS + 1):
        state = State(root)
        api = Api(state, free_port(), free_port(), secrets.token_hex(16), tuple(extra_args), tied)
        try:
            api.start()
        except BaseException as error:
            api.stop()
            lost_port = isinstance(error, LocalKubeError) and "address already in use" in str(error)
            if not lost_port or attempt == _ATTEMPTS:
                raise
            shutil.rmtree(root, ignore_errors=True)
            continue
        return api
    raise AssertionError


@contextlib.contextmanager
def apiserver(*, extra_args: Sequence[str] = ()) -> Iterator[Api]:
    """A kube-apiserver for the length of the block. ``extra_args`` are further flags of kube-apiserver."""
    root = Path(tempfile.mkdtemp(prefix="light-apiserver-"))
    api: Api | None = None
    try:
        api = start(root, extra_args=extra_args)
        yield api
    finally:
        if api is not None:
            api.stop()
        if keep := os.environ.get("LIGHT_APISERVER_LOGS"):
            shutil.copytree(root / "logs", Path(keep) / root.name, dirs_exist_ok=True)
        shutil.rmtree(root, ignore_errors=True)


# -- the form that stays in the background


def _background() -> State:
    return State.named("light")


def up() -> Path:
    """Start one in the background, or find it running; returns its kubeconfig."""
    state = _background()
    records = [Process.load(state.pids / name) for name in ("etcd", "kube-apiserver")]
    if all(record is not None and record.alive() for record in records) and state.kubeconfig.exists():
        return state.kubeconfig
    down()
    api = start(state.root, tied=False)
    for name, process in api.processes.items():
        process.save(state.pids / name)
    return api.kubeconfig


def down() -> None:
    """End the one in the background and remove what it left."""
    state = _background()
    for name in ("kube-apiserver", "etcd"):
        if record := Process.load(state.pids / name):
            record.stop(grace=0)
    shutil.rmtree(state.root, ignore_errors=True)
