"""Arguments of the LLM applications and what ray.serve.llm gets of them: without Ray and vLLM."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_runtime.llm import OpenAiArgs, configs
from serve_runtime.llm.args import NOT_HERE, SERVED_BY_ARGUMENT, Llm, deployment_name

CPU = {"accelerator": {"kind": "cpu"}}


def llm(**more: Any) -> Llm:
    """A model with these arguments."""
    return Llm.model_validate({"id": "org/tiny", **more})


def config(**more: Any) -> dict[str, Any]:
    """What LLMConfig gets for it."""
    model = llm(**more)
    return configs.llm_config(model, model)


def test_a_model_alone_is_enough() -> None:
    args = OpenAiArgs.model_validate({"models": [{"id": "org/tiny"}]})
    (found,) = configs.serving_args(args)["llm_configs"]
    assert found["model_loading_config"] == {"model_id": "org/tiny", "model_source": "org/tiny"}
    assert found["accelerator_config"] == {"kind": "gpu"}
    assert found["placement_group_config"] == {"bundle_per_worker": {"CPU": 1, "GPU": 1}, "strategy": "PACK"}
    assert found["deployment_config"]["num_replicas"] == 1
    assert found["engine_kwargs"] == {}


@given(
    seqs=st.integers(1, 4096),
    most=st.integers(1, 50),
    routing=st.sampled_from(["default", "prefix", "session", "least_kv", "ray_prefix"]),
    kind=st.sampled_from(["cpu", "gpu"]),
    local=st.booleans(),
)
def test_what_is_made_is_json_and_consistent(seqs: int, most: int, routing: str, kind: str, local: bool) -> None:
    found = config(
        source="/models/x" if local else "s3://bucket/x",
        engine={"max_num_seqs": seqs},
        accelerator={"kind": kind},
        routing=routing,
        autoscaling={"max_replicas": most},
    )
    assert json.loads(json.dumps(found)) == found
    deployment = found["deployment_config"]
    target = deployment["autoscaling_config"]["target_ongoing_requests"]
    assert 1 <= target <= max(1, seqs), "a replica is never asked to have more than its batch holds"
    assert deployment["max_ongoing_requests"] > target, "the engine's queue is never what keeps a replica from filling"
    assert deployment["health_check_timeout_s"] > 30, "Ray's limit is above the check's own"
    assert ("request_router_config" in deployment) == (routing != "default")
    assert ("GPU" in found["placement_group_config"]["bundle_per_worker"]) == (kind == "gpu")
    assert ("HF_HUB_OFFLINE" in found["runtime_env"]["env_vars"]) == local


def test_a_replica_over_several_accelerators() -> None:
    found = config(parallel={"tensor": 4, "pipeline": 2}, accelerator={"type": "H100", "resources": {"fast": 1}})
    assert found["engine_kwargs"] == {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    assert found["placement_group_config"]["bundle_per_worker"] == {"CPU": 1, "GPU": 1, "fast": 1}
    assert found["accelerator_type"] == "H100"


def test_lora_is_said_to_both_the_engine_and_ray() -> None:
    found = config(lora={"path": "s3://bucket/adapters/", "max_rank": 32, "max_per_replica": 8})
    assert found["lora_config"]["dynamic_lora_loading_path"] == "s3://bucket/adapters"
    assert found["lora_config"]["max_num_adapters_per_replica"] == 8
    wanted = {"enable_lora": True, "max_loras": 4, "max_cpu_loras": 8, "max_lora_rank": 32}
    assert found["engine_kwargs"] == wanted


def test_a_policy_is_bound_by_path() -> None:
    found = config(autoscaling={"max_replicas": 4, "policy": {"type": "slo", "target_s": 1.0}})
    policy = found["deployment_config"]["autoscaling_config"]["policy"]
    assert policy["policy_function"] == "serve_runtime.autoscaling.adapter:DeploymentPolicy"
    assert policy["policy_kwargs"]["policy"]["type"] == "slo"


def test_env_has_the_last_word() -> None:
    found = config(source="/m", env={"HF_HUB_OFFLINE": "0", "X": "y"}, **CPU)["runtime_env"]["env_vars"]
    assert found["HF_HUB_OFFLINE"] == "0"
    assert found["X"] == "y"
    assert found["OMP_NUM_THREADS"] == "1"


def test_a_replica_finds_its_settings_again() -> None:
    found = config(warm_up=None, health={"idle_s": 3})["experimental_configs"][configs.SETTINGS]
    settings = configs.ReplicaSettings.model_validate(json.loads(json.dumps(found)))
    assert settings.warm_up is None
    assert settings.health.idle_s == 3


@pytest.mark.parametrize("name", [*SERVED_BY_ARGUMENT, *NOT_HERE])
def test_engine_arguments_with_a_place_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"engine\.{name}: "):
        llm(engine={name: 1})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"id": "tiny:a"}, "id"),
        ({"id": "a--b"}, "two hyphens"),
        ({"id": ""}, "id"),
        ({"source": "https://hub/x"}, "source: 'https://hub/x' is in no object store"),
        ({"source": "./model"}, "absolute path"),
        ({"lora": {"path": "/adapters"}}, "lora.path"),
        ({"lora": {"path": "s3:///adapters"}}, "lora.path"),
        ({"lora": {"path": "s3://b/a", "max_in_batch": 20}}, "max_in_batch 20 is above"),
        ({"lora": {"path": "s3://b/a", "max_rank": 7}}, "lora.max_rank"),
        ({"parallel": {"tensor": 0}}, "parallel.tensor"),
        ({"accelerator": {"kind": "cpu", "type": "H100"}}, "'H100' is a GPU"),
        ({"accelerator": {"kind": "cpu", "gpus": 1}}, "gpus: there are none"),
        ({"accelerator": {"gpus": 2}}, "parallel.tensor for more"),
        ({"accelerator": {"kind": "cpu"}, "parallel": {"pipeline": 2}}, "parallel.tensor"),
        ({"accelerator": {"resources": {"GPU": 1}}}, "GPU are said by"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas 3 is above"),
        ({"autoscaling": {"max_replicas": 2, "initial_replicas": 3}}, "initial_replicas 3"),
        ({"autoscaling": {"max_replicas": 2}, "replicas": 2}, "set either it or autoscaling"),
        ({"autoscaling": {}}, "autoscaling.max_replicas"),
        ({"max_queued_requests": 0}, "max_queued_requests"),
        ({"routing": "prefix", "engine": {"enable_prefix_caching": False}}, "of no use"),
        ({"routing_settings": {"balance": 2.0}}, "name another one"),
        ({"routing": "nearest"}, "routing"),
        ({"engine": {"max_num_seqs": "many"}}, "engine.max_num_seqs"),
        ({"replica": 2}, "replica"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        llm(**arguments)
    (error, *_) = raised.value.errors()
    assert said in f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_settings_of_a_router_are_checked_with_the_model_named() -> None:
    args = OpenAiArgs.model_validate(
        {"models": [{"id": "tiny", "routing": "session", "routing_settings": {"headers": "x-user"}}]}
    )
    with pytest.raises(ValueError, match=r"(?s)model tiny: routing_settings: .*header, balance.*headers"):
        configs.serving_args(args)


def test_settings_of_rays_own_router_are_checked_too() -> None:
    model = llm(routing="ray_prefix", routing_settings={"balance": 1.5})
    with pytest.raises(ValueError, match="routing_settings: balance is none of do_eviction"):
        configs.llm_config(model, model)


def test_two_models_are_two_deployments() -> None:
    with pytest.raises(ValidationError, match=r"'a\.b' and 'a_b' would be one deployment, a_b"):
        OpenAiArgs.model_validate({"models": [{"id": "a.b"}, {"id": "a_b"}]})
    assert deployment_name("org/a.b") == "org--a_b"


def test_the_ingress_refuses_with_a_time_to_come_back() -> None:
    args = OpenAiArgs.model_validate({"models": [{"id": "tiny"}], "ingress": {"autoscaling": {"max_replicas": 4}}})
    found = configs.serving_args(args)
    assert found["ingress_cls_config"]["ingress_extra_kwargs"] == {"timeout_s": 600, "retry_after_s": 5}
    options = found["ingress_deployment_config"]
    assert options["backpressure_config"] == {"status_code": 503, "retry_after_s": 5}
    assert options["autoscaling_config"]["target_ongoing_requests"] == 250
