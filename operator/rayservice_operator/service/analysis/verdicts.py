"""What one measurement says of a check. A table of evaluations by kind of sample; nothing is remembered here."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from rayservice_operator.api.analysis import (
    MetricCheck,
    RequestCheck,
    ServeMetricType,
    ServeProvider,
    SuccessCondition,
)
from rayservice_operator.core.measurements import Increase, QuerySample, RequestSample, Sample, WindowSample
from rayservice_operator.service.analysis.windows import quantile


class Outcome(enum.Enum):
    """Of one measurement."""

    SUCCESS = "success"
    FAILURE = "failure"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``value``, ``stable_value``: as they are shown. ``grow``: the window had too few observations, make it longer."""

    outcome: Outcome
    message: str
    value: str = ""
    stable_value: str = ""
    grow: bool = False


def judge(check: RequestCheck | MetricCheck, sample: Sample) -> Verdict:
    """The verdict on one measurement of ``check``."""
    what = sample.what
    if isinstance(check, RequestCheck):
        return _request(check, what) if isinstance(what, RequestSample) else _STRANGE
    if isinstance(what, QuerySample):
        return _query(check, what)
    if isinstance(what, WindowSample) and check.serve is not None:
        return _window(check, check.serve, what)
    return _STRANGE


_STRANGE = Verdict(Outcome.INCONCLUSIVE, "The sample is of another kind than the check.")


def _request(check: RequestCheck, sample: RequestSample) -> Verdict:
    value = "" if sample.status is None else f"HTTP {sample.status}"
    asked = f"{check.method} {check.path}"
    if sample.problem:
        tries = f" ({sample.attempts} attempts)" if sample.attempts > 1 else ""
        return Verdict(Outcome.FAILURE, f"{asked}: {sample.problem}{tries}", value)
    return Verdict(Outcome.SUCCESS, f"{asked}: {value} after {sample.seconds * 1000:.0f} ms", value)


def _query(check: MetricCheck, sample: QuerySample) -> Verdict:
    if sample.error:
        return Verdict(Outcome.INCONCLUSIVE, f"Prometheus: {sample.error}")
    if sample.candidate is None:
        return Verdict(Outcome.INCONCLUSIVE, "The query has no data on the new cluster.")
    return bounded("The value", sample.candidate, sample.stable, check.success_condition)


def _window(check: MetricCheck, provider: ServeProvider, sample: WindowSample) -> Verdict:
    if sample.error or sample.candidate is None:
        return Verdict(Outcome.INCONCLUSIVE, sample.error or "No pod of the new cluster exports metrics.")
    if few := _too_few("new cluster", sample.candidate, provider, sample.seconds):
        return few
    value = _value(provider, sample.candidate)
    stable: float | None = None
    if check.success_condition.compared:
        if sample.stable is None:
            return Verdict(Outcome.INCONCLUSIVE, "No pod of the cluster that serves exports metrics.")
        if few := _too_few("cluster that serves", sample.stable, provider, sample.seconds):
            return few
        stable = _value(provider, sample.stable)
    if value is None:
        return Verdict(Outcome.INCONCLUSIVE, f"{provider.histogram} has no buckets.")
    verdict = bounded(_what(provider), value, stable, check.success_condition)
    basis = f"{sample.candidate.count:.0f} observations in {sample.seconds:.0f} s"
    return Verdict(verdict.outcome, f"{verdict.message} ({basis})", verdict.value, verdict.stable_value)


def _too_few(whose: str, increase: Increase, provider: ServeProvider, seconds: float) -> Verdict | None:
    if increase.count >= provider.minimum_sample:
        return None
    message = (
        f"{provider.histogram} of the {whose} has {increase.count:.0f} observations in {seconds:.0f} s, fewer than "
        f"minimumSample ({provider.minimum_sample})"
    )
    return Verdict(Outcome.INCONCLUSIVE, message, grow=True)


def _value(provider: ServeProvider, increase: Increase) -> float | None:
    if provider.type is ServeMetricType.ERROR_RATE:
        return increase.errors / increase.count
    return quantile(provider.quantile or 0.0, increase.buckets)


def _what(provider: ServeProvider) -> str:
    if provider.type is ServeMetricType.ERROR_RATE:
        return "The error rate"
    return f"The {provider.quantile:g} quantile of {provider.histogram}"


def bounded(what: str, value: float, stable: float | None, condition: SuccessCondition) -> Verdict:
    """Whether ``value`` keeps all bounds; the first one that it does not keep is told."""
    shown, other = _number(value), "" if stable is None else _number(stable)
    if math.isnan(value):
        return Verdict(Outcome.INCONCLUSIVE, f"{what} is not a number: there is nothing to compute it from")
    if condition.compared and (stable is None or math.isnan(stable)):
        return Verdict(Outcome.INCONCLUSIVE, "There is no value of the cluster that serves to compare with", shown)
    if math.isinf(value) and stable is not None and math.isinf(stable):
        return Verdict(Outcome.INCONCLUSIVE, f"{what} is above the highest bucket on both clusters", shown, other)
    for broken, allowed in _bounds(value, stable, condition):
        if broken:
            return Verdict(Outcome.FAILURE, f"{what} is {shown}, {allowed}", shown, other)
    beside = f", {other} on the cluster that serves" if other else ""
    return Verdict(Outcome.SUCCESS, f"{what} is {shown}{beside}", shown, other)


def _bounds(value: float, stable: float | None, condition: SuccessCondition) -> list[tuple[bool, str]]:
    """Each bound that is set: whether it is broken, and what is allowed. One that cannot be compared with is broken."""
    found: list[tuple[bool, str]] = []
    if condition.max is not None:
        found.append((not value <= condition.max, f"more than {_number(condition.max)}"))
    if condition.min is not None:
        found.append((not value >= condition.min, f"less than {_number(condition.min)}"))
    if stable is None:
        return found
    relative = condition.stable
    here = f"{_number(stable)} on the cluster that serves"
    if relative.max_ratio is not None:
        limit = relative.max_ratio * stable
        found.append((not value <= limit, f"more than {_number(relative.max_ratio)} × {here} = {_number(limit)}"))
    if relative.min_ratio is not None:
        limit = relative.min_ratio * stable
        found.append((not value >= limit, f"less than {_number(relative.min_ratio)} × {here} = {_number(limit)}"))
    if relative.max_increase is not None:
        limit = stable + relative.max_increase
        found.append((not value <= limit, f"more than {here} + {_number(relative.max_increase)} = {_number(limit)}"))
    return found


def _number(value: float) -> str:
    return "above all buckets" if math.isinf(value) else f"{value:.4g}"
