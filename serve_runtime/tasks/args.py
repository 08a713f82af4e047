"""Arguments of ``serve_runtime.tasks:app``: strict, every refusal names its field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve_runtime.strict import Strict
from serve_runtime.tasks import addresses
from serve_runtime.web.bodies import Kind
from serve_runtime.web.dotted import PATTERN

Dotted = Annotated[str, Field(pattern=PATTERN)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Handler(Strict):
    """A function of one argument, or a class with ``predict(item)`` that is constructed once for each replica."""

    use: Dotted
    init: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of a class's constructor")


class Retries(Strict):
    """After the first failure ``first_s`` is waited, ``factor`` times as long after each further one, up to ``max_s``;
    of that a random share of up to ``jitter`` less, so that tasks that failed together don't come back together.
    """

    max: int = Field(default=3, ge=0, le=1000, description="Runs after the first one")
    first_s: float = Field(default=1, ge=0)
    factor: float = Field(default=2, ge=1)
    max_s: float = Field(default=60, ge=0)
    jitter: float = Field(default=0.1, ge=0, le=1)


class Scaling(Strict):
    """Consumers by the tasks that wait or run."""

    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(default=4, ge=1)
    per_replica: float | None = Field(default=None, gt=0, description="Tasks for each consumer; default `concurrency`")
    upscale_delay_s: float = Field(default=0, ge=0)
    downscale_delay_s: float = Field(default=60, ge=0)
    poll_s: float = Field(default=1, gt=0, description="Between two looks at the store")

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class TasksArgs(Strict):
    """``args`` of the application. A change restarts its replicas; no task is lost by that."""

    handlers: dict[Name, Handler] = Field(min_length=1)
    broker_url: str = Field(description="redis://, rediss://, unix://, amqp:// or amqps://; ${NAME} is an env variable")
    store_url: str | None = Field(default=None, description="Redis of the task ledger; default broker_url")
    queue: Name = Field(default="tasks", description="One for each application")
    concurrency: int = Field(default=1, ge=1, le=256, description="Tasks that a consumer runs at a time, in threads")
    retries: Retries = Retries()
    caller_errors: list[Dotted] = Field(default_factory=list, description="Exceptions that no retry can help")
    timeout_s: float | None = Field(default=None, gt=0, description="For one run of a handler")
    lease_s: float = Field(default=30, ge=1, le=3600, description="A worker without a sign of life for so long is lost")
    max_losses: int = Field(default=3, ge=1, le=100, description="Workers that a task may lose; then: unprocessable")
    drain_s: float = Field(default=60, ge=0, description="How long a consumer that is to go finishes its tasks")
    result_ttl_s: int = Field(default=86400, ge=1)
    dead_letter_ttl_s: int = Field(default=14 * 86400, ge=1)
    idempotency_ttl_s: int = Field(default=86400, ge=1)
    max_waiting: int = Field(default=100_000, ge=1, description="Unfinished tasks; beyond it submitting is 503")
    accepts: list[Kind] | None = Field(default=None, min_length=1, description="json, form, bytes; default by handler")
    media_type: str = Field(default="application/octet-stream", description="Of results that are bytes")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1)
    max_result_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    max_batch: int = Field(default=1000, ge=1, le=10_000, description="Tasks that one request may submit")
    store_timeout_s: float = Field(default=2, gt=0, le=60, description="For one call of the broker or the store")
    retry_after_s: float = Field(default=1, ge=0)
    autoscaling: Scaling | None = Scaling()
    ingress_replicas: int = Field(default=1, ge=1)
    max_ongoing_requests: int = Field(default=64, ge=1)
    max_queued_requests: int = Field(default=1000, ge=-1)
    log_encoding: Literal["JSON", "TEXT"] = "JSON"

    @model_validator(mode="after")
    def _consistent(self) -> TasksArgs:
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: 0 is nothing that Ray Serve takes; -1 means no limit")
        addresses.check(self.broker_url, field="broker_url", schemes=addresses.BROKERS)
        if self.store_url is not None:
            addresses.check(self.store_url, field="store_url", schemes=addresses.STORES)
        elif self.broker_url.startswith("amqp"):
            raise ValueError("store_url: RabbitMQ passes tasks on and keeps no results; name a Redis for them")
        if self.store_timeout_s * 3 > self.lease_s:
            raise ValueError(
                f"lease_s: {self.lease_s:g} leaves a worker no second try to renew its lease; set it to at least three "
                f"times store_timeout_s = {3 * self.store_timeout_s:g}"
            )
        return self

    def broker(self) -> str:
        """With its secrets. Raises AddressError."""
        return addresses.expand(self.broker_url, field="broker_url", schemes=addresses.BROKERS)

    def store(self) -> str:
        """With its secrets. Raises AddressError."""
        address, field = (self.store_url, "store_url") if self.store_url else (self.broker_url, "broker_url")
        return addresses.expand(address, field=field, schemes=addresses.STORES)
