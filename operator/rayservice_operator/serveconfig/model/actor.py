"""What a replica's process asks of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from rayservice_operator.serveconfig.model.base import Fault, Part, Since
from rayservice_operator.serveconfig.model.runtime_env import RuntimeEnv
from rayservice_operator.serveconfig.model.values import label_complaints, refuse, shown

SMALLEST = 0.0001
"""Resources are counted in ten-thousandths."""

LABELS_CHECKED_SINCE = (2, 54)


def _quantities(value: Any) -> Any:
    """Amounts by resource name; Ray does not convert them."""
    if not isinstance(value, dict):
        return value
    for name, amount in value.items():
        if amount is None or isinstance(amount, str | list | dict):
            raise refuse(f"{shown(amount)} is no amount of {name}", "Write a number")
    return value


class RayActorOptions(Part):
    """``ray_actor_options`` of a deployment. Any change of it restarts the replicas."""

    LABEL: ClassVar[str] = "ray_actor_options"
    MOVED: ClassVar[Mapping[str, str]] = {
        "cpu": "Write num_cpus",
        "gpu": "Write num_gpus",
        "num_replicas": "Move it to the deployment, beside ray_actor_options",
    }

    runtime_env: RuntimeEnv = RuntimeEnv()
    num_cpus: Annotated[float | None, Field(ge=0)] = None
    num_gpus: Annotated[float | None, Field(ge=0)] = None
    memory: Annotated[float | None, Field(ge=0)] = None
    resources: Annotated[dict[str, Any], BeforeValidator(_quantities)] = {}
    accelerator_type: str | None = None
    label_selector: Annotated[dict[str, str] | None, Since(2, 54)] = None
    fallback_strategy: Annotated[list[dict[str, Any]] | None, Since(2, 54)] = None

    def faults(self) -> Iterator[Fault]:
        for key in ("num_cpus", "num_gpus", "memory"):
            yield from _amount((key,), getattr(self, key))
        if self.num_gpus is not None and self.num_gpus > 1 and not self.num_gpus.is_integer():
            yield Fault(
                ("num_gpus",),
                f"{self.num_gpus:g} is more than one GPU and no whole number; Ray hands out parts of one GPU only",
                "Round it to whole GPUs",
                severity="warning",
            )
        for name, amount in self.resources.items():
            if name in ("CPU", "GPU"):
                yield Fault(("resources", name), "is not allowed there", f"Write num_{name.lower()}s beside resources")
            elif amount < 0:
                yield Fault(("resources", name), f"{amount} is below 0", "Write 0 or more")
            else:
                yield from _amount(("resources", name), amount)
        yield from label_faults(("label_selector",), self.label_selector)
        for index, option in enumerate(self.fallback_strategy or []):
            yield from _fallback(("fallback_strategy", index), option)


def _amount(path: tuple[str | int, ...], amount: float | None) -> Iterator[Fault]:
    if isinstance(amount, float) and 0 < amount < SMALLEST:
        yield Fault(path, f"{amount:g} is finer than Ray counts", f"Write 0, or at least {SMALLEST}")


def label_faults(path: tuple[str | int, ...], selector: Mapping[str, str] | None) -> Iterator[Fault]:
    """Keys and values of a label selector that Ray refuses."""
    for key, complaint in label_complaints(selector or {}):
        yield Fault((*path, key), *complaint, since=LABELS_CHECKED_SINCE)


def _fallback(path: tuple[str | int, ...], option: Mapping[str, Any]) -> Iterator[Fault]:
    if not option:
        yield Fault(path, "is empty", "Write label_selector below it, or remove it")
    for key in option:
        if key != "label_selector":
            yield Fault((*path, key), "is not supported there", "Only label_selector is")
    selector = option.get("label_selector")
    if selector and not isinstance(selector, dict):
        yield Fault((*path, "label_selector"), f"{shown(selector)} is no mapping", "Write labels and values below it")
    elif selector:
        yield from label_faults((*path, "label_selector"), {key: str(value) for key, value in selector.items()})
