"""Bringing an image to the local cluster's containerd, sending only the blobs that it lacks.

An image of a gigabyte whose last layer changed is there in a second: the layers are stored uncompressed, so nothing is
packed or unpacked twice, and an archive may leave out what containerd's content store has already.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import IO, Any, Final

from e2e.images import full_name
from e2e.localkube import containerd
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State

_BUFFER: Final = 1 << 20
_TRIES: Final = 3


def load(state: State, target: str, layout: Path) -> int:
    """Import the image in an OCI layout folder; returns the number of bytes that had to be sent."""
    for _ in range(_TRIES - 1):
        try:
            return _load(state, target, layout)
        except LocalKubeError as error:
            # containerd's garbage collector may take a layer of before between its being seen and its being used.
            if "not found" not in str(error):
                raise
    return _load(state, target, layout)


def _load(state: State, target: str, layout: Path) -> int:
    index = json.loads((layout / "index.json").read_text())
    manifest_entry = next(entry for entry in index["manifests"] if _reference(entry) == target)
    manifest = json.loads(_blob(layout, manifest_entry["digest"]).read_text())
    wanted = [
        manifest_entry["digest"],
        manifest["config"]["digest"],
        *(layer["digest"] for layer in manifest["layers"]),
    ]
    present = set(containerd.ctr(state, "content", "ls", "-q").split())
    # The manifest and its configuration always go along: containerd's importer reads them from the archive.
    always = set(wanted[:2])
    send = [digest for digest in wanted if digest in always or digest not in present]
    entry = {
        **manifest_entry,
        "annotations": {
            "io.containerd.image.name": full_name(target),
            "org.opencontainers.image.ref.name": full_name(target).rpartition(":")[2],
        },
    }
    with containerd.importing(state) as stream:
        _write(stream, layout, {**index, "manifests": [entry]}, send)
    return sum(_blob(layout, digest).stat().st_size for digest in send)


def _write(stream: IO[bytes], layout: Path, index: dict[str, Any], digests: list[str]) -> None:
    with tarfile.open(fileobj=stream, mode="w|", bufsize=_BUFFER) as tar:
        for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for digest in digests:
            tar.add(_blob(layout, digest), arcname=f"blobs/{digest.replace(':', '/')}")


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def _reference(entry: dict[str, Any]) -> str:
    return str(entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""))


def merge(source: Path, layout: Path, target: str) -> None:
    """Add the one image of an OCI layout to ours, under the target's name."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for path in (source / "blobs" / "sha256").iterdir():
        shutil.move(path, blobs / path.name)
    [entry] = json.loads((source / "index.json").read_text())["manifests"]
    entry["annotations"] = {"org.opencontainers.image.ref.name": target}
    others = []
    if (layout / "index.json").exists():
        others = [e for e in json.loads((layout / "index.json").read_text())["manifests"] if _reference(e) != target]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [*others, entry]}))


def prune(layout: Path) -> None:
    """Remove blobs of earlier builds from a layout folder."""
    index = json.loads((layout / "index.json").read_text())
    keep = set()
    for entry in index["manifests"]:
        manifest = json.loads(_blob(layout, entry["digest"]).read_text())
        keep |= {entry["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
    for path in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in keep:
            path.unlink()
