"""Shares of prompt text found in replicas' caches, router against router, on prompts with shared beginnings.

    .venv/bin/python bench/routing.py [--requests N] [--replicas N] [--beginnings N] [--routers N] [--seed N]

A simulation of the choosing logic that the routers run, without Ray: each replica has an LRU cache of prompt blocks;
a request keeps its replica busy for a fixed time and for each block that is not cached. Several routers, as many as
there are proxies or ingress replicas, share nothing and know only their own requests. Conversations grow: each turn
repeats all before it. Prints a table; it ends by itself within seconds.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serve_runtime.routing import choose
from serve_runtime.routing.choose import Candidate, PrefixIndex
from serve_runtime.routing.settings import Prefix

BLOCK = 128
RATE = 60.0  # requests a second
BASE_S, BLOCK_S = 1.0, 0.04  # of decoding, and of prefilling one block


@dataclass(frozen=True)
class Request:
    """One turn of a conversation."""

    session: str
    prompt: str


@dataclass
class Replica:
    """Its cache of blocks, newest last."""

    capacity: int
    cache: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def prefill(self, blocks: Sequence[bytes]) -> int:
        """How many blocks from the beginning were cached; afterwards all are, as far as there is room."""
        hits = next((i for i, name in enumerate(blocks) if name not in self.cache), len(blocks))
        for name in reversed(blocks):
            self.cache[name] = None
            self.cache.move_to_end(name)
        while len(self.cache) > self.capacity:
            self.cache.popitem(last=False)
        return hits


def workload(count: int, beginnings: int, rng: random.Random) -> list[Request]:
    """Conversations of one to six turns, interleaved; few beginnings are popular, most are rare."""
    weights = [1 / (rank + 1) for rank in range(beginnings)]
    systems = [_text(rng, 2400) for _ in range(beginnings)]
    open_ones: list[tuple[str, str]] = []
    found: list[Request] = []
    while len(found) < count:
        if open_ones and rng.random() < 0.6:
            session, text = open_ones.pop(rng.randrange(len(open_ones)))
        else:
            session, text = f"session-{len(found)}", rng.choices(systems, weights)[0]
        text += _text(rng, rng.randint(100, 600))
        found.append(Request(session, text))
        if rng.random() < 0.75:
            open_ones.append((session, text))
    return found


def _text(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=length))


Choose = Callable[[Request, Sequence[bytes], Sequence[Candidate], PrefixIndex], str]


def routers(rng: random.Random) -> dict[str, Choose]:
    """By name: what chooses a replica."""

    def default(_request: Request, _blocks: Sequence[bytes], some: Sequence[Candidate], _index: PrefixIndex) -> str:
        return choose.power_of_two(some, rng)[0]

    def sticky(request: Request, _blocks: Sequence[bytes], some: Sequence[Candidate], _index: PrefixIndex) -> str:
        return choose.sticky(request.session, some, math.inf)[0]

    def prefix(balance: float) -> Choose:
        rules = Prefix(balance=balance)
        return lambda _request, blocks, some, index: choose.by_prefix(index, blocks, some, rules)[0]

    return {
        "power of two (Ray's default)": default,
        "sticky by session": sticky,
        "prefix, balance 1.25": prefix(1.25),
        "prefix, balance 1.5": prefix(1.5),
        "prefix, balance 2": prefix(2.0),
    }


@dataclass(frozen=True)
class Result:
    """Share of blocks found in a cache, seconds of prefill at the median and at the 95th percentile, and the largest
    number of requests of one replica as a multiple of the mean, at the median moment."""

    hits: float
    p50_s: float
    p95_s: float
    peak: float


def play(pick: Choose, work: Sequence[Request], replicas: int, count: int, capacity: int) -> Result:
    """Plays all requests."""
    caches = {f"replica-{number}": Replica(capacity) for number in range(replicas)}
    indexes = [PrefixIndex(BLOCK) for _ in range(count)]
    known = [Counter[str]() for _ in range(count)]  # each router counts its own requests, as Ray's do
    busy: Counter[str] = Counter()
    ends: list[tuple[float, int, str]] = []
    seconds, peaks, hits, blocks_in_all = [], [], 0, 0
    for number, request in enumerate(work):
        now, router = number / RATE, number % count
        while ends and ends[0][0] <= now:
            _, by, gone = heapq.heappop(ends)
            busy[gone] -= 1
            known[by][gone] -= 1
        index = indexes[router]
        blocks = index.blocks(request.prompt)
        name = pick(request, blocks, [Candidate(one, known[router][one]) for one in caches], index)
        index.record(blocks, name)
        found = caches[name].prefill(blocks)
        prefill = (len(blocks) - found) * BLOCK_S
        busy[name] += 1
        known[router][name] += 1
        heapq.heappush(ends, (now + BASE_S + prefill, router, name))
        hits, blocks_in_all = hits + found, blocks_in_all + len(blocks)
        seconds.append(prefill)
        peaks.append(max(busy.values()) * replicas / max(busy.total(), 1))
    late = statistics.quantiles(seconds, n=20)[-1]
    return Result(hits / blocks_in_all, statistics.median(seconds), late, statistics.median(peaks))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("requests", 8000), ("replicas", 8), ("beginnings", 200), ("routers", 2), ("seed", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--capacity", type=int, default=1500, help="blocks that a replica's cache holds")
    asked = parser.parse_args()
    work = workload(asked.requests, asked.beginnings, random.Random(asked.seed))
    print(f"{asked.requests} requests, {asked.beginnings} beginnings, {asked.replicas} replicas of {asked.capacity}"
          f" blocks, {asked.routers} routers")  # fmt: skip
    print(f"{'router':30} {'cache hits':>10} {'prefill p50':>12} {'p95':>8} {'fullest/mean':>13}")
    for name, pick in routers(random.Random(asked.seed)).items():
        result = play(pick, work, asked.replicas, asked.routers, asked.capacity)
        print(f"{name:30} {result.hits:10.1%} {result.p50_s:10.2f} s {result.p95_s:6.2f} s {result.peak:13.2f}")


if __name__ == "__main__":
    main()
