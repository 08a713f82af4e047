"""Limits of streams, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_runtime.errors import DeadlineExceeded, TooLarge
from serve_runtime.web.streams import Limits, Sending


async def each(parts: list[bytes], asked: list[bytes]) -> AsyncIterator[bytes]:
    """Parts; ``asked`` gets those that were wanted."""
    for part in parts:
        asked.append(part)
        yield part


@given(st.lists(st.binary(max_size=20)), st.integers(1, 100))
async def test_parts_are_made_one_at_a_time_up_to_the_limit(parts: list[bytes], size: int) -> None:
    asked: list[bytes] = []
    sending = Sending(each(parts, asked), bytes, Limits(None, size), 0.0)
    sent: list[bytes] = []
    try:
        while (part := await sending.next()) is not None:
            sent.append(part)
            assert asked == sent
    except TooLarge:
        assert sum(map(len, asked)) > size
        assert asked[:-1] == sent
    else:
        assert sent == parts
    assert sum(map(len, sent)) <= size


async def test_a_stream_ends_at_its_deadline_whoever_holds_it_up() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    sending = Sending(stuck(), bytes, Limits(0.05, None), loop.time())
    assert await sending.next(within_s=60) == b"first"
    with pytest.raises(DeadlineExceeded):
        await sending.next()


async def test_the_first_part_may_have_a_shorter_one() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    sending = Sending(stuck(), bytes, Limits(3600, None), asyncio.get_running_loop().time())
    with pytest.raises(DeadlineExceeded):
        await sending.next(within_s=0.05)


async def test_a_timeout_of_the_predictors_own_is_its_own() -> None:
    async def fails() -> AsyncIterator[bytes]:
        raise TimeoutError("a database")
        yield b""

    with pytest.raises(TimeoutError, match="a database"):
        await Sending(fails(), bytes, Limits(3600, None), asyncio.get_running_loop().time()).next()
