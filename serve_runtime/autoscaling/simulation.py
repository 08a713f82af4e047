"""What a policy does with a load, second by second: to choose settings, to test policies, to draw them.

A fluid model: each replica works on ``concurrency`` requests at a time, each for ``service_s``; what exceeds that
waits, first in first out. Between policy and replicas stand Ray's rules, :class:`RayRules`, as its 2.60 has them.
No randomness, no clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_runtime.autoscaling import buckets
from serve_runtime.autoscaling.observation import Observation, Point
from serve_runtime.autoscaling.policies import Policy


@dataclass(frozen=True, slots=True)
class RayRules:
    """The ``autoscaling_config`` around a policy, with Ray's meaning; factors are 1. Seconds."""

    min_replicas: int = 1
    max_replicas: int = 100
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    look_back_period_s: float = 30.0

    def bounded(self, replicas: int) -> int:
        return min(max(replicas, self.min_replicas), self.max_replicas)


@dataclass(slots=True)
class Delays:
    """A wish becomes a target once it has gone in one direction for that direction's delay."""

    rules: RayRules
    direction: int = 0
    since: float = 0.0

    def target(self, wanted: int, target: int, current: int, now: float) -> int:
        """The next target. From zero running replicas there is no delay, and zero is reached only from one."""
        if current == 0 and wanted > 0:
            return wanted
        direction = (wanted > target) - (wanted < target)
        if direction != self.direction:
            self.direction, self.since = direction, now
        delay = self.rules.upscale_delay_s if direction > 0 else self.rules.downscale_delay_s
        if not direction or now - self.since + 1e-6 < delay:
            return target
        self.direction = 0
        return wanted if direction > 0 or target == 1 else max(1, wanted)


@dataclass(frozen=True, slots=True)
class Service:
    """What is scaled. ``start_s``: from the target to a replica that answers."""

    concurrency: int = 8
    service_s: float = 2.0
    start_s: float = 30.0
    first_token_s: float = 0.2
    """Time to the first token of a request that does not wait."""


@dataclass(frozen=True, slots=True)
class Second:
    """One second: arrivals in it, requests in the system, replicas running and wanted, time to a first token."""

    at: float
    arrivals: float
    ongoing: float
    running: int
    target: int
    ttft_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """A whole simulation."""

    seconds: tuple[Second, ...]

    @property
    def replica_seconds(self) -> int:
        """What it costs: running and starting replicas, summed."""
        return sum(max(s.running, s.target) for s in self.seconds)

    def late(self, limit_s: float) -> float:
        """Share of the requests whose first token took longer than ``limit_s``."""
        everything = sum(s.arrivals for s in self.seconds)
        return sum(s.arrivals for s in self.seconds if s.ttft_s > limit_s) / everything if everything else 0.0

    @property
    def changes(self) -> int:
        """How often the target moved."""
        return sum(a.target != b.target for a, b in zip(self.seconds, self.seconds[1:], strict=False))


@dataclass(slots=True)
class _Replica:
    """One replica with what it reports: cumulative buckets, one sample a second, as long as Ray looks back."""

    name: str
    ready_at: float
    histogram: buckets.Histogram = field(default_factory=lambda: buckets.Histogram("ttft_s"))
    share: float = 0.0
    reports: deque[tuple[float, dict[str, float]]] = field(default_factory=deque)


class Simulation:
    """A deployment under load and its policy; :meth:`run` plays a trace."""

    def __init__(self, policy: Policy, rules: RayRules, service: Service, *, start_at: float = 0.0) -> None:
        self._policy, self._rules, self._service = policy, rules, service
        self._now, self._target, self._names = start_at, max(rules.min_replicas, 0), 0
        self._replicas = [self._new(start_at) for _ in range(self._target)]
        self._state: Mapping[str, Any] = {}
        self._delays = Delays(rules)
        self._waiting = self._busy = 0.0
        self._loads: deque[float] = deque(maxlen=max(1, round(rules.look_back_period_s)))

    def run(self, arrivals: Sequence[float]) -> Run:
        """Plays requests per second, one number for each second."""
        return Run(tuple(self._second(rate) for rate in arrivals))

    def _new(self, ready_at: float) -> _Replica:
        self._names += 1
        return _Replica(f"r{self._names}", ready_at)

    def _second(self, rate: float) -> Second:
        self._now += 1
        running = [replica for replica in self._replicas if replica.ready_at <= self._now]
        slots = len(running) * self._service.concurrency
        self._busy -= min(self._busy, self._busy / self._service.service_s)
        self._busy = self._busy if self._busy > 1e-3 else 0.0  # the last one leaves, too
        self._waiting += rate
        started = min(self._waiting, max(slots - self._busy, 0.0))
        self._waiting -= started
        self._busy += started
        throughput = slots / self._service.service_s
        wait = self._waiting / throughput if throughput else math.inf
        ttft = wait + self._service.first_token_s
        self._report(running, started, ttft)
        self._loads.append(self._waiting + self._busy)
        self._scale(running)
        return Second(self._now, rate, self._waiting + self._busy, len(running), self._target, ttft)

    def _report(self, running: list[_Replica], started: float, ttft: float) -> None:
        for replica in running:
            replica.share += started / len(running)
            while replica.share >= 1:
                replica.share -= 1
                replica.histogram.observe(ttft)
            usage = self._busy / (len(running) * self._service.concurrency)
            replica.reports.append((self._now, {**replica.histogram.stats(), "kv_cache_usage": usage}))
            while replica.reports[0][0] < self._now - self._rules.look_back_period_s:
                replica.reports.popleft()

    def _scale(self, running: list[_Replica]) -> None:
        """Ray's order: the fast way from zero, then policy, delays and bounds."""
        ongoing = sum(self._loads) / len(self._loads)
        from_zero = not running and ongoing > 0
        wanted = max(1, self._target) if from_zero else self._decide(running, ongoing)
        self._target = self._rules.bounded(self._delays.target(wanted, self._target, len(running), self._now))
        while len(self._replicas) < self._target:
            self._replicas.append(self._new(self._now + self._service.start_s))
        # The youngest go first: those that still start serve nobody.
        del self._replicas[self._target :]

    def _decide(self, running: list[_Replica], ongoing: float) -> int:
        wanted_metrics = self._policy.metrics()
        seen = Observation(
            now=self._now,
            current=len(running),
            target=self._target,
            ongoing=ongoing,
            queued=self._waiting,
            least=self._rules.min_replicas,
            most=self._rules.max_replicas,
            series={
                metric: {
                    # No policy looks at what lies between, and it would take most of the time.
                    r.name: [Point(at, values[metric]) for at, values in (r.reports[0], r.reports[-1])]
                    for r in running
                    if metric in r.reports[-1][1]
                }
                for metric in wanted_metrics
            },
        )
        decision = self._policy.decide(seen, self._state)
        self._state = decision.state
        return self._target if decision.replicas is None else seen.bounded(decision.replicas)


def steady(seconds: int, rate: float) -> list[float]:
    """The same load all the time."""
    return [rate] * seconds


def ramp(seconds: int, low: float, high: float) -> list[float]:
    """A load that rises evenly."""
    return [low + (high - low) * i / max(seconds - 1, 1) for i in range(seconds)]


def daily(seconds: int, low: float, high: float) -> list[float]:
    """One day and night: lowest at both ends, highest in the middle."""
    return [low + (high - low) * (1 - math.cos(2 * math.pi * i / seconds)) / 2 for i in range(seconds)]


def bursts(seconds: int, low: float, high: float, every_s: int, for_s: int) -> list[float]:
    """A low load with bursts."""
    return [high if i % every_s >= every_s - for_s else low for i in range(seconds)]


def joined(*parts: Sequence[float]) -> Iterator[float]:
    """One load after another."""
    for part in parts:
        yield from part
