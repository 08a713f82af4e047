"""Which replica a request should go to. Pure: no Ray, no clock; randomness comes in as a generator.

Every function answers with candidates best first; who calls tries them in that order until one has room.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_runtime.routing.settings import Prefix


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that runs.

    load: requests that it has as far as this router knows; None when unknown.
    stats: what its ``record_routing_stats`` returned last, seconds old.
    """

    id: str
    load: int | None = 0
    stats: Mapping[str, Any] = field(default_factory=dict)


def loads(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Load by id; one that is unknown counts as the mean of the known, so that it is neither flooded nor shunned."""
    known = [c.load for c in candidates if c.load is not None]
    mean = sum(known) / len(known) if known else 0.0
    return {c.id: mean if c.load is None else float(c.load) for c in candidates}


def bound(load: Mapping[str, float], balance: float, least: int = 1) -> int:
    """How many requests a replica may have, the new one included: ``balance`` times the mean, rounded up, or ``least``.

    With ``balance`` ≥ 1 at least one replica is always below it, since not all are above the mean.
    """
    return max(math.ceil(balance * (sum(load.values()) + 1) / len(load) - 1e-9), least)


def within(order: Sequence[str], load: Mapping[str, float], balance: float, least: int = 1) -> list[str]:
    """Those of ``order`` that may have one more request, in that order."""
    limit = bound(load, balance, least)
    return [replica for replica in order if load[replica] + 1 <= limit]


def by_hash(key: str, replicas: Collection[str]) -> list[str]:
    """Replicas in the order of the key's preference (rendezvous hashing): the same in every process.

    When a replica goes, only its keys move; when one comes, it takes an equal share from each of the others.
    """
    return sorted(replicas, key=lambda replica: (_score(key, replica), replica), reverse=True)


def _score(key: str, replica: str) -> bytes:
    return hashlib.blake2b(replica.encode(), digest_size=8, key=_digest(key)).digest()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def sticky(key: str, candidates: Sequence[Candidate], balance: float) -> list[str]:
    """Consistent hashing with bounded loads: the key's first choice that is not above the bound, then its others.

    ``balance`` of infinity is strict stickiness.
    """
    load = loads(candidates)
    order = by_hash(key, load)
    return order if math.isinf(balance) else within(order, load, balance)


def power_of_two(candidates: Sequence[Candidate], rng: random.Random) -> list[str]:
    """Two at random, the less loaded first; one if there is but one."""
    load = loads(candidates)
    two = rng.sample(sorted(load), min(2, len(load)))
    return sorted(two, key=load.__getitem__)


def least_used(candidates: Sequence[Candidate], stat: str, weight: float, rng: random.Random) -> list[str]:
    """The least share of the KV cache in use first; none when no replica tells.

    Stats are seconds old, and all that arrives between two reports would go to one replica: so requests count beside
    them, ``weight`` for as many as the mean. A replica that does not tell counts as the mean of those that do.
    """
    told = {c.id: float(c.stats[stat]) for c in candidates if _is_share(c.stats.get(stat))}
    if not told:
        return []
    load = loads(candidates)
    mean_load, mean_use = sum(load.values()) / len(load), sum(told.values()) / len(told)
    score = {c.id: told.get(c.id, mean_use) + weight * load[c.id] / (mean_load + 1) for c in candidates}
    order = sorted(score)
    rng.shuffle(order)  # equals must not all choose the same
    return sorted(order, key=score.__getitem__)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


class PrefixIndex:
    """Which replica has seen which beginnings of prompts: an approximation of what their KV caches hold.

    A prompt is cut into blocks of ``block`` characters; each is named by a hash of all text up to its end, so that
    equal names mean equal beginnings. The newest ``capacity`` blocks are kept. One index belongs to one router.
    """

    def __init__(self, block: int = 128, capacity: int = 100_000) -> None:
        """Raises ValueError unless both are positive."""
        if block < 1 or capacity < 1:
            raise ValueError(f"block {block} and capacity {capacity} must be at least 1")
        self._block, self._capacity = block, capacity
        self._seen: OrderedDict[bytes, set[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def blocks(self, prompt: str) -> list[bytes]:
        """Names of the whole blocks of a prompt; a shorter prompt is one block."""
        digest, names = hashlib.blake2b(digest_size=16), []
        for end in range(self._block, max(len(prompt), self._block) + 1, self._block):
            digest.update(prompt[end - self._block : end].encode("utf-8", "surrogatepass"))
            names.append(digest.copy().digest())
        return names

    def matches(self, blocks: Sequence[bytes], replicas: Collection[str]) -> dict[str, int]:
        """How many blocks from the beginning each replica has seen; those that have seen none are left out."""
        depth: dict[str, int] = {}
        alive = set(replicas)
        for number, name in enumerate(blocks, 1):
            alive &= self._seen.get(name, set())
            if not alive:
                break
            depth.update(dict.fromkeys(alive, number))
        return depth

    def record(self, blocks: Sequence[bytes], replica: str) -> None:
        """A prompt went to a replica. The oldest blocks give way; of one prompt the last before the first."""
        for name in reversed(blocks):
            self._seen.setdefault(name, set()).add(replica)
            self._seen.move_to_end(name)
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)

    def forget(self, gone: Collection[str]) -> None:
        """Replicas that are no more take their caches with them."""
        if not gone:
            return
        for name in list(self._seen):
            self._seen[name] -= set(gone)
            if not self._seen[name]:
                del self._seen[name]


def by_prefix(index: PrefixIndex, blocks: Sequence[bytes], candidates: Sequence[Candidate], rules: Prefix) -> list[str]:
    """Replicas below the load bound: the longest known beginning first, the less loaded first among equals.

    Where less than ``rules.least_match`` of the prompt is known, its first block is hashed: routers in different
    processes, which share no index, then send the same beginning to the same replica.
    """
    load = loads(candidates)
    depth = index.matches(blocks, load.keys())
    preferred = by_hash(blocks[0].hex(), load)
    if max(depth.values(), default=0) >= max(rules.least_match * len(blocks), 1):
        rank = {replica: place for place, replica in enumerate(preferred)}
        preferred = sorted(load, key=lambda replica: (-depth.get(replica, 0), load[replica], rank[replica]))
    return within(preferred, load, rules.balance, rules.least_bound)
