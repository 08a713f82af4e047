"""Rules of ``upgradeStrategy.analysis``: a check that could never pass, never fail or never be sent is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from rayservice_operator.api.analysis import (
    MAX_CHECKS,
    MAX_COUNT,
    Analysis,
    AnalysisCheck,
    MetricCheck,
    PrometheusProvider,
    RequestCheck,
    ServeMetricType,
    ServeProvider,
    SuccessCondition,
)
from rayservice_operator.api.rayservice import RayService
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.core.violations import Violation

PATH: Final = "spec.upgradeStrategy.analysis"
PLACEHOLDERS: Final = ("cluster", "service", "namespace")
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}")
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: field names
_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WITHOUT_CANDIDATE: Final = frozenset({UpgradeType.IN_PLACE, UpgradeType.RECREATE})


def violations(parsed: RayService) -> Iterator[Violation]:
    """Everything wrong with the analysis of a RayService; nothing where there is none."""
    strategy = parsed.spec.upgrade_strategy
    analysis = strategy.analysis if strategy else None
    if strategy is None or analysis is None:
        return
    if strategy.type in _WITHOUT_CANDIDATE:
        problem = f"cannot be done with type {strategy.type}, which has no new cluster to look at before it serves"
        yield Violation(PATH, problem, "Remove it, or use type NewCluster")
    if strategy.type in {None, UpgradeType.NEW_CLUSTER} and not analysis.requests:
        for index, metric in enumerate(analysis.metrics):
            if metric.serve is not None:
                problem = (
                    "has nothing to measure: with type NewCluster no request gets to the new cluster before it serves"
                )
                yield Violation(f"{PATH}.metrics[{index}].serve", problem, "Add requests with a count to the analysis")
    yield from of_checks(analysis)


def of_checks(analysis: Analysis) -> Iterator[Violation]:
    """What is wrong with the checks themselves, whatever the strategy."""
    if not analysis.checks:
        yield Violation(PATH, "has no check, so nothing would be analysed", "Add requests or metrics, or remove it")
    if len(analysis.checks) > MAX_CHECKS:
        yield Violation(PATH, f"has {len(analysis.checks)} checks", f"Use at most {MAX_CHECKS}")
    yield from _names(analysis)
    for index, request in enumerate(analysis.requests):
        path = f"{PATH}.requests[{index}]"
        yield from _common(request, path)
        yield from _request(request, path)
    for index, metric in enumerate(analysis.metrics):
        path = f"{PATH}.metrics[{index}]"
        yield from _common(metric, path)
        yield from _metric(metric, path)


def _names(analysis: Analysis) -> Iterator[Violation]:
    seen: set[str] = set()
    for kind, checks in (("requests", analysis.requests), ("metrics", analysis.metrics)):
        for index, check in enumerate(checks):
            path = f"{PATH}.{kind}[{index}].name"
            if not _NAME.fullmatch(check.name):
                yield Violation(
                    path, f"{check.name!r} is no name", "Use at most 63 letters, digits, '-', '_' and '.', such as p95"
                )
            elif check.name in seen:
                yield Violation(path, f"{check.name!r} is the name of another check", "Give each check its own name")
            seen.add(check.name)


def _common(check: AnalysisCheck, path: str) -> Iterator[Violation]:
    if (check.initial_delay_seconds or 0) < 0:
        yield Violation(f"{path}.initialDelaySeconds", f"is {check.initial_delay_seconds}", "Use 0 or more seconds")
    if check.interval_seconds is not None and check.interval_seconds < 1:
        yield Violation(f"{path}.intervalSeconds", f"is {check.interval_seconds}", "Use 1 or more seconds")
    if not 1 <= check.count <= MAX_COUNT:
        yield Violation(f"{path}.count", f"is {check.count}", f"Use 1 to {MAX_COUNT}")
    elif check.failure_limit >= check.count:
        problem = f"is {check.failure_limit} of {check.count} measurements, so the check could never fail"
        yield Violation(
            f"{path}.failureLimit", problem, "Make it smaller than count, or set dryRun: true to report only"
        )
    for field, value in (("failureLimit", check.failure_limit), ("inconclusiveLimit", check.inconclusive_limit)):
        if value < 0:
            yield Violation(f"{path}.{field}", f"is {value}", "Use 0 or more")


def _request(check: RequestCheck, path: str) -> Iterator[Violation]:
    if check.method not in METHODS:
        yield Violation(f"{path}.method", f"is {check.method!r}", f"Write one of {', '.join(METHODS)}")
    if not check.path.startswith("/") or any(c.isspace() or not c.isprintable() for c in check.path):
        yield Violation(
            f"{path}.path", f"{check.path!r} is no path", "Start it with / and write spaces as %20; it has no host"
        )
    for name, value in (*check.headers.items(), ("host", check.host)):
        where = f"{path}.host" if name == "host" else f"{path}.headers[{name}]"
        if not _TOKEN.fullmatch(name):
            yield Violation(where, "is no name of a header", "Use letters, digits and '-'")
        elif not value.isprintable():
            yield Violation(where, "has line breaks or control characters", "Write it on one line")
        elif name != "host" and name.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
            yield Violation(
                where, "is not for you to set", "Use the field host" if name.lower() == "host" else "Remove it"
            )
    if check.body and check.json_ is not None:
        yield Violation(f"{path}.body", "is given beside json", "Use one of the two")
    status = check.expect.status
    if status is not None and not 100 <= status <= 599:
        yield Violation(f"{path}.expect.status", f"is {status}", "Use an HTTP status, from 100 to 599")
    if check.timeout_seconds < 1:
        yield Violation(f"{path}.timeoutSeconds", f"is {check.timeout_seconds}", "Use 1 or more seconds")
    if check.retries < 0:
        yield Violation(f"{path}.retries", f"is {check.retries}", "Use 0 or more")


def _metric(check: MetricCheck, path: str) -> Iterator[Violation]:
    if (check.prometheus is None) == (check.serve is None):
        problem = "has no source of its value" if check.serve is None else "has two sources of its value"
        yield Violation(path, problem, "Give it either prometheus or serve")
    yield from _condition(check.success_condition, f"{path}.successCondition")
    if check.prometheus is not None:
        yield from _prometheus(check.prometheus, f"{path}.prometheus", compared=check.success_condition.compared)
    if check.serve is not None:
        yield from _serve(check.serve, f"{path}.serve")


def _condition(condition: SuccessCondition, path: str) -> Iterator[Violation]:
    stable = condition.stable
    bounds = {
        "max": condition.max,
        "min": condition.min,
        "stable.maxRatio": stable.max_ratio,
        "stable.minRatio": stable.min_ratio,
        "stable.maxIncrease": stable.max_increase,
    }
    given = {field: value for field, value in bounds.items() if value is not None}
    if not given:
        yield Violation(path, "has no bound, so every value would do", f"Set one of {', '.join(bounds)}")
    for field, value in given.items():
        if not math.isfinite(value):
            yield Violation(f"{path}.{field}", f"is {value}", "Write a number")
        elif field.endswith("Ratio") and value <= 0:
            yield Violation(f"{path}.{field}", f"is {value:g}", "Use a number above 0, such as 1.2 for 20 % more")
    if condition.min is not None and condition.max is not None and condition.min > condition.max:
        yield Violation(f"{path}.min", f"is {condition.min:g}, above max ({condition.max:g})", "Exchange the two")


def _prometheus(provider: PrometheusProvider, path: str, *, compared: bool) -> Iterator[Violation]:
    try:
        url = urlsplit(provider.address)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and not url.query and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        fix = "Write a URL such as http://prometheus.monitoring:9090"
        yield Violation(f"{path}.address", f"{provider.address!r} is no URL of a server", fix)
    used = _PLACEHOLDER.findall(provider.query)
    unknown = [name for name in used if name not in PLACEHOLDERS]
    if not provider.query.strip():
        yield Violation(f"{path}.query", "is empty", "Write PromQL that gives one value")
    elif unknown:
        known = ", ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
        yield Violation(f"{path}.query", f"has the unknown placeholder {{{{{unknown[0]}}}}}", f"Use one of {known}")
    elif compared and "cluster" not in used:
        problem = "has no {{cluster}}, so it would compare the new cluster with itself"
        yield Violation(f"{path}.query", problem, 'Select one cluster\'s series: ray_io_cluster="{{cluster}}"')
    if provider.timeout_seconds < 1:
        yield Violation(f"{path}.timeoutSeconds", f"is {provider.timeout_seconds}", "Use 1 or more seconds")


def _serve(provider: ServeProvider, path: str) -> Iterator[Violation]:
    quantile = provider.quantile
    if provider.type is ServeMetricType.LATENCY_QUANTILE:
        if quantile is None or not 0 < quantile < 1:
            problem = "is missing" if quantile is None else f"is {quantile:g}"
            yield Violation(f"{path}.quantile", problem, "Use a number between 0 and 1, such as 0.95")
    elif quantile is not None:
        yield Violation(f"{path}.quantile", f"has no meaning with type {provider.type}", "Remove it")
    if not _METRIC.fullmatch(provider.histogram):
        problem = f"{provider.histogram!r} is no name of a metric"
        yield Violation(f"{path}.histogram", problem, "Write the exported name without _bucket")
    if provider.minimum_sample < 1:
        yield Violation(f"{path}.minimumSample", f"is {provider.minimum_sample}", "Use 1 or more")
