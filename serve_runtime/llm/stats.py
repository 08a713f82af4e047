"""What an engine says of itself after each of its steps, kept for health, routing and autoscaling. Needs no vLLM.

vLLM exports all of this to Prometheus by itself (``ray_vllm_…``); here is only what decisions in the cluster need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from serve_runtime.autoscaling.buckets import Histogram

KV_CACHE_USAGE: Final = "kv_cache_usage"
TTFT: Final = "ttft_s"


class EngineStats:
    """One of vLLM's stat loggers, by its methods. unfinished: how many requests the engine has, from its front end.

    The engine tells nothing when its last request is cancelled; so without requests all is zero, whatever it told last.
    """

    def __init__(self, unfinished: Callable[[], int] = lambda: 0) -> None:
        self._unfinished = unfinished
        self.steps = 0
        self._running = self._waiting = 0
        self._usage = 0.0
        self.cached_tokens = self.prompt_tokens = 0
        self._ttft = Histogram(TTFT)

    def record(self, scheduler_stats: Any, iteration_stats: Any, **_: Any) -> None:
        """Called by vLLM; either may be None."""
        self.steps += 1
        if scheduler_stats is not None:
            self._running, self._waiting = scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
            self._usage = scheduler_stats.kv_cache_usage
            if (prefix := scheduler_stats.prefix_cache_stats) is not None:
                self.prompt_tokens += prefix.queries
                self.cached_tokens += prefix.hits
        if iteration_stats is not None:
            for seconds in iteration_stats.time_to_first_tokens_iter:
                self._ttft.observe(seconds)

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """Part of vLLM's protocol."""

    def log(self) -> None:
        """Part of vLLM's protocol."""

    def log_engine_initialized(self) -> None:
        """Part of vLLM's protocol."""

    def load(self) -> dict[str, float]:
        """For routers and policies: requests in and before the engine's batch, and the share of the KV cache in use."""
        if not (unfinished := self._unfinished()):
            return {"running": 0.0, "waiting": 0.0, KV_CACHE_USAGE: 0.0}
        waiting = min(self._waiting, unfinished)
        return {"running": float(unfinished - waiting), "waiting": float(waiting), KV_CACHE_USAGE: float(self._usage)}

    def autoscaling(self) -> dict[str, float]:
        """The same, and the buckets of the time to the first token."""
        return self.load() | self._ttft.stats()
