"""Limits of a stream, since nothing else bounds one: no Ray, no web framework.

In Ray Serve 2.60 what a replica sends is kept for a client however slowly it reads, in Ray's object store and in the
proxy's memory, and the replica does not get to know. (Measured: 200 MB for a client that read none of it were made
and taken in 10 s.) So a predictor is asked for one item at a time, nothing is kept here, and a stream ends when it has
sent enough or lasted long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from serve_runtime.errors import DeadlineExceeded, TooLarge

NOTHING: Final[Any] = object()
"""Instead of an item, when there is none any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: from the request's begin to the stream's end. size: bytes sent. None for no limit."""

    seconds: float | None
    size: int | None


class Sending:
    """What a stream sends, item by item. begun: time of the event loop's clock at which the request began."""

    def __init__(self, items: AsyncIterator[Any], encode: Callable[[Any], bytes], limits: Limits, begun: float) -> None:
        self._items = items
        self._encode = encode
        self._limits = limits
        self._until = None if limits.seconds is None else begun + limits.seconds
        self._sent = 0

    async def next(self, *, within_s: float | None = None) -> bytes | None:
        """The next part; None after the last one. within_s: besides the stream's own limit, from now on.

        Raises DeadlineExceeded and TooLarge beyond the limits, and what the items and ``encode`` raise.
        """
        now = asyncio.get_running_loop().time()
        ends = [each for each in (self._until, None if within_s is None else now + within_s) if each is not None]
        try:
            async with asyncio.timeout_at(min(ends, default=None)) as scope:
                item = await anext(self._items, NOTHING)
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded("the stream took too long") from None
            raise
        if item is NOTHING:
            return None
        part = self._encode(item)
        self._sent += len(part)
        if self._limits.size is not None and self._sent > self._limits.size:
            raise TooLarge(f"the stream has more than {self._limits.size} bytes")
        return part
