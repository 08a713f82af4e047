"""What a policy sees and what it answers; plain data, so that a policy runs the same in a simulation as under Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Sample(Protocol):
    """One value that a replica reported. Ray's ``TimeStampedValue`` is one as it is: nothing is copied."""

    @property
    def timestamp(self) -> float:
        """Epoch seconds, of the replica's clock."""

    @property
    def value(self) -> float:
        """What was reported."""


@dataclass(frozen=True, slots=True)
class Point:
    """A :class:`Sample` of our own, for simulations and tests."""

    timestamp: float
    value: float


Series = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Name of a metric -> replica -> what it reported within the look-back period, oldest first."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A deployment at one moment.

    now: epoch seconds.
    current: replicas that run; target: replicas that are wanted, the difference is starting or stopping.
    ongoing: requests in the deployment, queued ones included, averaged by Ray over ``look_back_period_s``.
    queued: those of them that wait at handles.
    least, most: ``min_replicas`` and ``max_replicas``, scaled by ``target_capacity``.
    series: what replicas reported by ``record_autoscaling_stats``.
    """

    now: float
    current: int
    target: int
    ongoing: float = 0.0
    queued: float = 0.0
    least: int = 1
    most: int = 1
    series: Series = field(default_factory=dict)

    def bounded(self, replicas: float) -> int:
        """A whole number of replicas within the deployment's bounds; fractions are rounded up."""
        return min(max(whole(replicas), self.least), self.most)

    def latest(self, metric: str) -> list[float]:
        """The last value of each replica that reported this metric; values that are no number are left out."""
        last = (samples[-1].value for samples in self.series.get(metric, {}).values() if samples)
        return [float(value) for value in last if math.isfinite(value)]


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer.

    replicas: how many are wanted, not yet bounded; None for «as many as now», which is also the answer of a policy
        that lacks data: a deployment must never shrink because a metric went missing.
    state: given back to the policy at its next call; JSON, and small: Ray copies it ten times a second.
    reason: for people.
    """

    replicas: int | None
    state: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def whole(replicas: float) -> int:
    """Rounds up, except that 4.000000001 is four: sums of floats must not cost a replica."""
    return math.ceil(replicas - 1e-6)
