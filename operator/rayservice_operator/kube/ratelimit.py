"""A token bucket: the operator's share of the API server, whatever it has to do at once."""

from __future__ import annotations

import asyncio
import time


class TokenBucket:
    """``rate`` calls a second in the long run, ``burst`` at once. Waiters are served in their order."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Wait for a token. The debt is booked at once, so that who came first goes first."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1.0
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
