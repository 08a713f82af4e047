"""What a deployment asks of the cluster: how many replicas, and what each of them needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.core.findings import Path
from rayservice_operator.lint.nodes import CPU, GPU, MEMORY
from rayservice_operator.lint.reading import Map, as_count, as_list, as_map, as_number, as_text, maps_in
from rayservice_operator.lint.served import Served, served

# Where the arguments of ray.serve.llm's builders have models: each is one LLM (Ray 2.60).
_LLM_LISTS: Final = ("llm_configs",)
_LLM_FIELDS: Final = ("prefill_config", "decode_config", "llm_config")

_OPTIONS: Final = {"num_cpus": CPU, "num_gpus": GPU, "memory": MEMORY}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What has to be on one node: amounts by Ray's resource names, and where each was written."""

    amounts: Mapping[str, float]
    paths: Mapping[str, Path]
    path: Path

    def at(self, resource: str) -> Path:
        """Where the resource was asked for."""
        return self.paths.get(resource, self.path)


@dataclass(frozen=True, slots=True)
class Workload:
    """One deployment. ``least``/``most``: replicas that it starts at and may grow to, None where the file does not
    tell; the paths are where that was written. ``bundles``: of one replica; empty where the code alone knows.
    ``one_node``: all bundles of a replica must be on the same node. ``llm``: the model's config for a model of
    ``ray.serve.llm``. ``scaled``: whether Serve decides on the number of replicas, where ``data`` does not tell."""

    name: str
    path: Path
    data: Map
    least: int | None
    least_path: Path
    most: int | None
    most_path: Path
    bundles: tuple[Bundle, ...]
    one_node: bool = False
    accelerator: tuple[Path, str] | None = None
    llm: Map | None = None
    llm_path: Path = field(default=())
    scaled: bool = False

    @property
    def needs(self) -> Mapping[str, float]:
        """Of one replica, all bundles together."""
        return total(self.bundles)

    @property
    def slow(self) -> bool:
        """Whether a replica loads a model: it is an LLM, or it takes a GPU."""
        return self.llm is not None or bool(self.needs.get(GPU)) or self.accelerator is not None

    @property
    def autoscaled(self) -> bool:
        """Whether Serve decides on the number of replicas."""
        return (
            self.scaled or bool(as_map(self.data.get("autoscaling_config"))) or self.data.get("num_replicas") == "auto"
        )


def total(bundles: tuple[Bundle, ...]) -> dict[str, float]:
    """Sum of amounts."""
    result: dict[str, float] = {}
    for bundle in bundles:
        for key, amount in bundle.amounts.items():
            result[key] = result.get(key, 0.0) + amount
    return result


def workloads(app: Map, path: Path) -> Iterator[Workload]:
    """Deployments that the application's part of the file names, then the models among its arguments."""
    for at, data in maps_in(app.get("deployments"), (*path, "deployments")):
        yield _deployment(data, at)
    for at, llm in llm_configs(app, path):
        yield _llm(llm, at)
    for model in served(app, path):
        yield _served(model)


def llm_configs(app: Map, path: Path) -> Iterator[tuple[Path, Map]]:
    """The models among an application's arguments that are written out in the file."""
    args = as_map(app.get("args"))
    for key in _LLM_LISTS:
        yield from maps_in(args.get(key), (*path, "args", key))
    for key in _LLM_FIELDS:
        if isinstance(args.get(key), dict):
            yield (*path, "args", key), args[key]


def model_id(llm: Map) -> str:
    """By which clients name the model."""
    return as_text(as_map(llm.get("model_loading_config")).get("model_id"))


def _deployment(data: Map, path: Path) -> Workload:
    bundles = _bundles(data, path)
    options = as_map(data.get("ray_actor_options"))
    accelerator = as_text(options.get("accelerator_type"))
    return Workload(
        as_text(data.get("name")),
        path,
        data,
        *_counts(data, path),
        bundles,
        one_node=data.get("placement_group_strategy") == "STRICT_PACK",
        accelerator=((*path, "ray_actor_options", "accelerator_type"), accelerator) if accelerator else None,
    )


def _llm(llm: Map, path: Path) -> Workload:
    data, at = as_map(llm.get("deployment_config")), (*path, "deployment_config")
    accelerator = as_text(llm.get("accelerator_type"))
    return Workload(
        model_id(llm),
        at,
        data,
        *_counts(data, at),
        _llm_bundles(llm, path),
        one_node=as_map(llm.get("placement_group_config")).get("strategy") == "STRICT_PACK",
        accelerator=((*path, "accelerator_type"), accelerator) if accelerator else None,
        llm=llm,
        llm_path=path,
    )


def _served(model: Served) -> Workload:
    """``data`` is empty: what is said of these replicas has names of its own, and their builder judges it."""
    amounts, paths, where = model.bundle()
    accelerator = as_text(model.accelerator.get("type"))
    return Workload(
        model.name,
        model.path,
        {},
        *model.counts(),
        (Bundle(amounts, paths, where),) * min(model.workers, 4096),
        one_node=model.accelerator.get("strategy") == "STRICT_PACK",
        accelerator=((*model.path, "accelerator", "type"), accelerator) if accelerator else None,
        scaled=isinstance(model.data.get("autoscaling"), dict),
    )


def _counts(data: Map, path: Path) -> tuple[int | None, Path, int | None, Path]:
    """Replicas at least and at most, and where that is written."""
    scaling = data.get("autoscaling_config")
    if isinstance(scaling, dict):
        at = (*path, "autoscaling_config")
        least, most = as_count(scaling.get("min_replicas")), as_count(scaling.get("max_replicas"))
        return least, (*at, "min_replicas"), most, (*at, "max_replicas")
    fixed, at = as_count(data.get("num_replicas")), (*path, "num_replicas")
    return fixed, at, fixed, at


def _bundles(data: Map, path: Path) -> tuple[Bundle, ...]:
    """A placement group takes the place of the actor's own needs: the replica runs in the first bundle."""
    group = as_list(data.get("placement_group_bundles"))
    if group:
        return tuple(_bundle(item, at) for at, item in maps_in(group, (*path, "placement_group_bundles")))
    options = data.get("ray_actor_options")
    if not isinstance(options, dict):
        return ()  # what the code says, which is not seen here
    at = (*path, "ray_actor_options")
    amounts = {CPU: 1.0}  # Serve's default once there is a dictionary of options
    paths: dict[str, Path] = {}
    for option, resource in _OPTIONS.items():
        number = as_number(options.get(option))
        if number is not None:
            amounts[resource], paths[resource] = number, (*at, option)
    for name, amount in as_map(options.get("resources")).items():
        if (number := as_number(amount)) is not None:
            amounts[name], paths[name] = number, (*at, "resources", name)
    return (Bundle(_positive(amounts), paths, at),)


def _bundle(item: Map, path: Path) -> Bundle:
    amounts = {key: number for key, value in item.items() if (number := as_number(value)) is not None}
    return Bundle(_positive(amounts), {key: (*path, key) for key in amounts}, path)


def _llm_bundles(llm: Map, path: Path) -> tuple[Bundle, ...]:
    """One bundle for each worker of the engine: tensor × pipeline parallel (Ray 2.60, ``VLLMEngineConfig``)."""
    group = as_map(llm.get("placement_group_config"))
    at = (*path, "placement_group_config")
    if group.get("bundles"):
        return tuple(_bundle(item, where) for where, item in maps_in(group["bundles"], (*at, "bundles")))
    kwargs = as_map(llm.get("engine_kwargs"))
    parallel = [(key, as_count(kwargs.get(key)) or 1) for key in ("tensor_parallel_size", "pipeline_parallel_size")]
    workers = max(1, parallel[0][1] * parallel[1][1])
    if isinstance(group.get("bundle_per_worker"), dict):
        one = _bundle(group["bundle_per_worker"], (*at, "bundle_per_worker"))
    elif as_map(llm.get("accelerator_config")).get("kind", "gpu") != "gpu":
        return ()
    else:
        written = [key for key, _ in parallel if key in kwargs]
        where = (*path, "engine_kwargs", written[0]) if written else path
        one = Bundle({GPU: 1.0}, {GPU: where}, where)
    return (one,) * min(workers, 4096)


def _positive(amounts: Mapping[str, Any]) -> dict[str, float]:
    return {key: amount for key, amount in amounts.items() if amount > 0}
