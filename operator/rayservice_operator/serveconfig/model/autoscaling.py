"""How the number of replicas follows the load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rayservice_operator.serveconfig.model.base import Deprecated, Fault, Part, Since
from rayservice_operator.serveconfig.model.values import code_path, refuse, shown

AGGREGATIONS: Final = ("mean", "max", "min")

AUTO_MAX_REPLICAS: Final = 100
"""``max_replicas`` where ``num_replicas: auto`` and nothing else says it (Ray 2.60, ``AutoscalingConfig.default``)."""


def _aggregation(value: Any) -> Any:
    if str(value).lower() not in AGGREGATIONS:
        raise refuse(f"{shown(value)} is none of {', '.join(AGGREGATIONS)}", "Write one of them")
    return value


class AutoscalingPolicy(Part):
    """``policy`` of an ``autoscaling_config``, and ``autoscaling_policy`` of an application."""

    LABEL: ClassVar[str] = "an autoscaling policy"

    policy_function: Annotated[
        str, Since(2, 51), AfterValidator(code_path("a function or class", "module:function"))
    ] = "ray.serve.autoscaling_policy:default_autoscaling_policy"
    policy_kwargs: Annotated[dict[str, Any], Since(2, 55)] = {}


class AutoscalingConfig(Part):
    """``autoscaling_config`` of a deployment. Replicas are counted, times are in seconds."""

    LABEL: ClassVar[str] = "autoscaling_config"
    MOVED: ClassVar[Mapping[str, str]] = {
        "target_num_ongoing_requests_per_replica": "It is called target_ongoing_requests now",
        "num_replicas": "Use min_replicas, initial_replicas and max_replicas",
        "policy_function": "Move it into `policy`",
        "policy_kwargs": "Move it into `policy`",
    }

    min_replicas: NonNegativeInt = 1
    initial_replicas: NonNegativeInt | None = None
    max_replicas: PositiveInt = 1
    target_ongoing_requests: PositiveFloat | None = 2
    metrics_interval_s: Annotated[
        PositiveFloat,
        Deprecated(
            "Set the environment variables RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S and "
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S of the head's container"
        ),
    ] = 10
    look_back_period_s: PositiveFloat = 30
    smoothing_factor: Annotated[PositiveFloat, Deprecated("Use upscaling_factor and downscaling_factor")] = 1
    upscale_smoothing_factor: Annotated[PositiveFloat | None, Deprecated("Use upscaling_factor")] = None
    downscale_smoothing_factor: Annotated[PositiveFloat | None, Deprecated("Use downscaling_factor")] = None
    upscaling_factor: PositiveFloat | None = None
    downscaling_factor: PositiveFloat | None = None
    downscale_delay_s: NonNegativeFloat = 600
    downscale_to_zero_delay_s: Annotated[NonNegativeFloat | None, Since(2, 50)] = None
    upscale_delay_s: NonNegativeFloat = 30
    aggregation_function: Annotated[Any, Since(2, 51), BeforeValidator(_aggregation)] = "mean"
    policy: Annotated[AutoscalingPolicy, Since(2, 50)] = AutoscalingPolicy()

    def faults(self) -> Iterator[Fault]:
        if self.target_ongoing_requests is None:
            yield Fault(
                ("target_ongoing_requests",), "is null, which Ray cannot compare", "Write a number, or remove it"
            )
        if self.look_back_period_s <= self.metrics_interval_s:
            yield Fault(
                ("look_back_period_s",) if "look_back_period_s" in self.model_fields_set else ("metrics_interval_s",),
                f"looks back {self.look_back_period_s:g} s, no longer than the {self.metrics_interval_s:g} s "
                "between two measurements, which a later version of Ray will refuse",
                f"Set look_back_period_s above {self.metrics_interval_s:g}",
                severity="warning",
                since=(2, 54),
            )

    def bounds_faults(self, *, automatic: bool) -> Iterator[Fault]:
        """Counts that contradict each other. ``automatic``: with ``num_replicas: auto`` there are more by default."""
        given = "max_replicas" in self.model_fields_set
        most = AUTO_MAX_REPLICAS if automatic and not given else self.max_replicas
        said = f"max_replicas {most}" if given else f"{most}, which max_replicas is by default"
        if self.min_replicas > most:
            fix = f"Set max_replicas to at least {self.min_replicas}"
            yield Fault(("min_replicas",), f"{self.min_replicas} is more than {said}", fix)
        if self.initial_replicas is None:
            return
        if self.initial_replicas < self.min_replicas:
            yield Fault(
                ("initial_replicas",),
                f"{self.initial_replicas} is less than min_replicas {self.min_replicas}",
                f"Write {self.min_replicas} or more, or leave it out",
            )
        elif self.initial_replicas > most:
            fix = f"Write {most} or less, or raise max_replicas"
            yield Fault(("initial_replicas",), f"{self.initial_replicas} is more than {said}", fix)
