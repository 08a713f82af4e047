"""Programs from the Go module proxy: taken ready-made from ``LOCALKUBE_BIN``, or built once and cached by version."""

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from e2e.localkube import debian, gobuild, versions
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Steps
from e2e.localkube.shell import run

VERSIONS = {
    "hyperkube": f"{versions.KUBERNETES}-etcd-{versions.ETCD}",
    "kubectl": versions.KUBERNETES,
    "coredns": versions.COREDNS,
    "helm": versions.HELM,
    "kwok": versions.KWOK,
    "kind": versions.KIND,
    "traefik": versions.TRAEFIK,
    "pause": versions.PAUSE,
}

_ANY_VERSION = {"kubectl", "kind"}
"""One on the PATH does as well."""


def ensure(name: str, steps: Steps | None = None) -> Path:
    """The path of a program, made if need be. Safe to call from several processes at once."""
    steps = steps or Steps()
    if name in _ANY_VERSION and (found := shutil.which(name)):
        return Path(found)
    folder = cache_dir() / "bin" / f"{name}-{VERSIONS[name]}"
    path = folder / name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        if path.exists():
            return path
        temporary = folder / f"{name}.new"
        prebuilt = _prebuilt(name)
        if prebuilt is not None:
            debian.ensure({"zstd": "zstd"}, steps)
            with steps.step(f"unpack {name}"):
                run(["zstd", "-q", "-d", "-f", prebuilt, "-o", temporary])
        else:
            _need_go(name)
            with steps.step(f"build {name} {VERSIONS[name]}") as step:
                gobuild.build(name, temporary, step)
        temporary.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        temporary.replace(path)
    return path


def as_(name: str, steps: Steps | None = None) -> Path:
    """hyperkube under another name: it chooses what to be by ``argv[0]``."""
    hyperkube = ensure("hyperkube", steps)
    link = hyperkube.with_name(name)
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # another process was quicker
            link.symlink_to(hyperkube.name)
    return link


def _prebuilt(name: str) -> Path | None:
    folder = os.environ.get("LOCALKUBE_BIN")
    if not folder:
        return None
    path = Path(folder).expanduser() / f"{name}.zst"
    return path if path.exists() else None


def _need_go(name: str) -> None:
    try:
        subprocess.run(["go", "version"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        msg = (
            f"{name} has to be built and there is no Go here. Install Go (1.25 or newer) on the PATH, "
            f"or point LOCALKUBE_BIN at a folder that holds {name}.zst."
        )
        raise LocalKubeError(msg) from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
