"""Arguments of the LLM applications: strict, every refusal names its field. Needs neither Ray nor vLLM.

A model (what is served: :class:`Model`) and its replicas (how: :class:`Serving`) are apart, since disaggregated serving
has two kinds of replicas for one model.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serve_runtime.autoscaling.policies import AnyPolicy
from serve_runtime.strict import Strict

Routing: TypeAlias = Literal["default", "prefix", "session", "least_kv", "ray_prefix"]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]
REMOTE: Final = r"(s3|gs|abfss|azure)://[^/\s]+(/\S*)?"
"""Object stores that Ray Serve LLM reads from."""
SERVED_BY_ARGUMENT: Final[dict[str, str]] = {
    "model": "source",
    "served_model_name": "id",
    "tokenizer": "tokenizer",
    "quantization": "quantization",
    "tensor_parallel_size": "parallel.tensor",
    "pipeline_parallel_size": "parallel.pipeline",
    "enable_lora": "lora",
    "max_loras": "lora.max_in_batch",
    "max_cpu_loras": "lora.max_per_replica",
    "max_lora_rank": "lora.max_rank",
    "distributed_executor_backend": "accelerator.kind",
}
"""Engine arguments that are said elsewhere: the argument which to use instead."""
NOT_HERE: Final[dict[str, str]] = {
    "data_parallel_size": "use more replicas; for experts spread over ranks there is ray.serve.llm:build_dp_openai_app",
    "kv_transfer_config": "use serve_runtime.llm:prefill_decode, which sets it for both sides",
    "disable_log_stats": "routing, autoscaling and health are told by the engine's stats",
}
"""Engine arguments that these applications do not take, and why."""
DEFAULT_MAX_NUM_SEQS: Final = 256
"""What vLLM takes for a server unless told, apart from the largest GPUs."""


class Lora(Strict):
    """Adapters of one base model, loaded when first asked for as ``<model id>:<adapter>``.

    path: the folder in an object store that has one folder per adapter. max_per_replica: kept in a replica, the least
    recently used gives way. max_in_batch: different ones that one batch of the engine may mix.
    """

    path: str = Field(pattern=rf"^{REMOTE}$")
    max_per_replica: PositiveInt = 16
    max_in_batch: PositiveInt = 4
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    download_timeout_s: PositiveFloat = 30
    download_tries: PositiveInt = 3

    @model_validator(mode="after")
    def _consistent(self) -> Lora:
        if self.max_in_batch > self.max_per_replica:
            raise ValueError(f"max_in_batch {self.max_in_batch} is above max_per_replica {self.max_per_replica}")
        return self


class Model(Strict):
    """What is served. source: a hub id, an absolute path on every node, or a folder in an object store; default the id.

    id: what callers name. tokenizer: a hub id or a path, where it is not with the model.
    """

    id: ModelId
    source: str | None = Field(default=None, min_length=1)
    tokenizer: str | None = Field(default=None, min_length=1)
    quantization: str | None = Field(default=None, min_length=1, description="As vLLM names it: fp8, awq, gptq, …")
    lora: Lora | None = None

    @model_validator(mode="after")
    def _model_is_consistent(self) -> Model:
        if "--" in self.id:
            raise ValueError(f"id: {self.id!r} has two hyphens in a row, which Ray reads as a slash; write one")
        source = self.source or self.id
        if "://" in source and not re.fullmatch(REMOTE, source):
            raise ValueError(f"source: {source!r} is in no object store that can be read: s3, gs, abfss or azure")
        if source.startswith((".", "~")):
            raise ValueError(f"source: {source!r} depends on where a process runs; write an absolute path")
        return self

    def is_local(self) -> bool:
        """Whether nothing has to be asked of a model hub."""
        here = ("/",)
        return (self.source or self.id).startswith(here) and (self.tokenizer or "/").startswith(here)


class Parallel(Strict):
    """Over how many accelerators one replica is spread: each layer cut in ``tensor``, the layers in ``pipeline``."""

    tensor: PositiveInt = 1
    pipeline: PositiveInt = 1

    @property
    def workers(self) -> int:
        return self.tensor * self.pipeline


class Accelerator(Strict):
    """What each worker of a replica has, and so where it can run.

    type: as Ray names it (H100, A10G, L4); without it any GPU. gpus: less than 1 shares a GPU. resources: custom ones
    that only the wanted worker group has, which places the replicas there. replica_cpus: of the replica's own process,
    which tokenizes and schedules; default 1, on CPUs 0, since there the engine has what cpus says.
    strategy: how the workers of one replica are spread over nodes.
    """

    kind: Literal["gpu", "cpu"] = "gpu"
    type: str | None = Field(default=None, min_length=1)
    gpus: float = Field(default=1, gt=0)
    cpus: float = Field(default=1, gt=0)
    replica_cpus: float | None = Field(default=None, ge=0)
    resources: dict[str, PositiveFloat] = Field(default_factory=dict)
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"

    @model_validator(mode="after")
    def _consistent(self) -> Accelerator:
        if self.kind == "cpu" and self.type is not None:
            raise ValueError(f"type: {self.type!r} is a GPU; leave it out, or set kind: gpu")
        if self.kind == "cpu" and "gpus" in self.model_fields_set:
            raise ValueError("gpus: there are none with kind: cpu")
        if self.gpus > 1:
            raise ValueError("gpus: a worker uses one; use parallel.tensor for more")
        if taken := sorted({"CPU", "GPU", "memory"} & self.resources.keys()):
            raise ValueError(f"resources: {', '.join(taken)} are said by cpus, gpus and the pod")
        return self


class Autoscaling(Strict):
    """Of one deployment. target_ongoing_requests: that each replica shall have; the default depends on the engine.

    policy: one of serve_runtime.autoscaling instead. Replicas report ``running``, ``waiting``, ``kv_cache_usage`` and
    the buckets of ``ttft_s`` to it.
    """

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: PositiveInt
    initial_replicas: int | None = Field(default=None, ge=0)
    target_ongoing_requests: PositiveFloat | None = None
    look_back_period_s: PositiveFloat = 30
    upscale_delay_s: float = Field(default=10, ge=0)
    downscale_delay_s: float = Field(default=600, ge=0)
    downscale_to_zero_delay_s: float | None = Field(default=None, ge=0)
    policy: AnyPolicy | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if self.initial_replicas is not None and not self.min_replicas <= self.initial_replicas <= self.max_replicas:
            raise ValueError(f"initial_replicas {self.initial_replicas} is not between min_replicas and max_replicas")
        return self


class WarmUp(Strict):
    """Requests that a replica answers to itself before it counts as ready: they compile what the engine's own start
    does not. prompt_tokens: one request for each length. 0 tokens to generate are no request.
    """

    prompt_tokens: list[PositiveInt] = Field(default_factory=lambda: [32])
    max_tokens: PositiveInt = 4
    timeout_s: PositiveFloat = 300


class Health(Strict):
    """deep: a replica that has generated nothing for ``idle_s`` is asked for a token, and is ill when neither that
    token nor any other comes within ``timeout_s``. Three failures in a row and Ray replaces it.
    """

    deep: bool = True
    idle_s: float = Field(default=30, ge=0)
    period_s: PositiveFloat = 10
    timeout_s: PositiveFloat = 30


class Serving(Strict):
    """How the replicas of a model run.

    engine: arguments of vLLM's engine, by vLLM's names. replicas: a fixed number; or autoscaling.
    max_ongoing_requests: that a replica takes; what is above waits at the ingress, where a new replica gets it.
    drain_timeout_s: how long a replica that is told to stop goes on with its streams.
    """

    engine: dict[str, Any] = Field(default_factory=dict)
    parallel: Parallel = Parallel()
    accelerator: Accelerator = Accelerator()
    replicas: PositiveInt | None = None
    autoscaling: Autoscaling | None = None
    routing: Routing = "default"
    routing_settings: dict[str, Any] = Field(default_factory=dict)
    routing_stats_period_s: PositiveFloat = 1
    warm_up: WarmUp | None = WarmUp()
    health: Health = Health()
    max_ongoing_requests: PositiveInt | None = None
    max_queued_requests: int = Field(default=1000, ge=-1)
    drain_timeout_s: PositiveFloat = 600
    stream_interval_ms: float | None = Field(default=None, ge=0, description="Tokens are sent together that long")
    env: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _serving_is_consistent(self) -> Serving:
        for name in self.engine:
            if name in SERVED_BY_ARGUMENT:
                raise ValueError(f"engine.{name}: use the argument {SERVED_BY_ARGUMENT[name]}")
            if name in NOT_HERE:
                raise ValueError(f"engine.{name}: {NOT_HERE[name]}")
        seqs = self.engine.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS)
        if isinstance(seqs, bool) or not isinstance(seqs, int) or seqs < 1:
            raise ValueError(f"engine.max_num_seqs: {seqs!r} is no positive number")
        if self.accelerator.kind == "cpu" and self.parallel.pipeline > 1:
            # Seen with vLLM 0.29: it starts, and its engine dies of the first request.
            raise ValueError("parallel.pipeline: vLLM does not run it on CPUs; use parallel.tensor")
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas: set either it or autoscaling")
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: 0 is nothing that Ray Serve takes; -1 means no limit")
        if self.routing in {"prefix", "ray_prefix"} and self.engine.get("enable_prefix_caching") is False:
            raise ValueError(f"routing: {self.routing} is of no use with engine.enable_prefix_caching: false")
        if self.routing == "default" and self.routing_settings:
            raise ValueError("routing_settings: the default router has none; name another one in `routing`")
        return self

    @property
    def max_num_seqs(self) -> int:
        """Requests in one batch of the engine."""
        return int(self.engine.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS))


class Llm(Model, Serving):
    """One model with its replicas. (The validators of both have names of their own, or one would replace the other.)"""


class Ingress(Strict):
    """The deployment that takes HTTP. timeout_s: until the answer, or a stream's first part; then it is 503.

    retry_after_s: in the answers that are 503.
    """

    replicas: PositiveInt | None = None
    autoscaling: Autoscaling | None = None
    num_cpus: float = Field(default=1, ge=0)
    max_ongoing_requests: PositiveInt = 1000
    max_queued_requests: int = Field(default=1000, ge=-1)
    timeout_s: float = Field(default=600, gt=0, le=600)  # Ray's own limit, which answers 408
    retry_after_s: PositiveFloat = 5
    drain_timeout_s: PositiveFloat = 600

    @model_validator(mode="after")
    def _consistent(self) -> Ingress:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas: set either it or autoscaling")
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: 0 is nothing that Ray Serve takes; -1 means no limit")
        return self


class OpenAiArgs(Strict):
    """``args`` of ``serve_runtime.llm:openai``: several models under one address, each with replicas of its own."""

    models: list[Llm] = Field(min_length=1)
    ingress: Ingress = Ingress()

    @model_validator(mode="after")
    def _consistent(self) -> OpenAiArgs:
        seen: dict[str, str] = {}
        for model in self.models:
            other = seen.get(name := deployment_name(model.id))
            if other is not None:
                raise ValueError(f"models: {other!r} and {model.id!r} would be one deployment, {name}; rename one")
            seen[name] = model.id
        return self


def deployment_name(model_id: str) -> str:
    """How Ray names a model's deployment, without the prefix."""
    return model_id.replace("/", "--").replace(".", "_")
