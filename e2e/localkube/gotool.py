"""The go command: modules of the proxy, and programs built from them."""

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import Step

_MOD = "-mod=mod"


@dataclass(frozen=True)
class Module:
    """A module in Go's module cache, where nothing may be written: its folder, and the archive that this came from."""

    name: str
    version: str
    folder: Path
    archive: Path

    def extract(self, target: Path, *, without: str) -> None:
        """Make a copy that may be changed, without what lies below a folder of it."""
        prefix = f"{self.name}@{self.version}/"
        with zipfile.ZipFile(self.archive) as archive:
            for entry in archive.namelist():
                path = entry.removeprefix(prefix)
                if not path.startswith(f"{without}/"):
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    (target / path).write_bytes(archive.read(entry))


def download(name: str, version: str) -> Module:
    """Get a module from the proxy, or from the cache if it is there."""
    answer = json.loads("\n".join(run(["mod", "download", "-json", f"{name}@{version}"], Path("/"))))
    return Module(name, version, Path(answer["Dir"]), Path(answer["Zip"]))


def build(package: str, target: Path, work: Path, step: Step, *, ldflags: str, flags: str = _MOD) -> None:
    """Build the program of a package that the module in ``work`` has or requires."""
    step.detail = "downloading modules"
    total = len(run(["list", "-deps", package], work, flags=flags))
    compiled = 0

    def count(_: str) -> None:
        nonlocal compiled
        compiled += 1
        step.detail = f"{compiled} of at most {total} packages compiled"

    run(["build", "-v", "-trimpath", "-ldflags", ldflags, "-o", str(target), package], work, count, flags=flags)
    step.detail = ""


def run(
    args: list[str], work: Path, each_message: Callable[[str], None] | None = None, *, flags: str = _MOD
) -> list[str]:
    """Run go in a folder; returns the lines of its stdout. ``each_message`` gets those of its stderr as they come."""
    # Without cgo nothing of the machine's C library gets in.
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": f"{flags} -buildvcs=false", "GOWORK": "off"}
    messages: list[str] = []
    if shutil.which("go") is None:
        msg = "there is no Go here; install Go (1.25 or newer) on the PATH"
        raise LocalKubeError(msg)
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            ["go", *args], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True
        ) as child,
    ):
        assert child.stderr is not None
        for line in child.stderr:
            messages.append(line.rstrip())
            if each_message:
                each_message(line)
        if child.wait():
            tail = "\n".join(messages[-20:])
            msg = (
                f"`go {args[0]}` failed in {work}:\n{tail}\n"
                "Check that the Go module proxy can be reached (go env GOPROXY) and that the disk isn't full."
            )
            raise LocalKubeError(msg)
        out.seek(0)
        return out.read().splitlines()
