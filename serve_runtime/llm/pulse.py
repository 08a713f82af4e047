"""Whether an engine really generates: asked only when nothing else shows it. Pure but for the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from serve_runtime.llm.args import Health

_TO_CANCEL_S = 1.0


class NoPulseError(RuntimeError):
    """The engine is ill; the text says how that was found."""


class Pulse:
    """steps: how many steps the engine has made, all requests together. ask: has it generate one token."""

    def __init__(
        self,
        health: Health,
        steps: Callable[[], int],
        ask: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health, self._steps, self._ask, self._clock = health, steps, ask, clock
        self._seen, self._since = steps(), clock()

    async def check(self) -> None:
        """Returns within ``timeout_s`` and a second. Raises NoPulseError.

        A busy engine is not asked: the question would wait behind all other requests, and the answer be late just
        because there is much to do. So while one waits for it, steps made for others count as well.
        """
        if self._moved() or self._clock() - self._since < self._health.idle_s:
            return
        asking = asyncio.ensure_future(self._ask())
        try:
            await asyncio.wait({asking}, timeout=self._health.timeout_s)
            if asking.done():
                try:
                    asking.result()
                except Exception as error:
                    raise NoPulseError(f"a request for one token failed: {type(error).__name__}: {error}") from error
                self._seen, self._since = self._steps(), self._clock()
            elif not self._moved():
                raise NoPulseError(f"no token came in {self._health.timeout_s:g} s, and the engine made no step")
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking}, timeout=_TO_CANCEL_S)

    def _moved(self) -> bool:
        steps = self._steps()
        if steps == self._seen:
            return False
        self._seen, self._since = steps, self._clock()
        return True
