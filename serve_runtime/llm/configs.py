"""From arguments to what ray.serve.llm is built with: pure, JSON in and out, neither Ray nor vLLM needed."""

from __future__ import annotations

import math
from typing import Any, Final

from serve_runtime.autoscaling import deployment_policy
from serve_runtime.llm.args import Autoscaling, Health, Ingress, Llm, Model, OpenAiArgs, Serving, WarmUp
from serve_runtime.routing import router_config
from serve_runtime.strict import Strict

SETTINGS: Final = "serve_runtime"
"""The key in ``experimental_configs`` under which a replica finds its :class:`ReplicaSettings`."""
SERVER: Final = "serve_runtime.llm.server:LLM"
INGRESS: Final = "serve_runtime.llm.ingress:Ingress"
RAY_PREFIX: Final = "ray.serve.llm.request_router:PrefixCacheAffinityRouter"
RAY_PREFIX_SETTINGS: Final = frozenset(
    {
        "imbalanced_threshold",
        "match_rate_threshold",
        "do_eviction",
        "eviction_threshold_chars",
        "eviction_target_chars",
        "eviction_interval_secs",
    }
)
"""Of Ray 2.60. With another one the application would be RUNNING and each request would hang."""
COMFORTABLE: Final = 64
"""Requests for which one replica is taken to be enough, whatever its batch could hold."""
_ROUTERS: Final = {"prefix": "prefix", "session": "sticky", "least_kv": "kv_cache"}


class ReplicaSettings(Strict):
    """What a replica does besides what ray.serve.llm does."""

    warm_up: WarmUp | None = WarmUp()
    health: Health = Health()


def llm_config(model: Model, serving: Serving, *, server: str = SERVER) -> dict[str, Any]:
    """Keyword arguments of ``ray.serve.llm.LLMConfig``. Raises ValueError for settings that the router does not know.

    server: the class of the replicas, as module:Class.
    """
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": model.id, "model_source": model.source or model.id},
        "engine_kwargs": engine_arguments(model, serving),
        "accelerator_config": {"kind": serving.accelerator.kind},
        "placement_group_config": placement(serving),
        "deployment_config": deployment_config(serving),
        "server_cls": server,
        "runtime_env": {"env_vars": environment(model, serving)},
        "experimental_configs": {
            SETTINGS: ReplicaSettings(warm_up=serving.warm_up, health=serving.health).model_dump(mode="json")
        },
    }
    if serving.accelerator.type is not None:
        config["accelerator_type"] = serving.accelerator.type
    if serving.stream_interval_ms is not None:
        config["experimental_configs"]["stream_batching_interval_ms"] = serving.stream_interval_ms
    if lora := model.lora:
        config["lora_config"] = {
            "dynamic_lora_loading_path": lora.path.rstrip("/"),
            "max_num_adapters_per_replica": lora.max_per_replica,
            "download_timeout_s": lora.download_timeout_s,
            "max_download_tries": lora.download_tries,
        }
    return config


def engine_arguments(model: Model, serving: Serving) -> dict[str, Any]:
    """vLLM's arguments: those that have an argument of their own here, then ``engine``."""
    found: dict[str, Any] = {}
    if serving.parallel.tensor > 1:
        found["tensor_parallel_size"] = serving.parallel.tensor
    if serving.parallel.pipeline > 1:
        found["pipeline_parallel_size"] = serving.parallel.pipeline
    if model.tokenizer is not None:
        found["tokenizer"] = model.tokenizer
    if model.quantization is not None:
        found["quantization"] = model.quantization
    if lora := model.lora:
        found |= {
            "enable_lora": True,
            "max_loras": lora.max_in_batch,
            "max_cpu_loras": lora.max_per_replica,
            "max_lora_rank": lora.max_rank,
        }
    if serving.routing in {"prefix", "ray_prefix"}:
        found["enable_prefix_caching"] = True
    return found | serving.engine


def placement(serving: Serving) -> dict[str, Any]:
    """``placement_group_config``: the same bundle for each worker of a replica."""
    accelerator = serving.accelerator
    bundle: dict[str, float] = {"CPU": accelerator.cpus}
    if accelerator.kind == "gpu":
        bundle["GPU"] = accelerator.gpus
    return {"bundle_per_worker": bundle | accelerator.resources, "strategy": accelerator.strategy}


def environment(model: Model, serving: Serving) -> dict[str, str]:
    """Of the replica and its engine. ``env`` has the last word.

    On CPUs, vLLM would bind its threads to cores by their number on the host, which in a pod are not the pod's; and
    start as many threads as the host has cores. A model that is there needs no hub, whose absence would cost minutes.
    """
    found: dict[str, str] = {}
    if serving.accelerator.kind == "cpu":
        found |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(max(1, math.floor(serving.accelerator.cpus))),
        }
    if model.is_local():
        found["HF_HUB_OFFLINE"] = "1"
    return found | serving.env


def target_ongoing_requests(serving: Serving) -> float:
    """Requests that one replica shall have: three quarters of its batch, at most COMFORTABLE.

    Ray's own default for LLMs is a thousand million, which never scales on requests. Below the batch's size nothing
    waits; the last quarter is room for what arrives while another replica loads its weights. And large batches answer
    each request slowly long before they are full.
    """
    return float(max(1, min(COMFORTABLE, math.floor(0.75 * serving.max_num_seqs))))


def deployment_config(serving: Serving) -> dict[str, Any]:
    """Options of the replicas' deployment."""
    cpus = serving.accelerator.replica_cpus
    if cpus is None:
        cpus = 0 if serving.accelerator.kind == "cpu" else 1
    config: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": cpus},
        "max_ongoing_requests": serving.max_ongoing_requests or 2 * serving.max_num_seqs,
        "max_queued_requests": serving.max_queued_requests,
        "health_check_period_s": serving.health.period_s,
        # The check bounds itself; Ray's limit is above it, so that the reason is told and not «timed out».
        "health_check_timeout_s": serving.health.timeout_s + 10,
        "graceful_shutdown_timeout_s": serving.drain_timeout_s,
    }
    config |= scaling(serving.replicas, serving.autoscaling, target_ongoing_requests(serving), default=1)
    if (router := routing(serving)) is not None:
        config["request_router_config"] = router
    return config


def routing(serving: Serving) -> dict[str, Any] | None:
    """``request_router_config``; None for Ray's default. Raises ValueError for unknown settings."""
    if serving.routing == "default":
        return None
    if serving.routing == "ray_prefix":
        if unknown := sorted(serving.routing_settings.keys() - RAY_PREFIX_SETTINGS):
            known = ", ".join(sorted(RAY_PREFIX_SETTINGS))
            raise ValueError(f"routing_settings: {', '.join(unknown)} is none of {known}")
        return {
            "request_router_class": RAY_PREFIX,
            # Without eviction, its tree of prompts grows for ever.
            "request_router_kwargs": {"do_eviction": True} | serving.routing_settings,
            "request_routing_stats_period_s": serving.routing_stats_period_s,
        }
    kind = _ROUTERS[serving.routing]
    try:
        return router_config(kind, stats_period_s=serving.routing_stats_period_s, **serving.routing_settings)
    except ValueError as error:
        raise ValueError(f"routing_settings: {error}") from None


def scaling(replicas: int | None, autoscaling: Autoscaling | None, target: float, *, default: int) -> dict[str, Any]:
    """``num_replicas`` or ``autoscaling_config``. target: ongoing requests per replica unless the arguments say."""
    if autoscaling is None:
        return {"num_replicas": replicas or default}
    config = autoscaling.model_dump(mode="json", exclude_none=True, exclude={"policy"})
    config.setdefault("target_ongoing_requests", target)
    if autoscaling.policy is not None:
        config["policy"] = deployment_policy(autoscaling.policy)
    return {"autoscaling_config": config}


def ingress_config(ingress: Ingress) -> dict[str, Any]:
    """``ingress_deployment_config``. Two replicas unless said otherwise, as Ray's: one may go."""
    return {
        "max_ongoing_requests": ingress.max_ongoing_requests,
        "max_queued_requests": ingress.max_queued_requests,
        "backpressure_config": {"status_code": 503, "retry_after_s": ingress.retry_after_s},
        "graceful_shutdown_timeout_s": ingress.drain_timeout_s,
        "ray_actor_options": {"num_cpus": ingress.num_cpus},
    } | scaling(ingress.replicas, ingress.autoscaling, ingress.max_ongoing_requests / 4, default=2)


def ingress_class_config(ingress: Ingress) -> dict[str, Any]:
    """``ingress_cls_config``."""
    settings = {"timeout_s": ingress.timeout_s, "retry_after_s": ingress.retry_after_s}
    return {"ingress_cls": INGRESS, "ingress_extra_kwargs": settings}


def serving_args(args: OpenAiArgs) -> dict[str, Any]:
    """What ``ray.serve.llm.build_openai_app`` takes. Raises ValueError that names the model and the field."""
    return {
        "llm_configs": [_named(model) for model in args.models],
        "ingress_cls_config": ingress_class_config(args.ingress),
        "ingress_deployment_config": ingress_config(args.ingress),
    }


def _named(model: Llm) -> dict[str, Any]:
    try:
        return llm_config(model, model)
    except ValueError as error:
        raise ValueError(f"model {model.id}: {error}") from error
