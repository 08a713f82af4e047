"""Replicas of both sides: those of ``ray.serve.llm``, with what all replicas here have. Needs Ray and vLLM."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.llm.deployment import PDDecodeServer, PDPrefillServer

from serve_runtime.errors import Unavailable
from serve_runtime.llm.disaggregated.configs import without_prefill
from serve_runtime.llm.disaggregated.handover import GuardedHandle, Outcome
from serve_runtime.llm.meters import family
from serve_runtime.llm.server import Replica


class DecodeFailed(Unavailable):
    """The cache did not arrive, or the engine failed at the request."""

    code = "decode_failed"


class Prefill(Replica, PDPrefillServer):  # type: ignore[misc]
    """Reads prompts: the deployment ``Prefill:<model id>``."""


class Decode(Replica, PDDecodeServer):  # type: ignore[misc]
    """Has prompts read, fetches their caches, writes the answers: the deployment ``Decode:<model id>``."""

    _prefill_handle: Any

    async def __init__(self, llm_config: Any, **named: Any) -> None:  # type: ignore[misc] # Ray Serve awaits it
        """Raises what loading raises, and RuntimeError where no prefill replica comes to shake hands with."""
        await super().__init__(llm_config, **named)
        self._seconds = family().histogram(
            "prefill_seconds",
            "From the request to the prefill replica's answer, waiting for one included.",
            ("outcome",),
        )
        # Only now: Ray's own handshake, in the constructor above, goes to every replica and needs the handle itself.
        rules = without_prefill(llm_config.experimental_configs)
        self._prefill_handle = GuardedHandle(self._prefill_handle, rules, self._note)

    async def _maybe_prewarm(self) -> None:
        """Ray's handshake, after a whole prompt of this engine's own.

        vLLM's kernels for CPUs ask the system for AMX when they first read a prompt, and not when they first go on from
        a cache that came over the network: in bfloat16 that was «Illegal instruction» (vLLM 0.29).
        """
        await self._generate(32, 1)
        await super()._maybe_prewarm()

    def _note(self, outcome: Outcome, seconds: float) -> None:
        self._seconds.observe(seconds, {"outcome": outcome})

    async def _pd_handle_request(self, request: Any, raw_request_info: Any = None) -> AsyncGenerator[Any, None]:
        """Ray's orchestration. Raises DecodeFailed where the engine has nothing to say but that it failed."""
        async with contextlib.aclosing(super()._pd_handle_request(request, raw_request_info)) as answers:
            async for chunk in answers:
                error = getattr(chunk, "error", None)
                if error is not None and int(getattr(error, "code", None) or 500) >= 500:
                    raise DecodeFailed("the answer could not be written; ask again")
                yield chunk
