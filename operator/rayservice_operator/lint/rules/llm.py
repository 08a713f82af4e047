"""Rules about applications that ``ray.serve.llm`` builds: models, prefill and decode, LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rayservice_operator.api.validation.subject import Container, Group
from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.nodes import GPU
from rayservice_operator.lint.reading import Map, as_count, as_map, as_text, maps_in
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.rules import pairs
from rayservice_operator.lint.subject import App, Subject
from rayservice_operator.lint.workload import llm_configs, model_id

# Ray 2.60, ray.llm._internal.common.utils.cloud_utils.is_remote_path.
_REMOTE: Final = ("s3://", "gs://", "abfss://", "azure://")

# Device plugins' resources for networks between GPUs: RDMA, EFA, InfiniBand, GKE's GPU networks.
_NETWORK: Final = re.compile(r".*(rdma|efa|infiniband|roce|hca|sriov|networking\.gke\.io).*", re.IGNORECASE)

# Prefill gives the cache away, decode takes it (vLLM, KVTransferConfig.kv_role).
_ROLES: Final = {"prefill_config": "kv_producer", "decode_config": "kv_consumer"}


def _models(subject: Subject) -> Iterator[tuple[App, Path, Map]]:
    for app in subject.apps:
        for path, llm in llm_configs(app.data, app.path):
            yield app, path, llm


def _pairs(subject: Subject) -> Iterator[tuple[App, Map, Map]]:
    """Applications with a prefill and a decode config that are both written out."""
    for app in subject.apps:
        args = as_map(app.data.get("args"))
        prefill, decode = args.get("prefill_config"), args.get("decode_config")
        if isinstance(prefill, dict) and isinstance(decode, dict):
            yield app, prefill, decode


def _lora_path(subject: Subject) -> Iterator[Problem]:
    for _, path, llm in _models(subject):
        given = as_map(llm.get("lora_config")).get("dynamic_lora_loading_path")
        if isinstance(given, str) and not given.startswith(_REMOTE):
            problem = f"is {given!r}, which is none of the stores that Ray loads adapters from"
            fix = f"Write a path that starts with one of {', '.join(_REMOTE)}"
            yield Problem((*path, "lora_config", "dynamic_lora_loading_path"), problem, fix)


def _engine(subject: Subject) -> Iterator[Problem]:
    for _, path, llm in _models(subject):
        engine = llm.get("llm_engine")
        if isinstance(engine, str) and engine != "vLLM":
            yield Problem((*path, "llm_engine"), f"is {engine!r}; Ray takes vLLM only", "Write vLLM, or remove it")


def _placement(subject: Subject) -> Iterator[Problem]:
    for _, path, llm in _models(subject):
        config = as_map(llm.get("deployment_config"))
        for key in ("placement_group_bundles", "placement_group_strategy"):
            if key in config:
                problem = "is not allowed in the deployment_config of a model"
                yield Problem((*path, "deployment_config", key), problem, "Move it to placement_group_config")


def _model_ids(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        seen: dict[str, int] = {}
        for path, llm in maps_in(as_map(app.data.get("args")).get("llm_configs"), app.at("args", "llm_configs")):
            name, index = model_id(llm), len(seen)
            if name and name in seen:
                problem = f"{name!r} is also that of llm_configs[{seen[name]}]"
                yield Problem((*path, "model_loading_config", "model_id"), problem, "Give each model an id of its own")
            seen.setdefault(name or f"\0{index}", int(path[-1]))


def _pd_model(subject: Subject) -> Iterator[Problem]:
    for app, prefill, decode in _pairs(subject):
        ours, theirs = model_id(decode), model_id(prefill)
        if ours and theirs and ours != theirs:
            path = app.at("args", "decode_config", "model_loading_config", "model_id")
            yield Problem(path, f"is {ours!r}, but prefill has {theirs!r}", "Give both the same model_id")


def _connectors(llm: Map) -> list[str]:
    """Names of the connectors; those inside a MultiConnector instead of itself."""
    config = as_map(as_map(llm.get("engine_kwargs")).get("kv_transfer_config"))
    inner = as_map(config.get("kv_connector_extra_config")).get("connectors")
    names = [as_text(item.get("kv_connector")) for _, item in maps_in(inner, ())]
    return names or [as_text(config.get("kv_connector"))]


def _pd_connector(subject: Subject) -> Iterator[Problem]:
    for app, prefill, decode in _pairs(subject):
        missing = False
        for key, llm in (("prefill_config", prefill), ("decode_config", decode)):
            kwargs = llm.get("engine_kwargs")
            if as_map(kwargs).get("kv_transfer_config") is None:
                missing = True
                path = app.at("args", key, "engine_kwargs") if isinstance(kwargs, dict) else app.at("args", key)
                problem = "has no kv_transfer_config, without which prefill and decode share no cache"
                yield Problem(path, problem, "Set kv_transfer_config with the same kv_connector in both")
        if missing:
            continue
        ours, theirs = _connectors(decode), _connectors(prefill)
        if "" not in ours + theirs and not set(ours) & set(theirs):
            path = app.at("args", "decode_config", "engine_kwargs", "kv_transfer_config", "kv_connector")
            problem = f"is {' and '.join(ours)}, but prefill has {' and '.join(theirs)}"
            yield Problem(path, problem, "Use the same connector in both")


def _pd_role(subject: Subject) -> Iterator[Problem]:
    for app, prefill, decode in _pairs(subject):
        for key, llm in (("prefill_config", prefill), ("decode_config", decode)):
            role = as_map(as_map(llm.get("engine_kwargs")).get("kv_transfer_config")).get("kv_role")
            if role in _ROLES.values() and role != _ROLES[key]:
                path = app.at("args", key, "engine_kwargs", "kv_transfer_config", "kv_role")
                what = "gives the cache away" if key == "prefill_config" else "takes the cache"
                yield Problem(path, f"is {role}, but this side {what}", f"Write {_ROLES[key]}, or kv_both for both")


def _pd_lora(subject: Subject) -> Iterator[Problem]:
    for app, prefill, decode in _pairs(subject):
        theirs, ours = prefill.get("lora_config"), decode.get("lora_config")
        if (theirs is None) != (ours is None):
            key = "prefill_config" if theirs is not None else "decode_config"
            problem = "is set on one side only; the other could not load the adapter of a request"
            yield Problem(
                app.at("args", key, "lora_config"), problem, "Set the same lora_config on both sides, or none"
            )
            continue
        paths = [as_map(config).get("dynamic_lora_loading_path") for config in (theirs, ours)]
        if paths[0] != paths[1]:
            path = app.at("args", "decode_config", "lora_config", "dynamic_lora_loading_path")
            if paths[1] is None:
                path = path[:-1]
            yield Problem(path, "is not that of prefill", "Give both sides the same path")


def _pd_network(subject: Subject) -> Iterator[Problem]:
    """Only where some group asks for a fast network: without any, the cache goes over TCP everywhere alike."""
    apps = [app for app, *_ in (*_pairs(subject), *pairs.sides(subject))]
    groups = [node for node in subject.nodes if node.offers(GPU) != 0 and not node.group.is_head]
    if not apps or len(groups) < 2:
        return
    networks = [
        frozenset(
            key for key in as_map(as_map(node.group.ray_container.get("resources")).get("limits")) if _is_net(key)
        )
        for node in groups
    ]
    shared = frozenset.intersection(*networks)
    if any(networks) and not shared:
        lacking = next((n for n, keys in zip(groups, networks, strict=True) if not keys), groups[-1])
        wanted = min(key for keys in networks for key in keys)
        path = (*lacking.path, "template", "spec", "containers", 0, "resources", "limits")
        app = apps[0].name
        problem = f"has no {wanted}, which the other GPU workers have: the KV cache of {app!r} cannot take that network"
        yield Problem(path, problem, f"Give all workers of prefill and decode {wanted}")


def _never_scales(subject: Subject) -> Iterator[Problem]:
    """The builders' own target is a billion requests (Ray 2.60, ``DEFAULT_MAX_TARGET_ONGOING_REQUESTS``)."""
    if any(_TARGET_ENV in container.env_names for group in subject.groups for container in _containers(group)):
        return
    for deployment in subject.deployments:
        scaling = as_map(deployment.data.get("autoscaling_config"))
        least, most = as_count(scaling.get("min_replicas", 1)), as_count(scaling.get("max_replicas"))
        if deployment.workload.llm is None or most is None or least is None or most <= max(least, 1):
            continue
        if scaling.get("target_ongoing_requests") is None and not scaling.get("policy"):
            problem = "has no target_ongoing_requests, which ray.serve.llm sets to 1,000,000,000: it never scales up"
            fix = "Set target_ongoing_requests to what one replica serves well at a time, say 32"
            yield Problem(deployment.at("autoscaling_config"), problem, fix)


_TARGET_ENV: Final = "RAY_SERVE_LLM_DEFAULT_MAX_TARGET_ONGOING_REQUESTS"


def _containers(group: Group) -> list[Container]:
    return group.template.spec.containers if group.template else []


def _is_net(key: str) -> bool:
    return "/" in key and _NETWORK.fullmatch(key) is not None


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "lora-path",
        Severity.ERROR,
        "LoRA adapters are to come from where Ray does not load them",
        "Ray refuses anything but S3, Google Cloud Storage and Azure when the application is built.",
        "Put the adapters into one of these stores.",
        "lora_config:\n  dynamic_lora_loading_path: /models/adapters",
        _lora_path,
    ),
    Rule(
        "llm-engine",
        Severity.ERROR,
        "An engine that ray.serve.llm does not have",
        "Ray refuses the model when the application is built.",
        "Write vLLM, letter by letter, or leave it out.",
        "llm_configs:\n  - llm_engine: vllm",
        _engine,
    ),
    Rule(
        "llm-placement-group",
        Severity.ERROR,
        "A placement group in the deployment_config of a model",
        "Ray makes the placement group from the parallelism and refuses another one.",
        "Use placement_group_config of the model.",
        "deployment_config:\n  placement_group_strategy: STRICT_PACK",
        _placement,
    ),
    Rule(
        "llm-model-id",
        Severity.ERROR,
        "Two models of an application have the same id",
        "Clients choose the model by it; Ray refuses to build the application.",
        "Give each model an id of its own.",
        "llm_configs:\n  - model_loading_config: {model_id: qwen}\n  - model_loading_config: {model_id: qwen}",
        _model_ids,
    ),
    Rule(
        "llm-never-scales",
        Severity.WARNING,
        "An autoscaled model without target_ongoing_requests",
        "The builders of ray.serve.llm set a target of a billion requests for each replica where the file has none, so "
        "load never adds a replica.",
        "Set target_ongoing_requests to what one replica serves well at a time.",
        "deployment_config:\n  autoscaling_config: {min_replicas: 1, max_replicas: 4}",
        _never_scales,
    ),
    Rule(
        "pd-model-id",
        Severity.ERROR,
        "Prefill and decode serve different models",
        "The cache of one is of no use to the other; Ray refuses to build the application.",
        "Give both the same model_id.",
        "prefill_config: {model_loading_config: {model_id: a}}\ndecode_config: {model_loading_config: {model_id: b}}",
        _pd_model,
    ),
    Rule(
        "pd-kv-connector",
        Severity.ERROR,
        "Prefill and decode do not hand the KV cache over the same way",
        "Without kv_transfer_config on both sides Ray refuses to build the application; with different connectors "
        "decode never gets the cache.",
        "Set the same kv_connector on both sides.",
        "prefill_config: {engine_kwargs: {kv_transfer_config: {kv_connector: NixlConnector}}}\n"
        "decode_config: {engine_kwargs: {kv_transfer_config: {kv_connector: LMCacheConnectorV1}}}",
        _pd_connector,
    ),
    Rule(
        "pd-kv-role",
        Severity.ERROR,
        "The roles of prefill and decode are swapped",
        "Prefill produces the KV cache and decode consumes it.",
        "kv_producer for prefill, kv_consumer for decode, or kv_both for both.",
        "prefill_config: {engine_kwargs: {kv_transfer_config: {kv_role: kv_consumer}}}",
        _pd_role,
    ),
    Rule(
        "pd-lora",
        Severity.ERROR,
        "Prefill and decode do not load the same LoRA adapters",
        "A request names one adapter, which both sides must find; Ray refuses to build the application.",
        "Give both the same lora_config, or none.",
        "prefill_config: {lora_config: {dynamic_lora_loading_path: s3://a}}\ndecode_config: {}",
        _pd_lora,
    ),
    Rule(
        "pd-network",
        Severity.WARNING,
        "Workers of prefill and decode share no fast network",
        "Some groups with GPUs have an RDMA device and others do not, so the KV cache goes over TCP or not at all.",
        "Give all of these groups the same network resource.",
        "limits: {nvidia.com/gpu: 8, rdma/hca: 1}   # in one group, and in the other only nvidia.com/gpu: 8",
        _pd_network,
    ),
)
