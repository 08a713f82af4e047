"""``serve_runtime.llm:openai`` and ``:prefill_decode``: language models behind OpenAI's API, by vLLM and
ray.serve.llm.

Importing this needs neither Ray nor vLLM; building an application needs both. No postponed annotations here: Ray Serve
looks at the builder's annotation to know the model of its arguments, and has to find the class itself.
"""

import typing

from serve_runtime.llm.args import OpenAiArgs
from serve_runtime.llm.disaggregated.args import PrefillDecodeArgs

if typing.TYPE_CHECKING:
    from ray import serve

__all__ = ["OpenAiArgs", "PrefillDecodeArgs", "openai", "prefill_decode"]


def openai(args: OpenAiArgs) -> "serve.Application":
    """Application builder. Raises ValueError that names the field, and ModuleNotFoundError without vLLM."""
    from serve_runtime.llm import application  # noqa: PLC0415 - needs Ray and vLLM

    return application.openai(args)


def prefill_decode(args: PrefillDecodeArgs) -> "serve.Application":
    """Application builder. Raises ValueError that names the side and the field, and ModuleNotFoundError without vLLM
    or NIXL."""
    from serve_runtime.llm.disaggregated import application  # noqa: PLC0415 - needs Ray and vLLM

    return application.prefill_decode(args)
