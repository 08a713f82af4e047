"""``upgradeStrategy.analysis``: what a new cluster must show before it takes over. Words are those of Argo Rollouts."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, WithJsonSchema

from rayservice_operator.api.base import ApiModel, Int32, StringMap

MAX_CHECKS: Final = 32
MAX_COUNT: Final = 1000

DEFAULT_REQUEST_INTERVAL_S: Final = 1
DEFAULT_METRIC_INTERVAL_S: Final = 30
DEFAULT_METRIC_DELAY_S: Final = 10
DEFAULT_HISTOGRAM: Final = "ray_serve_http_request_latency_ms"
"""What Serve's proxies export for each answer, by application, route, method and status code (Ray 2.60)."""

_NOT_NEGATIVE: Final[dict[str, Any]] = {"format": "int32", "minimum": 0}
_POSITIVE: Final[dict[str, Any]] = {"format": "int32", "minimum": 1}

AnyJson: TypeAlias = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]
"""Any JSON value: object, list, text, number, true or false."""


class AnalysisCheck(ApiModel):
    """What every check has."""

    name: str
    """Name of the check, in messages and in the status."""
    initial_delay_seconds: Annotated[int | None, Field(json_schema_extra=_NOT_NEGATIVE)] = None
    """Seconds to wait once the new cluster is ready: what comes before, the warm-up, is not measured. Default 0 for
    requests, 10 for metrics."""
    interval_seconds: Annotated[int | None, Field(json_schema_extra=_POSITIVE)] = None
    """Seconds between two measurements, and the length of the window of a serve metric. Default 1 for requests, 30 for
    metrics."""
    count: Annotated[int, Field(json_schema_extra=_POSITIVE | {"maximum": MAX_COUNT})] = 1
    """How many measurements are taken, not counting inconclusive ones. Default 1."""
    failure_limit: Annotated[int, Field(json_schema_extra=_NOT_NEGATIVE)] = 0
    """How many measurements may fail; one more, and the upgrade is aborted. Default 0."""
    inconclusive_limit: Annotated[int, Field(json_schema_extra=_NOT_NEGATIVE)] = 5
    """How many measurements may be inconclusive: no data, too small a sample, no answer from Prometheus. Each is taken
    again; one more than this, and the upgrade is aborted. Default 5."""
    dry_run: bool = False
    """Whether the check is only reported: it does not abort the upgrade."""


class ExpectedAnswer(ApiModel):
    """What the answer to a request must be."""

    status: Annotated[int | None, Field(json_schema_extra={"format": "int32", "minimum": 100, "maximum": 599})] = None
    """HTTP status. Unset: any from 200 to 299."""
    json_: Annotated[AnyJson, Field(alias="json")] = None
    """JSON that the answer must contain: an object's fields that are named here must be there with these values, lists
    must be as long; what is not named may be anything."""


class RequestCheck(AnalysisCheck):
    """A request that the operator sends to a ready pod of the new cluster, as users would."""

    method: str = "GET"
    """HTTP method. Default GET."""
    path: str = "/"
    """Path and query. Default /."""
    host: str = ""
    """Host header. Default: the name and port of the service in front of Serve."""
    headers: StringMap = {}
    """Further headers."""
    body: str = ""
    """Body as text. Not together with json."""
    json_: Annotated[AnyJson, Field(alias="json")] = None
    """Body as JSON. Not together with body."""
    expect: ExpectedAnswer = Field(default_factory=ExpectedAnswer)
    """What the answer must be. Unset: any status from 200 to 299."""
    timeout_seconds: Annotated[Int32, Field(json_schema_extra={"minimum": 1})] = 10
    """Seconds to wait for the whole answer. Default 10."""
    retries: Annotated[Int32, Field(json_schema_extra={"minimum": 0})] = 2
    """How often a request is sent again when its answer is not the expected one. Default 2."""


class PrometheusProvider(ApiModel):
    """A query to a Prometheus server."""

    address: str
    """URL of the server, such as http://prometheus.monitoring:9090."""
    query: str
    """PromQL that gives one value. {{cluster}}, {{service}} and {{namespace}} stand for the names of the RayCluster, of
    the RayService and of its namespace. {{cluster}} is the new cluster, or what it is compared with."""
    timeout_seconds: Annotated[Int32, Field(json_schema_extra={"minimum": 1})] = 10
    """Seconds to wait for an answer. Default 10."""


class ServeMetricType(enum.StrEnum):
    """What is computed from a histogram that the pods export."""

    LATENCY_QUANTILE = "LatencyQuantile"
    ERROR_RATE = "ErrorRate"


class ServeProvider(ApiModel):
    """Metrics that the pods of the cluster export themselves, read by the operator: no Prometheus is needed."""

    type: ServeMetricType
    """LatencyQuantile: a quantile, in the histogram's unit (milliseconds). ErrorRate: the share of answers with HTTP
    status 5xx, from 0 to 1."""
    quantile: float | None = None
    """Which quantile: 0.95 for the 95th percentile. Required with LatencyQuantile."""
    histogram: str = DEFAULT_HISTOGRAM
    """Name of the histogram, as exported, without _bucket. Default ray_serve_http_request_latency_ms."""
    labels: StringMap = {}
    """Labels that a series must have to count, such as application: llm."""
    minimum_sample: Annotated[Int32, Field(json_schema_extra={"minimum": 1})] = 20
    """How many observations a window must have, of both clusters where they are compared. With fewer the measurement is
    inconclusive, and the window is made longer. Default 20."""


class StableBounds(ApiModel):
    """Bounds relative to the cluster that serves, over the same window."""

    max_ratio: float | None = None
    """At most so many times the value of the cluster that serves: 1.2."""
    min_ratio: float | None = None
    """At least so many times the value of the cluster that serves."""
    max_increase: float | None = None
    """At most so much above the value of the cluster that serves: 0.01."""


class SuccessCondition(ApiModel):
    """Bounds that a value must keep, all of them."""

    max: float | None = None
    """The value is at most this."""
    min: float | None = None
    """The value is at least this."""
    stable: StableBounds = Field(default_factory=StableBounds)
    """Bounds relative to the cluster that serves."""

    @property
    def compared(self) -> bool:
        """Whether the value of the cluster that serves is needed."""
        bounds = (self.stable.max_ratio, self.stable.min_ratio, self.stable.max_increase)
        return any(bound is not None for bound in bounds)


class MetricCheck(AnalysisCheck):
    """A value, from Prometheus or from the pods themselves, and what it must be."""

    prometheus: PrometheusProvider | None = None
    """A query to Prometheus. Either this or serve."""
    serve: ServeProvider | None = None
    """Metrics exported by the pods. Either this or prometheus."""
    success_condition: SuccessCondition = Field(default_factory=SuccessCondition)
    """Bounds that the value must keep. At least one."""


_LIST: Final[dict[str, Any]] = {
    "maxItems": MAX_CHECKS,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}


class Analysis(ApiModel):
    """Checks of the new cluster before it takes over; all must pass, else the upgrade is aborted."""

    requests: Annotated[list[RequestCheck], Field(json_schema_extra=_LIST)] = []
    """Smoke requests."""
    metrics: Annotated[list[MetricCheck], Field(json_schema_extra=_LIST)] = []
    """Conditions on metrics."""

    @property
    def checks(self) -> tuple[RequestCheck | MetricCheck, ...]:
        """All checks in the order in which they are told."""
        return (*self.requests, *self.metrics)
