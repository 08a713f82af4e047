"""``serve_runtime.llm:openai``: language models behind OpenAI's API, by vLLM and ray.serve.llm.

Importing this needs neither Ray nor vLLM; building an application needs both. No postponed annotations here: Ray Serve
looks at the builder's annotation to know the model of its arguments, and has to find the class itself.
"""

import typing

from serve_runtime.llm.args import OpenAiArgs

if typing.TYPE_CHECKING:
    from ray import serve

__all__ = ["OpenAiArgs", "openai"]


def openai(args: OpenAiArgs) -> "serve.Application":
    """Application builder. Raises ValueError that names the field, and ModuleNotFoundError without vLLM."""
    from serve_runtime.llm import application  # noqa: PLC0415 - needs Ray and vLLM

    return application.openai(args)
