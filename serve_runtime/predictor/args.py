"""Arguments of ``serve_runtime.predictor:app`` and its ``user_config``: strict, every refusal names its field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from serve_runtime.strict import Strict
from serve_runtime.web.bodies import Kind
from serve_runtime.web.dotted import PATTERN

DEFAULT_IN_FLIGHT: Final = 64
"""Requests that one replica takes at a time unless batches need more; the rest waits at the proxies."""

Dotted = Annotated[str, Field(pattern=PATTERN)]
_MODEL_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9._/@:-]{0,199}$"
ModelId = Annotated[str, Field(pattern=_MODEL_ID)]


class Batching(Strict):
    """Requests that wait for each other, to be computed in one call of ``predict_batch``."""

    max_batch_size: int = Field(default=16, ge=1, le=65536)
    wait_s: float = Field(default=0.005, ge=0, le=60, description="How long the first of a batch waits for others")
    max_concurrent_batches: int = Field(default=1, ge=1, le=256)


class Models(Strict):
    """Many models in one deployment, each an instance of the predictor, the least recently used unloaded first.

    known: id to what its constructor gets besides ``init``. any: ids that are not listed are let through, and the
    constructor gets ``model_id``. default: for requests that name none.
    """

    known: dict[ModelId, dict[str, Any]] = Field(default_factory=dict)
    any: bool = False
    default: ModelId | None = None
    max_per_replica: int = Field(default=3, ge=1, le=10000)
    retry_load_after_s: float = Field(default=10, ge=0, description="A model that failed to load is let be that long")
    unload_grace_s: float = Field(default=10, ge=0, description="How long unloading waits for requests that use it")

    @model_validator(mode="after")
    def _consistent(self) -> Models:
        if not self.known and not self.any:
            raise ValueError("name at least one model in `known`, or set `any: true`")
        if self.default is not None and not self.allows(self.default):
            raise ValueError(f"default: {self.default!r} is not in `known`: {', '.join(sorted(self.known))}")
        return self

    def allows(self, model_id: str) -> bool:
        """Whether requests may name it."""
        return model_id in self.known or (self.any and re.fullmatch(_MODEL_ID, model_id) is not None)


class PredictorArgs(Strict):
    """``args`` of the application. A change restarts its replicas; what is to change without is in ``user_config``."""

    predictor: Dotted = Field(description="The class, as package.module:Class")
    init: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of its constructor")
    batching: Batching | None = None
    models: Models | None = None
    accepts: list[Kind] | None = Field(default=None, min_length=1, description="json, form, bytes; default by its type")
    media_type: str = Field(
        default="application/octet-stream", description="Of results that are bytes, and raw streams"
    )
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    timeout_s: float | None = Field(default=60, gt=0, description="Until the answer, or a stream's first item")
    stream_timeout_s: float | None = Field(default=3600, gt=0, description="Until a stream's end")
    max_stream_bytes: int | None = Field(default=256 * 1024 * 1024, ge=1, description="Of one stream")
    retry_after_s: float = Field(default=1, ge=0)
    threads: int = Field(default=1, ge=1, le=256, description="For methods that are not async")
    caller_errors: list[Dotted] = Field(default_factory=list, description="Exceptions that are the caller's mistake")
    max_ongoing_requests: int | None = Field(default=None, ge=1, description="In one replica at a time")
    max_queued_requests: int = Field(default=1000, ge=-1, description="At each proxy; beyond it is 503. -1: no limit")
    log_encoding: Literal["JSON", "TEXT"] = "JSON"

    @model_validator(mode="after")
    def _consistent(self) -> PredictorArgs:
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: 0 is nothing that Ray Serve takes; -1 means no limit")
        least = self.batching.max_batch_size * self.batching.max_concurrent_batches if self.batching else 1
        if self.max_ongoing_requests is not None and self.max_ongoing_requests < least:
            raise ValueError(
                f"max_ongoing_requests: {self.max_ongoing_requests} never fills a batch; set it to at least "
                f"max_batch_size x max_concurrent_batches = {least}, or leave it out"
            )
        return self

    def in_flight(self) -> int:
        """Requests that a replica takes at a time: two rounds of batches, so that one fills while one computes."""
        if self.max_ongoing_requests is not None:
            return self.max_ongoing_requests
        if self.batching is None:
            return DEFAULT_IN_FLIGHT
        return max(DEFAULT_IN_FLIGHT, 2 * self.batching.max_batch_size * self.batching.max_concurrent_batches)


class BatchingNow(Strict):
    """The part of :class:`Batching` that changes without a restart; None leaves it as it is."""

    max_batch_size: int | None = Field(default=None, ge=1, le=65536)
    wait_s: float | None = Field(default=None, ge=0, le=60)


class UserConfig(Strict):
    """``user_config`` of the deployment. ``predictor`` goes to each instance's ``reconfigure(config)``."""

    batching: BatchingNow = BatchingNow()
    predictor: dict[str, Any] | None = None
