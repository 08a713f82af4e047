"""The application: an ingress, decode replicas behind it, prefill replicas behind those. Needs Ray and vLLM."""

from __future__ import annotations

from typing import Any

from serve_runtime.llm.application import NEEDS, check_engine_arguments, inheriting
from serve_runtime.llm.disaggregated import configs
from serve_runtime.llm.disaggregated.args import PrefillDecodeArgs


def prefill_decode(args: PrefillDecodeArgs) -> Any:
    """As ``ray.serve.llm:build_pd_openai_app``, which itself fixes the classes of both sides.

    Raises ValueError that names the side and the argument, ModuleNotFoundError without vLLM or NIXL.
    """
    try:
        import nixl  # noqa: F401, PLC0415 - vLLM would only miss it in each replica
        from ray.llm._internal.serve.serving_patterns.prefill_decode.builder import PDServingArgs  # noqa: PLC0415
        from ray.serve.llm import build_llm_deployment  # noqa: PLC0415
    except ImportError as missing:
        raise ModuleNotFoundError(NEEDS.format(missing)) from missing
    for side in ("prefill", "decode"):
        check_engine_arguments(args.side(side).engine, f"{side}.engine")
    inherited = args.model_copy(update={"prefill": inheriting(args.prefill), "decode": inheriting(args.decode)})
    # Validated again: what must not be in a side's environment must not come from the application's either.
    args = PrefillDecodeArgs.model_validate(inherited.model_dump(exclude_unset=True))
    checked = PDServingArgs.model_validate(configs.serving_args(args))
    prefill = build_llm_deployment(
        checked.prefill_config, name_prefix="Prefill:", deployment_cls=checked.prefill_config.server_cls
    )
    decode = build_llm_deployment(
        checked.decode_config,
        name_prefix="Decode:",
        bind_kwargs={"prefill_server": prefill},
        deployment_cls=checked.decode_config.server_cls,
    )
    return _ingress(checked, decode)


def _ingress(checked: Any, decode: Any) -> Any:
    """In front of the decode replicas, which are what answers; as Ray's builder makes it."""
    from ray.llm._internal.common.dict_utils import maybe_apply_llm_deployment_config_defaults  # noqa: PLC0415
    from ray.llm._internal.serve.core.configs.openai_api_models import to_model_metadata  # noqa: PLC0415
    from ray.serve.llm.ingress import make_fastapi_ingress  # noqa: PLC0415

    from ray import serve  # noqa: PLC0415

    model, wanted = checked.decode_config, checked.ingress_cls_config
    options = maybe_apply_llm_deployment_config_defaults(
        wanted.ingress_cls.get_deployment_options([model]), checked.ingress_deployment_config
    )
    lora = model.lora_config
    return serve.deployment(make_fastapi_ingress(wanted.ingress_cls), **options).bind(
        llm_deployments={model.model_id: decode},
        model_cards={model.model_id: to_model_metadata(model.model_id, model)},
        lora_paths={} if lora is None else {model.model_id: lora.dynamic_lora_loading_path},
        **wanted.ingress_extra_kwargs,
    )
