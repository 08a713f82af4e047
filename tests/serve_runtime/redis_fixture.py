"""A real Redis for tests, and the skip where none can be had."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from e2e import redis_process
from e2e.localkube.errors import LocalKubeError
from e2e.redis_process import RedisProcess

DURABLE = 'appendonly yes\nappendfsync always\nsave ""'
"""What it takes to lose nothing when it is killed."""


@contextlib.contextmanager
def redis_server(settings: str = 'save ""') -> Iterator[RedisProcess]:
    """A server for the length of the block; skips the test where none can be started."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(redis_process.running(settings=settings))
        except LocalKubeError as error:
            pytest.skip(f"no redis-server here: {error}")
        yield server
