"""A base image where no container registry can be reached: a minimal Debian with Python, made by debootstrap."""

import shutil
from pathlib import Path

from e2e.localkube import debian, host, versions
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Steps
from e2e.localkube.shell import run

_PACKAGES = ("python3", "python3-venv", "ca-certificates", "wget")
# Documentation, translations and package lists are half of it and of no use in an image.
_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def rootfs(steps: Steps) -> Path:
    """A tar of the root file system, cached."""
    path = cache_dir() / "images" / f"base-{versions.DEBIAN_SUITE}.tar"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    debian.ensure({"debootstrap": "debootstrap", "tar": "tar"}, steps)
    work = cache_dir() / "images" / "debootstrap"
    with steps.step("base image (debootstrap)") as step:
        host.unmount_below(work)  # an interrupted run leaves /proc and the like mounted
        shutil.rmtree(work, ignore_errors=True)
        step.detail = "downloading and unpacking packages, about a minute"
        run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", versions.DEBIAN_SUITE, work],
            hint="Check that Debian's packages can be reached.",
        )
        step.detail = "packing"
        for name in _NOT_NEEDED:
            folder = work / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        host.unmount_below(work)
        temporary = path.with_suffix(".new")
        # Device nodes and the like are made by whatever runs the image.
        run(["tar", "-C", work, "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "-cf", temporary, "."])
        temporary.replace(path)
        shutil.rmtree(work, ignore_errors=True)
        step.detail = ""
    return path
