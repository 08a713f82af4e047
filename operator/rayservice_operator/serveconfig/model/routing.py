"""Which replica gets a request, and what one is told that gets none."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from rayservice_operator.serveconfig.model.base import Part, Since, Version
from rayservice_operator.serveconfig.model.values import code_path


def _router_class(value: str) -> str:
    """Empty is Ray's own."""
    return value and code_path("a router class", "module:Class")(value)


class RequestRouterConfig(Part):
    """``request_router_config`` of a deployment. Any change of it restarts the whole application."""

    LABEL: ClassVar[str] = "request_router_config"

    request_router_class: Annotated[str, AfterValidator(_router_class)] = (
        "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
    )
    request_router_kwargs: dict[str, Any] = {}
    request_routing_stats_period_s: PositiveFloat = 10
    request_routing_stats_timeout_s: PositiveFloat = 30
    initial_backoff_s: Annotated[PositiveFloat, Since(2, 55)] = 0.025
    backoff_multiplier: Annotated[PositiveFloat, Since(2, 55)] = 2
    max_backoff_s: Annotated[PositiveFloat, Since(2, 55)] = 0.5


class BackpressureConfig(Part):
    """``backpressure_config``: the answer once ``max_queued_requests`` is reached."""

    LABEL: ClassVar[str] = "backpressure_config"
    STRICT_SINCE: ClassVar[Version | None] = (2, 58)

    status_code: Literal[503, 429] = 503
    retry_after_s: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
