"""Which cluster the demo and the end-to-end tests use, chosen in this one place.

``CLUSTER=current`` is the one of your kubeconfig, ``kind`` runs in Docker, ``local`` runs on this machine without it
(``e2e.localkube``). Unset, it is ``kind`` where a Docker engine answers, else ``local``.

The kind path follows kind's documentation; it has not been tried on a machine with a Docker engine yet.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from e2e.images import build as image_build
from e2e.images import inputs
from e2e.localkube import binaries
from e2e.localkube.cluster import Cluster as LocalCluster
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Steps
from e2e.localkube.shell import ok, run

KIND_NAME = os.environ.get("KIND_CLUSTER", "rayservice-operator")


class Kind(StrEnum):
    """What there is to choose from."""

    CURRENT = "current"
    KIND = "kind"
    LOCAL = "local"


def chosen() -> Kind:
    named = os.environ.get("CLUSTER", "")
    if named:
        try:
            return Kind(named)
        except ValueError:
            msg = f"CLUSTER={named}: there are {', '.join(Kind)}"
            raise LocalKubeError(msg) from None
    return Kind.KIND if ok(["docker", "info"]) else Kind.LOCAL


@dataclass(frozen=True)
class Target:
    """A cluster that can be used through its kubeconfig."""

    kind: Kind
    kubeconfig: Path

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        argv = [binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig, *args]
        return run(argv, input_text=stdin, timeout=timeout)

    def helm(self, *args: str | Path, timeout: float | None = 300) -> str:
        return run([binaries.ensure("helm"), "--kubeconfig", self.kubeconfig, *args], timeout=timeout)


def target(kind: Kind | None = None) -> Target:
    """The chosen cluster, whether it runs or not."""
    kind = kind or chosen()
    match kind:
        case Kind.LOCAL:
            return Target(kind, LocalCluster().kubeconfig)
        case Kind.KIND:
            return Target(kind, cache_dir() / "kind.kubeconfig")
        case Kind.CURRENT:
            # With several files in KUBECONFIG the first decides, as for kubectl's own writes.
            named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
            return Target(kind, Path(named) if named else Path.home() / ".kube" / "config")


def up(steps: Steps, kind: Kind | None = None) -> Target:
    """Make the chosen cluster run, if it doesn't yet."""
    wanted = target(kind)
    match wanted.kind:
        case Kind.LOCAL:
            LocalCluster().up(steps)
        case Kind.KIND:
            _kind_up(wanted, steps)
        case Kind.CURRENT:
            if not ok([binaries.ensure("kubectl"), "--kubeconfig", wanted.kubeconfig, "get", "--raw", "/readyz"]):
                msg = f"CLUSTER=current: no cluster answers through {wanted.kubeconfig}; check `kubectl cluster-info`"
                raise LocalKubeError(msg)
    return wanted


def _kind_up(wanted: Target, steps: Steps) -> None:
    kind = binaries.ensure("kind", steps)
    if KIND_NAME in run([kind, "get", "clusters"]).split():
        run([kind, "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", wanted.kubeconfig])
        return
    with steps.step(f"kind create cluster {KIND_NAME}"):
        create = [kind, "create", "cluster", "--name", KIND_NAME, "--kubeconfig", wanted.kubeconfig, "--wait", "180s"]
        run(create, hint="It pulls kindest/node, so Docker must reach its registry. CLUSTER=local needs none.")


def load_images(wanted: Target, targets: Iterable[str], steps: Steps) -> None:
    """Build what has changed and bring it to the cluster's nodes."""
    targets = list(targets)
    image_build.build(targets, steps)
    image_build.load(targets, wanted.kind, steps)


def image_fingerprint(name: str) -> str:
    """Changes whenever the image's content may have; for restarting what runs an older one under the same tag."""
    return inputs.fingerprint(name, "")[:16]


def down(steps: Steps, kind: Kind | None = None, *, purge: bool = False) -> None:
    """Remove the cluster, if it was made here. A cluster of the user's own stays."""
    wanted = target(kind)
    match wanted.kind:
        case Kind.LOCAL:
            LocalCluster().down(steps, purge=purge)
        case Kind.KIND:
            with steps.step(f"kind delete cluster {KIND_NAME}"):
                run([binaries.ensure("kind"), "delete", "cluster", "--name", KIND_NAME])
            wanted.kubeconfig.unlink(missing_ok=True)
        case Kind.CURRENT:
            return
