"""Models among the arguments of ``serve_runtime.llm``'s builders: what their replicas are, and what each asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.core.findings import Path
from rayservice_operator.lint.reading import Map, as_count, as_map, as_number, as_text, maps_in

OPENAI: Final = "serve_runtime.llm:openai"
PREFILL_DECODE: Final = "serve_runtime.llm:prefill_decode"
SIDES: Final = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class Served:
    """One kind of replicas of a model. ``data`` is what is said of them, at ``path``; ``engine`` the arguments of the
    engine, those of both sides included."""

    name: str
    path: Path
    data: Map
    engine: Map

    @property
    def accelerator(self) -> Map:
        """What each worker has."""
        return as_map(self.data.get("accelerator"))

    @property
    def workers(self) -> int:
        """Processes that one replica is spread over."""
        parallel = as_map(self.data.get("parallel"))
        sizes = [as_count(parallel.get(key)) for key in ("tensor", "pipeline")]
        return max(1, (sizes[0] or 1) * (sizes[1] or 1))

    def counts(self) -> tuple[int | None, Path, int | None, Path]:
        """Replicas at least and at most, and where that is written; one of them unless it is."""
        scaling = self.data.get("autoscaling")
        if isinstance(scaling, dict):
            at = (*self.path, "autoscaling")
            least = as_count(scaling.get("min_replicas", 1))
            return least, (*at, "min_replicas"), as_count(scaling.get("max_replicas")), (*at, "max_replicas")
        fixed, at = as_count(self.data.get("replicas", 1)), (*self.path, "replicas")
        return fixed, at, fixed, at

    def bundle(self) -> tuple[Mapping[str, float], Mapping[str, Path], Path]:
        """What one worker takes, by Ray's names, and where that is written, as the builder places it."""
        at = (*self.path, "accelerator")
        written: dict[str, tuple[str, ...]] = {"CPU": ("cpus",), "GPU": ("gpus",)}
        amounts = {"CPU": _amount(self.accelerator.get("cpus"))}
        if self.accelerator.get("kind", "gpu") == "gpu":
            amounts["GPU"] = _amount(self.accelerator.get("gpus"))
        for name, value in as_map(self.accelerator.get("resources")).items():
            if (number := as_number(value)) is not None:
                amounts[name], written[name] = number, ("resources", name)
        where = at if self.accelerator else self.path
        paths = {name: (*at, *written[name]) for name in amounts if _is_written(self.accelerator, written[name])}
        return {name: amount for name, amount in amounts.items() if amount > 0}, paths, where


def served(app: Map, path: Path) -> Iterator[Served]:
    """The models of an application; none unless it is one of these builders'."""
    args, at = as_map(app.get("args")), (*path, "args")
    if app.get("import_path") == OPENAI:
        for where, model in maps_in(args.get("models"), (*at, "models")):
            yield Served(as_text(model.get("id")), where, model, as_map(model.get("engine")))
    elif app.get("import_path") == PREFILL_DECODE:
        name, common = as_text(as_map(args.get("model")).get("id")), as_map(args.get("engine"))
        for side in SIDES:
            if isinstance(data := args.get(side), dict):
                engine = {**common, **as_map(data.get("engine"))}
                yield Served(f"{side.title()}:{name}", (*at, side), data, engine)


def _amount(value: Any) -> float:
    """One, unless a number is given."""
    number = as_number(value)
    return 1.0 if number is None else number


def _is_written(found: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return True
