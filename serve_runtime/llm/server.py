"""Replicas of a model: ray.serve.llm's, warmed up before they are ready, checked more deeply, telling their load.

Needs Ray and vLLM.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any, Final

from fastapi import HTTPException
from ray.llm._internal.serve.core.configs.openai_api_models import CompletionRequest, ErrorResponse
from ray.serve.llm.deployment import LLMServer

from serve_runtime.errors import UnknownModel
from serve_runtime.llm.configs import SETTINGS, ReplicaSettings
from serve_runtime.llm.failures import BadAdapter
from serve_runtime.llm.meters import START_SECONDS, family
from serve_runtime.llm.pulse import Pulse
from serve_runtime.llm.stats import EngineStats

_LOG = logging.getLogger("ray.serve")
_LOOK_EVERY_S: Final = 0.5


class Replica:
    """What is added to one of ray.serve.llm's servers; to be named before it among the bases of a class.

    The constructor's own work is done when Ray Serve calls it ready: so a replica that has warmed up.
    """

    engine: Any
    _llm_config: Any

    async def __init__(self, llm_config: Any, *arguments: Any, **named: Any) -> None:  # type: ignore[misc]
        """Raises what loading raises, and TimeoutError or RuntimeError that name ``warm_up``."""
        self._settings = ReplicaSettings.model_validate(llm_config.experimental_configs.get(SETTINGS, {}))
        meters = family()
        started = meters.histogram(
            "start_seconds",
            "From the constructor to the engine's start, and the warm-up after it.",
            ("model", "part"),
            START_SECONDS,
        )
        self._ill = meters.gauge("ill", "1 while the health check fails.", ("model",))
        self._began_at, begun = time.time(), time.monotonic()
        await super().__init__(llm_config, *arguments, **named)  # type: ignore[misc,call-arg]
        loaded = time.monotonic()
        self._stats = EngineStats()
        client = getattr(self.engine, "_engine_client", None)
        if client is not None and getattr(client, "logger_manager", None) is not None:
            self._stats = EngineStats(client.output_processor.get_num_unfinished_requests)
            client.logger_manager.stat_loggers.append(self._stats)
        await self._warm_up()
        warm = time.monotonic()
        self._took = {"engine": loaded - begun, "warm_up": warm - loaded}
        for part, seconds in self._took.items():
            started.observe(seconds, {"model": llm_config.model_id, "part": part})
        _LOG.info("%s is ready: engine %.1f s, warm-up %.1f s", llm_config.model_id, *self._took.values())
        self._pulse = Pulse(self._settings.health, lambda: self._stats.steps, lambda: self._generate(1, 1))
        self._watch = asyncio.create_task(_end_with(client)) if client is not None else None

    def _generates(self) -> bool:
        """Whether the model completes texts; one that embeds has no tokens to ask for."""
        return getattr(self.engine, "_oai_serving_completion", None) is not None

    async def _warm_up(self) -> None:
        if (warm_up := self._settings.warm_up) is None or not self._generates():
            return
        try:
            async with asyncio.timeout(warm_up.timeout_s):
                await asyncio.gather(*(self._generate(n, warm_up.max_tokens) for n in warm_up.prompt_tokens))
        except TimeoutError:
            raise TimeoutError(f"warm_up: not done within timeout_s, {warm_up.timeout_s:g} s") from None
        except RuntimeError as error:
            raise RuntimeError(f"warm_up: {error}") from error

    async def _generate(self, prompt_tokens: int, max_tokens: int) -> None:
        """Has the engine answer a prompt of that length. Raises RuntimeError for an answer that is an error."""
        request = CompletionRequest(
            model=self._llm_config.model_id,
            prompt=[1 + n % 64 for n in range(prompt_tokens)],
            max_tokens=max_tokens,
            min_tokens=max_tokens,
            temperature=0,
        )
        async for answer in self.engine.completions(request):
            if isinstance(answer, ErrorResponse):
                raise RuntimeError(answer.error.message)

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        """Raises UnknownModel for an adapter that is not there, BadAdapter for one that does not fit."""
        try:
            await super()._maybe_resolve_lora_from_multiplex()  # type: ignore[misc]
        except HTTPException as error:
            raise UnknownModel(str(error.detail)) from None
        except ValueError as error:
            raise BadAdapter(f"the adapter cannot be used: {error}") from None

    async def check_health(self) -> None:
        """Called every ``health.period_s``, not before the constructor is through. Raises what tells the reason."""
        tags = {"model": self._llm_config.model_id}
        try:
            await super().check_health()  # type: ignore[misc]
            if self._settings.health.deep and self._generates() and not await self._resting():
                await self._pulse.check()
        except Exception:
            self._ill.set(1, tags)
            raise
        self._ill.set(0, tags)

    async def _resting(self) -> bool:
        """Whether the engine generates nothing on purpose."""
        return bool(await self.engine.is_paused() or await self.engine.is_sleeping())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For autoscaling policies."""
        return self._stats.autoscaling()

    async def record_routing_stats(self) -> dict[str, Any]:
        """For request routers, with what ray.serve.llm's own need."""
        return {**await super().record_routing_stats(), **self._stats.load()}  # type: ignore[misc]

    async def load(self) -> dict[str, float]:
        """What goes on in this replica and how its start went; for tests and benches, which call it by handle."""
        return self._stats.load() | {
            "steps": float(self._stats.steps),
            "prompt_tokens": float(self._stats.prompt_tokens),
            "cached_tokens": float(self._stats.cached_tokens),
            "began_at": self._began_at,
            "engine_s": self._took["engine"],
            "warm_up_s": self._took["warm_up"],
        }


async def _end_with(client: Any) -> None:
    """Ends this process when its engine is dead, which is for good.

    Ray would replace the replica after three failed checks, half a minute; until then, refusing at once, it would have
    the shortest queue of all and draw the requests of the others to itself.
    """
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        if client.errored:
            break
    _LOG.error("The engine has died; this replica ends, so that another one takes its place at once.")
    await asyncio.sleep(_LOOK_EVERY_S)  # what is in flight is told
    os._exit(1)


class LLM(Replica, LLMServer):  # type: ignore[misc]
    """The deployment ``LLM:<model id>``."""
