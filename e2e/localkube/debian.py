"""Debian packages that are not on the machine yet."""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence

from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import Steps
from e2e.localkube.shell import run

_LOCK = threading.Lock()


def ensure(wanted: Mapping[str, str], steps: Steps) -> None:
    """Install packages whose program (or file, when it begins with ``/``) is missing: ``{program: package}``."""
    with _LOCK:
        missing = sorted({package for program, package in wanted.items() if not _there(program)})
        if not missing:
            return
        if shutil.which("apt-get") is None:
            msg = f"missing: {', '.join(missing)}. This machine has no apt-get; install them its own way."
            raise LocalKubeError(msg)
        if os.geteuid() != 0:
            msg = f"missing Debian packages; run as root: apt-get install {' '.join(missing)}"
            raise LocalKubeError(msg)
        with steps.step(f"Debian packages: {' '.join(missing)}") as step:
            step.detail = "package lists"
            _apt(["update", "-qq"])
            step.detail = "installing"
            _apt(["install", "-qq", "-y", "--no-install-recommends", *missing])
            step.detail = ""


def _there(program: str) -> bool:
    if program.startswith("/"):
        return os.path.exists(program)  # noqa: PTH110 - a plain string from a table
    # sbin may not be on a user's PATH
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def _apt(args: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    hint = "Check that Debian's packages can be reached and that no other apt is running, then run this again."
    # A machine without an init system must not try to start what it installs; policy-rc.d is the image's business.
    run(["apt-get", "-o", "DPkg::Lock::Timeout=120", *args], env=env, hint=hint)
