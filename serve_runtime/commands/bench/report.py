"""Figures of a load: quantiles, outcomes, and goodput, which is what met the objective of all that was due."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from serve_runtime.commands.bench.load import CUT, OK, Load, Sample

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True, slots=True)
class Objective:
    """Limits in seconds, None for none. gap_s: of the mean time between tokens of a request."""

    latency_s: float | None = None
    ttft_s: float | None = None
    gap_s: float | None = None

    def met(self, sample: Sample) -> bool:
        """Whether a request was answered, and in time. What was cut off counts as not."""
        if sample.outcome != OK:
            return False
        if self.latency_s is not None and sample.latency > self.latency_s:
            return False
        if self.ttft_s is not None and (sample.first is None or sample.first - sample.due > self.ttft_s):
            return False
        return self.gap_s is None or not sample.gaps or sum(sample.gaps) / len(sample.gaps) <= self.gap_s


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least that share does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Quantiles, mean and maximum; None of nothing. A quantile of too few values is the maximum, and left out."""
    ordered = sorted(values)
    if not ordered:
        return None
    found = {
        name: quantile(ordered, q) for name, q in QUANTILES.items() if len(ordered) * (1 - q) >= 1 - 1e-9 or q <= 0.5
    }
    return {name: round(v, 6) for name, v in {**found, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}.items()}


def report(load: Load, objective: Objective) -> dict[str, Any]:
    """JSON; times in seconds, rates per second. Latencies are of requests that were answered well."""
    ok = [s for s in load.samples if s.outcome == OK]
    outcomes = Counter(s.outcome for s in load.samples)
    met = sum(map(objective.met, load.samples))
    due = len(load.samples) + load.unsent
    seconds = max([load.seconds, *(s.ended for s in ok)], default=0.0) or 1.0
    tokens = sum(s.tokens for s in ok)
    limits = {name: getattr(objective, name) for name in Objective.__slots__ if getattr(objective, name) is not None}
    return {
        "due": due,
        "sent": len(load.samples),
        "unsent": load.unsent,
        "ok": len(ok),
        "failed": {k: v for k, v in sorted(outcomes.items()) if k not in {OK, CUT}},
        "cut": outcomes[CUT],
        "interrupted": load.interrupted,
        "seconds": round(seconds, 3),
        "ok_per_s": round(len(ok) / seconds, 3),
        "most_in_flight": load.most_in_flight,
        "latency_s": spread(s.latency for s in ok),
        "service_s": spread(s.ended - s.began for s in ok),
        "ttft_s": spread(s.first - s.due for s in ok if s.first is not None),
        "gap_s": spread(gap for s in ok for gap in s.gaps),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 3),
        "objective": limits,
        "goodput": {"met": met, "share": round(met / due, 4) if due else 0.0, "per_s": round(met / seconds, 3)},
        "generator_lag_s": spread(load.lag),
    }


def lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    failed = ", ".join(f"{count} {what}" for what, count in told["failed"].items()) or "none"
    found = [
        f"due {told['due']}, answered {told['ok']} ({told['ok_per_s']:g}/s), failed {failed}"
        + (f", {told['unsent']} never sent" if told["unsent"] else "")
        + (f", {told['cut']} cut off at the end" if told["cut"] else ""),
    ]
    names = {
        "latency_s": "latency, from when due",
        "service_s": "latency, from when sent",
        "ttft_s": "first byte or token",
        "gap_s": "between tokens",
    }
    for key, name in names.items():
        if told[key] is not None:
            values = "  ".join(f"{q} {_ms(v)}" for q, v in told[key].items())
            found.append(f"{name:24}{values}")
    if told["tokens"]:
        found.append(f"tokens {told['tokens']}, {told['tokens_per_s']:g}/s")
    limits = ", ".join(f"{k.removesuffix('_s')} ≤ {_ms(v)}" for k, v in told["objective"].items()) or "answered at all"
    good = told["goodput"]
    found.append(f"goodput ({limits}): {100 * good['share']:.1f} %, {good['per_s']:g}/s")
    lag = (told["generator_lag_s"] or {}).get("p99", 0.0)
    if lag > 0.01:
        found.append(f"this machine was late by {_ms(lag)} at p99: the figures have that in them")
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
