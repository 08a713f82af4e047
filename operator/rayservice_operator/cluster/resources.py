"""Ray resources of a node from the container's resources and the group's own ``resources`` and ``labels``.

KubeRay's rules, in order of precedence: group-level ``resources`` and ``labels``, then ``rayStartParams``, then
what the Ray container's limits (for CPU also requests) imply.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from rayservice_operator.cluster import quantity
from rayservice_operator.cluster.view import GroupView

ACCELERATORS: Final = {"aws.amazon.com/neuroncore": "neuron_cores", "google.com/tpu": "TPU"}
"""Device-plugin resources that Ray knows under another name and as a custom resource."""

_MIG: Final = re.compile(r"nvidia\.com/mig-\d+g\.\d+gb.*")


def is_gpu(key: str) -> bool:
    """Whether a container resource counts as GPUs to Ray: ``nvidia.com/gpu``, ``amd.com/gpu``, a MIG slice."""
    return key.endswith("gpu") or _MIG.fullmatch(key) is not None


def with_resources(params: Mapping[str, str], group: GroupView) -> dict[str, str]:
    """``params`` completed with ``num-cpus``, ``num-gpus``, ``memory`` (bytes), ``resources`` and ``labels``."""
    result = dict(params)
    _add_group_level(result, group)
    _add_container_level(result, group.ray_container.get("resources") or {})
    return result


def _add_group_level(params: dict[str, str], group: GroupView) -> None:
    custom: dict[str, float | int] = {}
    for name, text in sorted(group.spec.resources.items()):
        try:
            value = quantity.parse(text)
        except ValueError:
            continue  # validation has told the user; a running cluster is not taken down for it
        key = name.lower()
        if key == "cpu":
            params["num-cpus"] = str(quantity.ceil(value))
        elif key == "memory":
            params["memory"] = str(quantity.ceil(value))
        elif is_gpu(key):
            params["num-gpus"] = str(quantity.ceil(value))
        else:
            custom[name] = _number(value)
    if custom:
        params["resources"] = _resources_argument(custom)
    if group.spec.labels:
        params["labels"] = ",".join(f"{key}={value}" for key, value in sorted(group.spec.labels.items()))


def _add_container_level(params: dict[str, str], resources: Mapping[str, Any]) -> None:
    limits: Mapping[str, Any] = resources.get("limits") or {}
    requests: Mapping[str, Any] = resources.get("requests") or {}

    cpu = _nonzero(limits, "cpu") or _nonzero(requests, "cpu")
    if cpu is not None:
        params.setdefault("num-cpus", str(quantity.ceil(cpu)))
    memory = _nonzero(limits, "memory")
    if memory is not None:
        params.setdefault("memory", str(quantity.ceil(memory)))
    gpu = next((_nonzero(limits, key) for key in sorted(limits) if is_gpu(key) and _nonzero(limits, key)), None)
    if gpu is not None:
        params.setdefault("num-gpus", str(quantity.ceil(gpu)))

    custom = parse_resources_argument(params.get("resources"))
    if custom is None or any(name in custom for name in ACCELERATORS.values()):
        return
    for key in sorted(limits):
        amount = _nonzero(limits, key)
        if key in ACCELERATORS and amount is not None:
            params["resources"] = _resources_argument({**custom, ACCELERATORS[key]: _number(amount)})
            return  # the first kind only, as KubeRay does


def parse_resources_argument(text: str | None) -> dict[str, Any] | None:
    """``--resources`` as a mapping; None if it is no JSON object once the shell has taken its quotes off.

    People write it as ``'{"a": 1}'``, ``"{\\"a\\": 1}"`` or bare; all are one word of JSON to the shell or to JSON.
    """
    if text is None or not text.strip():
        return {}
    candidates = [text]
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if len(words) == 1:
        candidates.insert(0, words[0])
    candidates.append(text.strip(" '\"`"))
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _resources_argument(custom: Mapping[str, Any]) -> str:
    return shlex.quote(json.dumps(custom, sort_keys=True, separators=(",", ":")))


def _nonzero(amounts: Mapping[str, Any], key: str) -> Decimal | None:
    value = quantity.parse_or_zero(amounts.get(key))
    return value if value > 0 else None


def _number(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)
