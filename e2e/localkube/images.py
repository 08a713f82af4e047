"""Images of the local cluster: importing those built elsewhere, and those of one static program, made here."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from e2e.localkube import binaries, containerd
from e2e.localkube.paths import State
from e2e.localkube.progress import Steps

PAUSE = "docker.io/rayservice-operator/pause:1"


def present(state: State) -> set[str]:
    """Names of the images that containerd has."""
    return set(containerd.ctr(state, "images", "ls", "-q").split())


def load(state: State, archive: Path) -> list[str]:
    """Import an archive (docker or OCI form) and return the names of the images in it."""
    out = containerd.ctr(state, "images", "import", archive, timeout=600)
    return [line.split()[1] for line in out.splitlines() if line.startswith("unpacking ")]


def ensure_pause(state: State, steps: Steps) -> None:
    ensure_program(state, PAUSE, "pause", steps)


def ensure_program(state: State, image: str, program: str, steps: Steps) -> None:
    """An image of nothing but one of our programs (``binaries``), which is static; it runs as nobody."""
    if image in present(state):
        return
    path = binaries.ensure(program, steps)
    with steps.step(f"load {image}"):
        archive = state.dir("run") / f"{program}.tar"
        archive.write_bytes(_docker_archive(image, program, path.read_bytes()))
        load(state, archive)
        archive.unlink()


def _docker_archive(image: str, name: str, program: bytes) -> bytes:
    """A one-layer image around one static program, in docker's archive form."""
    layer = _tar({name: program}, mode=0o755)
    diff = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]).encode()
    return _tar({"config.json": config, "layer.tar": layer, "manifest.json": manifest}, mode=0o644)


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = mode
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
