"""How many tasks of a queue are unfinished, asked without blocking anybody."""

from __future__ import annotations

from redis import asyncio as aioredis

from serve_runtime.tasks import addresses
from serve_runtime.tasks.ledger import prefix_of


async def unfinished(store_url: str, queue: str, timeout_s: float) -> int:
    """Tasks that wait, run, or whose retry is due. A retry that waits for its time needs no consumer yet.

    A connection of its own each time: one a second costs nothing, and none is left behind when a policy is replaced.
    Raises AddressError, RedisError.
    """
    address = addresses.expand(store_url, field="store_url", schemes=addresses.STORES)
    prefix = prefix_of(queue)
    client = aioredis.Redis.from_url(address, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    async with client, client.pipeline(transaction=False) as pipe:
        pipe.zcard(prefix + "queued")
        pipe.zcard(prefix + "running")
        return int(sum(await pipe.execute()))
