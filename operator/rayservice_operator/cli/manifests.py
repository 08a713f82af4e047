"""Manifests to start from: ``init``. Pure but for reading the templates, which are part of the package."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final

from rayservice_operator.api.names import MAX_SERVICE_NAME
from rayservice_operator.cli.errors import CliError, Exit

FOLDER: Final = Path(__file__).parent / "templates"
RAY_VERSION: Final = "2.60.0"
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


class Kind(enum.StrEnum):
    """Kinds of manifests."""

    MODEL = "model"
    LLM = "llm"
    PREFILL_DECODE = "prefill-decode"
    ASYNC = "async"


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a kind takes where nothing is given. ``groups``: deployments that have ``replicas`` each."""

    image: str
    gpus: int
    replicas: int
    import_path: str = ""
    groups: int = 1
    scales: bool = True


_DEFAULTS: Final[Mapping[Kind, _Defaults]] = {
    Kind.MODEL: _Defaults(f"rayproject/ray:{RAY_VERSION}", 0, 2, "my_model:app", scales=False),
    Kind.LLM: _Defaults(f"rayproject/ray-llm:{RAY_VERSION}", 1, 1),
    Kind.PREFILL_DECODE: _Defaults(f"rayproject/ray-llm:{RAY_VERSION}", 1, 1, groups=2),
    Kind.ASYNC: _Defaults(f"rayproject/ray:{RAY_VERSION}", 0, 1, "my_tasks:build"),
}

# Ray's accelerator type -> the value of the GPU operator's label nvidia.com/gpu.product.
PRODUCTS: Final[Mapping[str, str]] = {
    "L4": "NVIDIA-L4",
    "L40S": "NVIDIA-L40S",
    "A10G": "NVIDIA-A10G",
    "T4": "Tesla-T4",
    "A100": "NVIDIA-A100-SXM4-80GB",
    "H100": "NVIDIA-H100-80GB-HBM3",
    "H200": "NVIDIA-H200",
    "B200": "NVIDIA-B200",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was given; None and empty: the kind's own default."""

    name: str
    kind: Kind = Kind.MODEL
    model: str = ""
    import_path: str = ""
    gpus: int | None = None
    replicas: int | None = None
    image: str = ""
    accelerator: str = "L4"
    file: str = ""
    known: Mapping[str, str] = field(default_factory=lambda: PRODUCTS)


def manifest(wishes: Wishes) -> str:
    """The text of the manifest. Raises CliError for wishes that cannot be met."""
    _check(wishes)
    default = _DEFAULTS[wishes.kind]
    gpus = default.gpus if wishes.gpus is None else wishes.gpus
    replicas = default.replicas if wishes.replicas is None else wishes.replicas
    if gpus == 0 and wishes.kind in {Kind.LLM, Kind.PREFILL_DECODE}:
        raise CliError(Exit.USAGE, f"--template {wishes.kind} needs GPUs.", "Give --gpus 1 or more.")
    model = wishes.model or "Qwen/Qwen2.5-7B-Instruct"
    most = replicas * 2 if default.scales else replicas
    values = {
        "name": wishes.name,
        "file": wishes.file or f"{wishes.name}.yaml",
        "image": wishes.image or default.image,
        "ray_version": RAY_VERSION,
        "import_path": wishes.import_path or default.import_path,
        "model": model,
        "model_id": model.rstrip("/").rpartition("/")[2].lower(),
        "accelerator": wishes.accelerator,
        "gpu_product": wishes.known.get(wishes.accelerator, f"NVIDIA-{wishes.accelerator}"),
        "gpus": gpus,
        "gpu_resource": f", nvidia.com/gpu: {gpus}" if gpus else "",
        "replicas": replicas,
        "max_replicas": most,
        # A pod for each replica; one more where a new replica comes before the old one goes.
        "workers": replicas * default.groups,
        "max_workers": max(most * default.groups, replicas * default.groups + 1),
    }
    text = (FOLDER / f"{wishes.kind}.yaml").read_text(encoding="utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def _check(wishes: Wishes) -> None:
    if not _NAME.fullmatch(wishes.name) or len(wishes.name) > MAX_SERVICE_NAME:
        step = f"Use up to {MAX_SERVICE_NAME} lower-case letters, digits and -, a letter first."
        raise CliError(Exit.USAGE, f"{wishes.name!r} cannot be the name of a RayService.", step)
    for option, text in (("--model", wishes.model), ("--image", wishes.image), ("--import-path", wishes.import_path)):
        if text and not re.fullmatch(r"[\w./:@+~=-]+", text):
            raise CliError(Exit.USAGE, f"{option} {text!r} has characters that a manifest would misread.")
    if not re.fullmatch(r"[\w-]+", wishes.accelerator):
        raise CliError(Exit.USAGE, f"{wishes.accelerator!r} is no accelerator type.", f"Known: {', '.join(PRODUCTS)}.")
