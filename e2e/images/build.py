"""Build what has changed; bring it to the chosen cluster."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from e2e.images import OPTIONAL, TARGETS, builders, delta, full_name, inputs
from e2e.localkube import images
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import State, cache_dir
from e2e.localkube.progress import Steps, note
from e2e.localkube.shell import run


def _record(target: str) -> Path:
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{target}.json"


def _layout() -> Path:
    path = cache_dir() / "images" / "oci"
    path.mkdir(parents=True, exist_ok=True)
    return path


def check(targets: Iterable[str]) -> list[str]:
    wanted = list(targets) or list(TARGETS)
    if unknown := set(wanted) - {*TARGETS, *OPTIONAL}:
        msg = f"no such image: {', '.join(sorted(unknown))}; there are {', '.join((*TARGETS, *OPTIONAL))}"
        raise LocalKubeError(msg)
    return wanted


def build(targets: Iterable[str], steps: Steps | None = None) -> None:
    """Build the images whose inputs are not those of the last build."""
    steps = steps or Steps()
    builder = builders.choose(steps)
    base_image = builder.base(steps)
    for target in check(targets):
        fingerprint = inputs.fingerprint(target, base_image)
        if _read(target).get("fingerprint") == fingerprint and builder.exists(target):
            continue
        with steps.step(f"build {full_name(target)}") as step:
            builder.build(target, base_image, step)
        _record(target).write_text(json.dumps({"fingerprint": fingerprint}))


def load(targets: Iterable[str], cluster: str, steps: Steps | None = None) -> None:
    """Bring built images to the nodes of a cluster: ``local``, ``kind`` or ``current``."""
    steps = steps or Steps()
    for target in check(targets):
        if not _read(target):
            msg = f"{full_name(target)} is not built yet: python -m e2e.images build {target}"
            raise LocalKubeError(msg)
        match cluster:
            case "local":
                _load_local(target, steps)
            case "kind":
                with steps.step(f"kind load {full_name(target)}"):
                    name = os.environ.get("KIND_CLUSTER", "rayservice-operator")
                    run(["kind", "load", "docker-image", full_name(target), "--name", name])
            case _:
                note(
                    f"CLUSTER=current: its nodes must have {full_name(target)}, or be able to pull it. "
                    "To use another name, set IMAGE_PREFIX and IMAGE_TAG, and push what was built."
                )


def _load_local(target: str, steps: Steps) -> None:
    state = State.named()
    loaded = cache_dir() / "images" / f"{target}.loaded"
    fingerprint = str(_read(target)["fingerprint"])
    names = images.present(state)
    if full_name(target) in names and loaded.exists() and loaded.read_text() == fingerprint:
        return
    with steps.step(f"load {full_name(target)}") as step:
        step.detail = "writing layers"
        builders.choose(steps).save(target, _layout())
        step.detail = "importing"
        sent = delta.load(state, target, _layout())
        step.detail = f"{sent / 1e6:.1f} MB sent"
        delta.prune(_layout())
        loaded.write_text(fingerprint)


def _read(target: str) -> dict[str, object]:
    try:
        record: dict[str, object] = json.loads(_record(target).read_text())
    except (OSError, ValueError):
        return {}
    return record
