"""Building with docker where an engine answers, else with buildah."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from e2e.images import base, delta, full_name
from e2e.images.inputs import ROOT
from e2e.localkube import debian
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Step, Steps
from e2e.localkube.shell import ok, run

PUBLIC_BASE = "python:3.11-slim-bookworm"
_LOCAL_BASE = "localhost/rayservice-operator/base:bookworm"
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_SMALL_LAYERS = 2  # the last ones: the project's own code
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "default-timeout", "timeout")


class Builder(Protocol):
    def base(self, steps: Steps) -> str:
        """The base image's name, made if need be."""

    def build(self, target: str, base_image: str, step: Step) -> None: ...

    def exists(self, target: str) -> bool: ...

    def save(self, target: str, layout: Path) -> None:
        """Write the image to an OCI layout folder, where its manifest gets the target's name as reference."""


def choose(steps: Steps) -> "Docker | Buildah":
    if ok(["docker", "info"]):
        return Docker()
    debian.ensure({"buildah": "buildah"}, steps)
    return Buildah()


def _chosen_base() -> str | None:
    return os.environ.get("BASE_IMAGE")


class Docker:
    """A Docker engine; its own cache does the rest."""

    def base(self, steps: Steps) -> str:  # noqa: ARG002 - the engine pulls it while it builds
        return _chosen_base() or PUBLIC_BASE

    def build(self, target: str, base_image: str, step: Step) -> None:
        argv = [
            "docker",
            "build",
            "--target",
            target,
            "--build-arg",
            f"BASE={base_image}",
            "-t",
            full_name(target),
            ".",
        ]
        _run_shown(argv, step)

    def exists(self, target: str) -> bool:
        return ok(["docker", "image", "inspect", full_name(target)])

    def save(self, target: str, layout: Path) -> None:
        # `docker save` writes an OCI layout since version 25.
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            run(["docker", "save", "-o", archive, full_name(target)])
            run(["tar", "-C", folder, "-xf", archive])
            delta.merge(Path(folder), layout, target)


class Buildah:
    """buildah without an engine. Its storage lies in our cache, apart from the system's."""

    def __init__(self) -> None:
        storage = cache_dir() / "buildah"
        self._command = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")]
        self._command += ["--storage-driver", "overlay"]

    def base(self, steps: Steps) -> str:
        if chosen := _chosen_base():
            return chosen
        if ok([*self._command, "inspect", "--type", "image", _LOCAL_BASE]):
            return _LOCAL_BASE
        if ok([*self._command, "inspect", "--type", "image", PUBLIC_BASE]):
            return PUBLIC_BASE
        with steps.step("look for a container registry") as step:
            if ok([*self._command, "pull", "-q", f"docker://{PUBLIC_BASE}"], timeout=300):
                return PUBLIC_BASE
            step.detail = "none reachable: the base image is made from Debian packages"
        archive = base.rootfs(steps)
        with steps.step("import base image"):
            container = run([*self._command, "from", "scratch"]).strip()
            try:
                run([*self._command, "add", "-q", container, archive, "/"])
                run([*self._command, "config", "--cmd", "/bin/bash", "--env", "LANG=C.UTF-8", container])
                run([*self._command, "commit", "-q", container, _LOCAL_BASE])
            finally:
                run([*self._command, "rm", container])
        return _LOCAL_BASE

    def build(self, target: str, base_image: str, step: Step) -> None:
        with _mounts() as mounts:
            argv = [*self._command, "build", "--isolation", "chroot", "--network", "host", "--layers", "--pull-never"]
            argv += [*mounts, "--target", target, "--build-arg", f"BASE={base_image}", "-t", full_name(target), "."]
            # Cache mounts of the Dockerfile, where downloads outlive a layer, lie there and go with the rest.
            scratch = cache_dir() / "buildah" / "tmp"
            scratch.mkdir(parents=True, exist_ok=True)
            _run_shown(argv, step, {"TMPDIR": str(scratch)})

    def exists(self, target: str) -> bool:
        return ok([*self._command, "inspect", "--type", "image", full_name(target)])

    def save(self, target: str, layout: Path) -> None:
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        missing = [digest for digest in self._layers(target) if not (blobs / digest).exists()]
        # Pushing to an OCI layout packs each new layer, which for Ray's takes half a minute; pushing to a plain folder
        # doesn't, but writes every layer anew. So the folder serves for big layers, whose blobs then count as there.
        if len(missing) > _SMALL_LAYERS:
            with tempfile.TemporaryDirectory(dir=layout, prefix="push-") as folder:
                self._push(target, f"dir:{folder}")
                for digest in missing:
                    (Path(folder) / digest).replace(blobs / digest)
        self._push(target, f"oci:{layout}:{target}")

    def _push(self, target: str, destination: str) -> None:
        run([*self._command, "push", "-q", "--disable-compression", "--format", "oci", full_name(target), destination])

    def _layers(self, target: str) -> list[str]:
        """Digests of the uncompressed layers."""
        out = run([*self._command, "inspect", "--type", "image", full_name(target)])
        return [str(digest).removeprefix("sha256:") for digest in json.loads(out)["OCIv1"]["rootfs"]["diff_ids"]]


@contextmanager
def _mounts() -> Iterator[list[str]]:
    """This machine's way to the package registries, mounted read-only for the build; no layer has it."""
    with tempfile.TemporaryDirectory(prefix="image-build-") as folder:
        mounts = []
        lines = ["[global]"]
        if _CA_BUNDLE.exists():
            mounts += ["--volume", f"{_CA_BUNDLE}:{_CA_BUNDLE}:ro"]
            lines.append(f"cert = {_CA_BUNDLE}")
        lines += [f"{name} = {value}" for name, value in _pip_settings().items()]
        config = Path(folder) / "pip.conf"
        config.write_text("\n".join(lines) + "\n")
        yield [*mounts, "--volume", f"{config}:/etc/pip.conf:ro"]


def _pip_settings() -> dict[str, str]:
    """What pip is told on this machine about where packages come from, be it by a file or the environment."""
    pip = shutil.which("pip") or shutil.which("pip3")
    if pip is None:
        return {}
    done = subprocess.run([pip, "config", "list"], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_SETTINGS:
            found[name] = value.strip("'\"")
    return found


def _run_shown(argv: list[str], step: Step, environment: Mapping[str, str] | None = None) -> None:
    """Run a build; the step shows which instruction it is at, a failure shows the last lines."""
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            if line.startswith(("[", "STEP", "#")):
                step.detail = line.strip()[:100]
    step.detail = ""
    if child.returncode:
        tail = "\n".join(lines[-25:])
        msg = f"the image build failed ({argv[0]}):\n{tail}\nCheck that PyPI can be reached; then run it again."
        raise LocalKubeError(msg)
