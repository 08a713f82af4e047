"""What the LLM applications' metrics have in common; vLLM exports its own beside them (``ray_vllm_…``)."""

from __future__ import annotations

from typing import Final

from serve_runtime.observe.meters import Family

START_SECONDS: Final = [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0]


def family() -> Family:
    """``serve_runtime_llm_…``."""
    return Family("llm")
