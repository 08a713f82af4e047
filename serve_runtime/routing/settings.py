"""Settings of the routers, ``request_router_kwargs``: strict, unknown keys refused. No Ray needed."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import Field, PositiveInt, ValidationError

from serve_runtime.strict import Strict

S = TypeVar("S", bound="Settings")


class Settings(Strict):
    """Common to all routers."""


class Sticky(Settings):
    """Of :class:`~serve_runtime.routing.routers.StickyRouter`.

    header: the request header whose value is the key; letter case does not matter.
    balance: a replica above this multiple of the mean load is passed over; null for never.
    fallbacks: how many other replicas are tried, in the key's order, while its first is full.
    """

    header: str = Field(default="x-session-id", pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    balance: float | None = Field(default=None, ge=1)
    fallbacks: int = Field(default=2, ge=0)

    @property
    def limit(self) -> float:
        return math.inf if self.balance is None else self.balance


class Prefix(Settings):
    """Of :class:`~serve_runtime.routing.routers.PrefixRouter`.

    balance: no replica gets a request that lifts it above this multiple of the mean load.
    block: characters by which prompts are compared; four are about one token, and 16 tokens one block of vLLM.
    capacity: blocks that are remembered, about 200 bytes each.
    least_match: share of a prompt that must be known for its replica to be preferred.
    least_bound: requests that a replica may have whatever the mean is. At little traffic the multiple of the mean is
        one request, and a prompt would be read anew elsewhere because its replica has another one in the batch.
    """

    balance: float = Field(default=1.5, ge=1)
    block: PositiveInt = 128
    capacity: PositiveInt = 100_000
    least_match: float = Field(default=0.1, ge=0, le=1)
    least_bound: PositiveInt = 4


class KvCache(Settings):
    """Of :class:`~serve_runtime.routing.routers.KvCacheRouter`.

    stat: the name in ``record_routing_stats`` of the share in use, 0 to 1.
    weight: what the mean number of requests counts beside it.
    """

    stat: str = Field(default="kv_cache_usage", min_length=1)
    weight: float = Field(default=0.5, ge=0)


def parse(kind: type[S], arguments: dict[str, Any]) -> S:
    """Raises ValueError, which names each key that is wrong and the keys that there are."""
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise ValueError(f"request_router_kwargs ({known}): {error}") from error
