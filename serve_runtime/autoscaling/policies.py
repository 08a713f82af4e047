"""Policies of one deployment: each a strict model of its settings with a pure :meth:`Policy.decide`.

Ray applies to what they answer, in this order: ``upscaling_factor`` and ``downscaling_factor`` (leave them at 1: they
scale the distance to the running replicas, also when a policy wants no change), the delays, the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from serve_runtime.autoscaling import buckets, cron
from serve_runtime.autoscaling.observation import Decision, Observation, whole
from serve_runtime.strict import Strict


class Policy(Strict):
    """What all policies have in common: frozen settings, unknown ones refused, and one pure method."""

    type: str

    @model_serializer(mode="wrap")
    def _with_type(self, others: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The type stays when defaults are left out."""
        return {"type": self.type, **others(self)}

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        """How many replicas are wanted; ``state`` is that of the last decision, empty at first."""
        raise NotImplementedError

    def metrics(self) -> frozenset[str]:
        """Names of the metrics that replicas must report by ``record_autoscaling_stats``."""
        return frozenset()


class QueueDepth(Policy):
    """As many replicas as keep the requests of each at ``per_replica``.

    per_replica: requests that one replica shall have, waiting ones included.
    metric: a metric of the replicas that is summed instead, such as the waiting requests of an engine; without it the
        requests that Ray counts, those queued at handles included.
    tolerance: share around ``per_replica`` within which nothing is changed.
    """

    type: Literal["queue_depth"] = "queue_depth"
    per_replica: PositiveFloat
    metric: str | None = Field(default=None, min_length=1)
    tolerance: float = Field(default=0.1, ge=0, lt=1)

    def metrics(self) -> frozenset[str]:
        return frozenset() if self.metric is None else frozenset({self.metric})

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:  # noqa: ARG002
        depth = seen.ongoing
        if self.metric is not None:
            values = seen.latest(self.metric)
            if not values:
                return Decision(None, reason=f"no replica reported {self.metric}")
            depth = sum(values)
        reason = f"{depth:g} requests, {self.per_replica:g} per replica"
        if seen.target and abs(depth / (seen.target * self.per_replica) - 1) <= self.tolerance:
            return Decision(seen.target, reason=reason)
        return Decision(whole(depth / self.per_replica), reason=reason)


_REMEMBER_S: Final = 3600.0
_SPARE: Final = 0.85
"""Of what a replica was seen to be able to do, so much is planned with when one is taken away."""


class Slo(Policy):
    """Keeps a quantile of a latency below a target: more replicas in proportion when it is missed, one less at a time
    when there is room. It never judges by what was measured before the last change.

    Latency says nothing of how near the edge is: it stays low until a replica is full. So each miss teaches how many
    requests a replica can do, and no replica is taken away that this knowledge says is needed; it is forgotten after
    an hour, or when replicas prove able to do more.

    metric: name of a :class:`~serve_runtime.autoscaling.buckets.Histogram` of the replicas, in seconds.
    quantile: 0.95 is the 95th percentile. target_s: what it shall not exceed, within ``bounds``.
    bounds: upper bounds of the histogram's buckets; those of the replicas.
    headroom: one replica less is tried only below this share of the target.
    max_step: replicas are at most multiplied by this at once.
    min_samples: below so many new values in the look-back period nothing is judged.
    settle_s: after the number of running replicas changed, nothing is judged for so long; at least
        ``look_back_period_s``, or old values cause a second step.
    """

    type: Literal["slo"] = "slo"
    metric: str = Field(default="ttft_s", min_length=1)
    quantile: float = Field(default=0.95, gt=0, lt=1)
    target_s: PositiveFloat
    bounds: list[float] = Field(default=list(buckets.SECONDS))
    headroom: float = Field(default=0.5, gt=0, lt=1)
    max_step: float = Field(default=2.0, gt=1)
    min_samples: PositiveInt = 20
    settle_s: float = Field(default=30.0, ge=0)

    @model_validator(mode="after")
    def _target_is_measurable(self) -> Self:
        buckets.check_bounds(self.bounds)
        if self.target_s > self.bounds[-1]:
            raise ValueError(f"target_s {self.target_s:g} is above the last of bounds, {self.bounds[-1]:g}: add one")
        return self

    def metrics(self) -> frozenset[str]:
        return frozenset(buckets.name_of(self.metric, bound) for bound in (*self.bounds, math.inf))

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        changed = state.get("replicas") != seen.current
        since = seen.now if changed else float(state.get("since", seen.now))
        kept: dict[str, Any] = {"replicas": seen.current, "since": since}
        able, learnt = state.get("able", (math.inf, -math.inf))
        if seen.now - learnt <= _REMEMBER_S:
            kept["able"] = [able, learnt]
        else:
            able = math.inf
        grown = buckets.increases(seen.series, self.metric, self.bounds)
        if grown[-1] < self.min_samples:
            if whole(seen.ongoing) == 0:
                return Decision(max(seen.target - 1, 0), kept, "idle")
            return Decision(None, kept, f"{grown[-1]:g} values of {self.metric}, {self.min_samples} are needed")
        value = buckets.quantile(self.quantile, self.bounds, grown)
        reason = f"{self.metric} p{self.quantile * 100:g} {value:.3g} s, target {self.target_s:g} s"
        if seen.current != seen.target or (state and seen.now - since < self.settle_s):
            return Decision(None, kept, f"{reason}; settling")
        each = grown[-1] / max(seen.current, 1)
        if value > self.target_s or able < each:
            kept["able"] = [each, seen.now]
        if value > self.target_s:
            step = min(value / self.target_s, self.max_step)
            return Decision(max(whole(seen.current * step), seen.current + 1), kept, reason)
        if value < self.headroom * self.target_s:
            fewer = max(seen.current - 1, 1)
            if grown[-1] / fewer <= _SPARE * able:
                return Decision(fewer, kept, reason)
        return Decision(None, kept, reason)


class Window(Strict):
    """A time that comes again: from each ``start`` to the next ``end``, both five-field cron expressions in
    ``timezone``, there are at least ``replicas``."""

    start: str
    end: str
    timezone: str = "UTC"
    replicas: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_readable(self) -> Self:
        cron.zone(self.timezone)
        if cron.parse(self.start) == cron.parse(self.end):
            raise ValueError(f"start and end are both {self.start!r}: the window is empty")
        return self

    def boundaries(self, now: float) -> tuple[float, float]:
        """Epoch seconds of the next start and of the next end."""
        place = cron.zone(self.timezone)
        return cron.parse(self.start).next_after(now, place), cron.parse(self.end).next_after(now, place)


class Schedule(Policy):
    """A floor by the clock: the largest of the windows that are open, ``otherwise`` outside them.

    Put it into :class:`Max` with a policy that follows load. Replicas start when a window opens: open it as much
    earlier as a model takes to load.
    """

    type: Literal["schedule"] = "schedule"
    windows: list[Window] = Field(min_length=1)
    otherwise: int = Field(default=0, ge=0)

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        # Looked up once per boundary, not ten times a second. A clock set back is no reason to trust the old answer.
        if state and float(state["from"]) <= seen.now < float(state["until"]):
            return Decision(int(state["replicas"]), dict(state), "schedule")
        replicas, until = self.otherwise, math.inf
        for window in self.windows:
            start, end = window.boundaries(seen.now)
            until = min(until, start, end)
            if end < start:
                replicas = max(replicas, window.replicas)
        return Decision(replicas, {"from": seen.now, "until": until, "replicas": replicas}, "schedule")


class Predictive(Policy):
    """Replicas for the load that is to be expected when they will be ready: the present one and its slope.

    It only ever adds to what the present load asks for, and never more than ``max_growth`` times of that.

    per_replica: requests that one replica shall have.
    window_s: how far back the slope is taken, by least squares.
    horizon_s: how far ahead; the time from the decision until a new replica answers.
    sample_s: seconds between the values that are kept.
    """

    type: Literal["predictive"] = "predictive"
    per_replica: PositiveFloat
    window_s: PositiveFloat = 120.0
    horizon_s: PositiveFloat = 60.0
    max_growth: float = Field(default=2.0, ge=1)
    sample_s: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if not 5 <= self.window_s / self.sample_s <= 200:
            raise ValueError(f"window_s {self.window_s:g} must be 5 to 200 times sample_s {self.sample_s:g}")
        return self

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        kept = [p for p in state.get("samples", []) if seen.now - self.window_s <= p[0] <= seen.now]
        if not kept or seen.now - kept[-1][0] >= self.sample_s:
            kept.append([seen.now, seen.ongoing])
        slope = _slope(kept) if kept[-1][0] - kept[0][0] >= self.window_s / 2 else 0.0
        expected = min(seen.ongoing + max(slope, 0.0) * self.horizon_s, seen.ongoing * self.max_growth)
        reason = f"{seen.ongoing:g} requests, {expected:.3g} expected in {self.horizon_s:g} s"
        return Decision(whole(expected / self.per_replica), {"samples": kept}, reason)


class Max(Policy):
    """The largest number that any of several policies wants; one that wants no change counts with the present one."""

    type: Literal["max"] = "max"
    of: list[AnyPolicy] = Field(min_length=1)

    def metrics(self) -> frozenset[str]:
        return frozenset().union(*(policy.metrics() for policy in self.of))

    def decide(self, seen: Observation, state: Mapping[str, Any]) -> Decision:
        decisions = [policy.decide(seen, state.get(str(i), {})) for i, policy in enumerate(self.of)]
        wanted = [seen.target if d.replicas is None else d.replicas for d in decisions]
        first = wanted.index(max(wanted))
        kept = {str(i): d.state for i, d in enumerate(decisions) if d.state}
        return Decision(wanted[first], kept, f"{self.of[first].type}: {decisions[first].reason}")


AnyPolicy = Annotated[QueueDepth | Slo | Schedule | Predictive | Max, Field(discriminator="type")]
"""Any policy of a deployment, told apart by ``type``."""

Max.model_rebuild()
_PARSER: TypeAdapter[AnyPolicy] = TypeAdapter(AnyPolicy)


def parse(spec: Mapping[str, Any]) -> AnyPolicy:
    """A policy from JSON such as ``{"type": "queue_depth", "per_replica": 4}``.

    Raises pydantic's ValidationError, a ValueError, which names each field that is wrong.
    """
    return _PARSER.validate_python(dict(spec))


def _slope(points: list[list[float]]) -> float:
    """Of the least-squares line through ``[second, value]``, per second."""
    mean_t = sum(t for t, _ in points) / len(points)
    mean_v = sum(v for _, v in points) / len(points)
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    return sum((t - mean_t) * (v - mean_v) for t, v in points) / spread if spread else 0.0
