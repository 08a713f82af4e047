"""One deployment of an application: what the config sets in place of the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, StrictInt

from rayservice_operator.serveconfig.model.actor import RayActorOptions, label_faults
from rayservice_operator.serveconfig.model.autoscaling import AutoscalingConfig
from rayservice_operator.serveconfig.model.base import Fault, FormerlyWhole, Part, Since
from rayservice_operator.serveconfig.model.gang import DeploymentActor, GangSchedulingConfig
from rayservice_operator.serveconfig.model.logs import LoggingConfig
from rayservice_operator.serveconfig.model.routing import BackpressureConfig, RequestRouterConfig
from rayservice_operator.serveconfig.model.values import NOT_NULL, refuse, shown

AUTO: Final = "auto"
PLACEMENT_STRATEGIES: Final = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
MOST_PER_NODE: Final = 100


def _replicas(value: Any) -> Any:
    """Ray looks at the type before it converts anything: text and fractions are refused, true is 1."""
    if value is None or value == AUTO:
        return value
    if not isinstance(value, int):
        raise refuse(f"{shown(value)} is neither a whole number nor auto", "Write a number above 0, or auto")
    if value < 1:
        raise refuse(f"{value} is below 1", "Write 1 or more; min_replicas of an autoscaling_config may be 0")
    return value


class Deployment(Part):
    """An entry of ``deployments``. Fields that are not set are as in the code."""

    LABEL: ClassVar[str] = "a deployment"
    MOVED: ClassVar[Mapping[str, str]] = {
        "max_concurrent_queries": "It is called max_ongoing_requests now",
        "num_cpus": "Move it into ray_actor_options",
        "num_gpus": "Move it into ray_actor_options",
        "resources": "Move it into ray_actor_options",
        "accelerator_type": "Move it into ray_actor_options",
        "runtime_env": "Move it into ray_actor_options",
        "route_prefix": "Move it to the application",
        "min_replicas": "Move it into autoscaling_config",
        "max_replicas": "Move it into autoscaling_config",
        "init_args": "Set it in the code, or pass `args` to the application's builder",
        "init_kwargs": "Set it in the code, or pass `args` to the application's builder",
    }

    name: str
    num_replicas: Annotated[Any, FormerlyWhole(), BeforeValidator(_replicas)] = None
    max_ongoing_requests: Annotated[int, Field(gt=0)] = 5
    max_queued_requests: StrictInt = -1
    backpressure_config: Annotated[BackpressureConfig, Since(2, 58)] = BackpressureConfig()
    user_config: dict[Any, Any] | None = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: Annotated[float, Field(ge=0)] = 2
    graceful_shutdown_timeout_s: Annotated[float, Field(ge=0)] = 20
    health_check_period_s: Annotated[float, Field(gt=0)] = 10
    health_check_timeout_s: Annotated[float, Field(gt=0)] = 30
    ray_actor_options: RayActorOptions = RayActorOptions()
    placement_group_bundles: Annotated[list[dict[str, float]] | None, NOT_NULL] = None
    placement_group_strategy: Annotated[str | None, NOT_NULL] = None
    placement_group_bundle_label_selector: Annotated[list[dict[str, str]] | None, Since(2, 54), NOT_NULL] = None
    max_replicas_per_node: Annotated[int | None, NOT_NULL] = None
    logging_config: LoggingConfig = LoggingConfig()
    request_router_config: Annotated[RequestRouterConfig, Since(2, 48)] = RequestRouterConfig()
    gang_scheduling_config: Annotated[GangSchedulingConfig | None, Since(2, 55)] = None
    deployment_actors: Annotated[list[DeploymentActor] | None, Since(2, 55)] = None
    rolling_update_percentage: Annotated[float, Since(2, 56), Field(gt=0, le=1)] = 0.2
    max_surge_percent: Annotated[int, Since(2, 60), Field(ge=0, le=100)] = 0

    @property
    def is_autoscaled(self) -> bool:
        """Whether Serve's own autoscaler sets the number of replicas."""
        return self.num_replicas == AUTO or self.autoscaling_config is not None

    def faults(self) -> Iterator[Fault]:
        if self.max_queued_requests < 1 and self.max_queued_requests != -1:
            fix = "Write -1 for no limit, or 1 or more"
            yield Fault(("max_queued_requests",), f"{self.max_queued_requests} is neither -1 nor above 0", fix)
        if isinstance(self.num_replicas, int) and self.autoscaling_config is not None:
            yield Fault(
                ("num_replicas",),
                f"{shown(self.num_replicas)} contradicts autoscaling_config, which sets the number by load",
                "Remove num_replicas, or write auto; initial_replicas says how many to start with",
            )
        if self.autoscaling_config is not None:
            for fault in self.autoscaling_config.bounds_faults(automatic=self.num_replicas == AUTO):
                yield Fault(("autoscaling_config", *fault.path), fault.problem, fault.fix)
        yield from self._placement()
        if self.gang_scheduling_config is not None:
            yield from self._gang(self.gang_scheduling_config.gang_size)
        yield from self._actors()

    def _placement(self) -> Iterator[Fault]:
        per_node, bundles = self.max_replicas_per_node, self.placement_group_bundles
        if per_node is not None and not 1 <= per_node <= MOST_PER_NODE:
            fix = f"Write a number from 1 to {MOST_PER_NODE}"
            yield Fault(("max_replicas_per_node",), f"{per_node} is not between 1 and {MOST_PER_NODE}", fix)
        selectors = self.placement_group_bundle_label_selector
        for index, selector in enumerate(selectors or []):
            yield from label_faults(("placement_group_bundle_label_selector", index), selector)
        if bundles is None:
            if selectors is not None:
                yield Fault(
                    ("placement_group_bundle_label_selector",),
                    "has no placement_group_bundles to select for",
                    "Add placement_group_bundles",
                )
            if self.placement_group_strategy is not None:
                yield Fault(
                    ("placement_group_strategy",),
                    "has no placement_group_bundles, so Ray refuses it unless the code sets some",
                    "Add placement_group_bundles, or set the strategy in the code",
                    severity="warning",
                )
            return
        if per_node is not None:
            problem = "cannot be set together with placement_group_bundles"
            yield Fault(("max_replicas_per_node",), problem, "Remove one of them; STRICT_SPREAD keeps bundles apart")
        strategy = self.placement_group_strategy
        if strategy is not None and strategy not in PLACEMENT_STRATEGIES:
            said = ", ".join(PLACEMENT_STRATEGIES)
            yield Fault(("placement_group_strategy",), f"{shown(strategy)} is none of {said}", "Write one of them")
        if selectors is not None and len(selectors) not in (1, len(bundles)):
            yield Fault(
                ("placement_group_bundle_label_selector",),
                f"has {len(selectors)} selectors for {len(bundles)} bundles",
                "Write one for all bundles, or one for each",
            )
        yield from self._bundles(bundles)

    def _bundles(self, bundles: list[dict[str, float]]) -> Iterator[Fault]:
        if not bundles:
            yield Fault(("placement_group_bundles",), "is empty", "List the bundles of one replica, or leave it out")
            return
        for index, bundle in enumerate(bundles):
            if not any(bundle.values()):
                problem, fix = "asks for nothing", "Name resources and amounts, for example {CPU: 1}"
                yield Fault(("placement_group_bundles", index), problem, fix)
        if not any(bundles[0].values()):
            return
        # Replaced as a whole: what the code says counts only where the config has no ray_actor_options at all.
        known = "ray_actor_options" in self.model_fields_set
        options = self.ray_actor_options
        needs = {"CPU": 1 if options.num_cpus is None else options.num_cpus, "GPU": options.num_gpus or 0}
        if "num_gpus" in options.model_fields_set and options.num_gpus is None:
            problem = "is null, which Ray cannot compare with placement_group_bundles"
            yield Fault(("ray_actor_options", "num_gpus"), problem, "Remove it, or write 0")
        for name, need in {**needs, **options.resources}.items():
            has = bundles[0].get(name, 0)
            if has < need:
                unless = "" if known else " unless the code asks for less"
                yield Fault(
                    ("placement_group_bundles", 0),
                    f"has {has:g} {name}, but the replica itself, which goes there, needs {need:g}{unless}",
                    f"Give the first bundle {need:g} {name}, or ask for less in ray_actor_options",
                    severity="error" if known else "warning",
                )

    def _gang(self, size: int) -> Iterator[Fault]:
        together = "cannot be set together with gang_scheduling_config"
        if self.max_replicas_per_node is not None:
            yield Fault(("max_replicas_per_node",), together, "Remove one of them")
        if self.placement_group_strategy is not None:
            yield Fault(("placement_group_strategy",), together, "Use gang_scheduling_config.gang_placement_strategy")
        if isinstance(self.num_replicas, int) and self.num_replicas % size:
            problem = f"{self.num_replicas} is no multiple of gang_size {size}"
            yield Fault(("num_replicas",), problem, f"Write {_rounded(self.num_replicas, size)}")
        elif size > 1 and self.num_replicas is None and self.autoscaling_config is None:
            yield Fault(
                ("gang_scheduling_config", "gang_size"),
                f"{size} does not divide the number of replicas, which is 1 unless the code sets another",
                f"Set num_replicas to {size} or a multiple of it",
                severity="warning",
            )
        if self.num_replicas != AUTO or self.autoscaling_config is None:
            return
        for key in ("min_replicas", "initial_replicas", "max_replicas"):
            count = getattr(self.autoscaling_config, key)
            if key in self.autoscaling_config.model_fields_set and count is not None and count % size:
                problem = f"{count} is no multiple of gang_size {size}"
                yield Fault(("autoscaling_config", key), problem, f"Write {_rounded(count, size)}")
        if "min_replicas" in self.autoscaling_config.model_fields_set and self.autoscaling_config.min_replicas == 0:
            problem, fix = "0 is not supported with gang_scheduling_config before Ray 2.59", f"Write {size}"
            yield Fault(("autoscaling_config", "min_replicas"), problem, fix, until=(2, 58))

    def _actors(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for index, actor in enumerate(self.deployment_actors or []):
            if actor.name in seen:
                problem = f"the name {actor.name!r} is used by more than one deployment actor"
                yield Fault(("deployment_actors", index, "name"), problem, "Give each a name of its own")
            seen.add(actor.name)


def _rounded(count: int, size: int) -> int:
    return -(-count // size) * size
