"""What a decode replica makes of a prompt that no prefill replica reads: by duck typing, no Ray needed.

Ray's orchestrator (2.60, ``PDOrchestratorMixin``) takes the first chunk of a prefill replica's answer, for as long as
that takes, and lets an exception through as it is. So the handle to the prefill replicas is wrapped: within a time
limit there is a chunk, or a refusal that tells whose fault it is and when to ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from serve_runtime.errors import DeadlineExceeded, Refusal, Unavailable
from serve_runtime.llm import failures
from serve_runtime.llm.disaggregated.args import WithoutPrefill
from serve_runtime.observe import tracing

_LOG = logging.getLogger("ray.serve")
Outcome: TypeAlias = Literal["ok", "refused", "failed", "timeout", "cancelled"]
"""How asking prefill replicas ended. ``refused``: the request is the caller's mistake."""
Noted: TypeAlias = Callable[[Outcome, float], None]
"""Called once for each prompt: the outcome, and the seconds."""
_METHODS: Final = frozenset({"chat", "completions"})
_GONE: Final = frozenset({"RayActorError", "ReplicaUnavailableError", "NodeDiedError", "OwnerDiedError"})
"""The replica asked has died, it did not say no: another one may be asked. By name, as in :mod:`failures`."""


class PrefillFailed(Unavailable):
    """No prefill replica has read the prompt."""

    code = "prefill_failed"


class PrefillTimeout(DeadlineExceeded):
    """None has done so in time."""

    code = "prefill_timeout"


@dataclass(frozen=True, slots=True)
class NoCache:
    """Stands for a prefill replica's chunk: there is no cache to fetch, so the decode engine reads the prompt."""

    kv_transfer_params: None = None
    prompt_token_ids: None = None
    choices: tuple[()] = ()


class GuardedHandle:
    """A handle to prefill replicas, as the orchestrator uses it."""

    def __init__(self, handle: Any, rules: WithoutPrefill, noted: Noted) -> None:
        self._handle = handle
        self._rules = rules
        self._noted = noted

    def options(self, **options: Any) -> GuardedHandle:
        """As of Ray's handle."""
        return GuardedHandle(self._handle.options(**options), self._rules, self._noted)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._handle, name)
        return _Method(found, self) if name in _METHODS else found

    async def answer(self, method: Any, args: tuple[Any, ...]) -> Any:
        """The first chunk, or what stands for it. Raises a Refusal."""
        begun = time.monotonic()
        outcome: Outcome = "cancelled"
        try:
            with tracing.span("prefill"):
                async with asyncio.timeout(self._rules.timeout_s):
                    chunk = await self._first(method, args)
            outcome = "refused" if _status(chunk) else "ok"
            return chunk
        except TimeoutError:
            outcome = "timeout"
            return self._instead(PrefillTimeout(f"no prefill replica has answered within {self._rules.timeout_s:g} s"))
        except PrefillFailed as error:
            outcome = "failed"
            return self._instead(error)
        except Refusal:
            outcome = "refused"
            raise
        finally:
            self._noted(outcome, time.monotonic() - begun)

    async def _first(self, method: Any, args: tuple[Any, ...]) -> Any:
        """Of as many replicas as there are tries. Raises PrefillFailed, or the refusal that is the caller's mistake."""
        left = self._rules.tries
        while True:
            left -= 1
            try:
                chunk = await _first_of(method.remote(*args))
            except Exception as error:
                cause = failures.cause_of(error)
                refusal = failures.as_refusal(cause, 0)
                if refusal.status < 500:
                    raise refusal from None
                if left and _GONE & {cls.__name__ for cls in type(cause).__mro__}:
                    continue
                _LOG.warning("prefill failed: %r", cause)
                raise PrefillFailed(f"the prompt could not be read: {refusal.message}") from None
            if _status(chunk) >= 500:
                _LOG.warning("prefill failed: %s", chunk.error.message)
                raise PrefillFailed("the prompt could not be read: the engine of a prefill replica failed at it")
            return chunk

    def _instead(self, refusal: Refusal) -> NoCache:
        if self._rules.then == "refuse":
            raise refusal
        return NoCache()


class _Method:
    """One method of the handle."""

    def __init__(self, method: Any, guarded: GuardedHandle) -> None:
        self._method = method
        self._guarded = guarded

    def remote(self, *args: Any) -> _Answer:
        """As of Ray's handle; nothing is sent before the first chunk is asked for."""
        return _Answer(self._guarded, self._method, args)


class _Answer:
    """A stream of one chunk: prefill replicas generate one token."""

    def __init__(self, guarded: GuardedHandle, method: Any, args: tuple[Any, ...]) -> None:
        self._guarded = guarded
        self._method = method
        self._args: tuple[Any, ...] | None = args

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> Any:
        if self._args is None:
            raise StopAsyncIteration
        args, self._args = self._args, None
        return await self._guarded.answer(self._method, args)


async def _first_of(answers: Any) -> Any:
    """The first chunk of a stream, which is told to stop where nobody waits for it any more.

    Raises what the stream raises, and LookupError for one that ends without a chunk.
    """
    try:
        return await anext(answers)
    except StopAsyncIteration:
        raise LookupError("a prefill replica's answer has ended without a chunk") from None
    except asyncio.CancelledError:
        # The client is gone or the time is up: no need to read the prompt to its end, nor to keep its cache.
        with contextlib.suppress(Exception):
            answers.cancel()
        raise


def _status(chunk: Any) -> int:
    """Of an error that came as a chunk; 0 for what is none."""
    error = getattr(chunk, "error", None)
    return 0 if error is None else int(getattr(error, "code", None) or 500)
