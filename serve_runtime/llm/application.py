"""Builds the application with ray.serve.llm. Needs Ray and vLLM."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, TypeVar

from serve_runtime.llm import configs
from serve_runtime.llm.args import OpenAiArgs, Serving

NEEDS = "serve_runtime.llm needs vLLM and Ray: install rayservice-operator[llm] in the image of every Ray pod ({})"

S = TypeVar("S", bound=Serving)


def openai(args: OpenAiArgs) -> Any:
    """The application. Raises ValueError that names the model and the argument, ModuleNotFoundError without vLLM."""
    try:
        from ray.serve.llm import build_openai_app  # noqa: PLC0415 - said below what is missing
    except ImportError as missing:
        raise ModuleNotFoundError(NEEDS.format(missing)) from missing
    for model in args.models:
        check_engine_arguments(model.engine, f"model {model.id}: engine")
    models = [inheriting(model) for model in args.models]
    return build_openai_app(configs.serving_args(args.model_copy(update={"models": models})))


def inheriting(serving: S) -> S:
    """With the variables of the application's ``runtime_env``, behind its own. ray.serve.llm gives its replicas a
    runtime environment of their own, in whose place Ray Serve puts none of the application's (2.60): an object
    store's credentials would not reach them."""
    import ray  # noqa: PLC0415

    found = ray.get_runtime_context().runtime_env if ray.is_initialized() else {}
    return serving.model_copy(update={"env": {**((found or {}).get("env_vars") or {}), **serving.env}})


def check_engine_arguments(engine: dict[str, Any], where: str) -> None:
    """Raises ValueError for names that this vLLM does not have; ray.serve.llm would too, but suggest none."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import FrontendArgs  # noqa: PLC0415

    known = {field.name for cls in (AsyncEngineArgs, FrontendArgs) for field in dataclasses.fields(cls)}
    for name in engine:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ValueError(f"{where}.{name}: vLLM has no such argument{f'; {near[0]}?' if near else ''}")
