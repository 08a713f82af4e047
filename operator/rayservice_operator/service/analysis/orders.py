"""What the observer of a candidate is to measure next: the measurements that the stored counts lack."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.api.analysis import Analysis, MetricCheck, RequestCheck
from rayservice_operator.core.measurements import (
    Address,
    AnalysisOrder,
    HistogramWindow,
    Measurable,
    Measure,
    PrometheusQuery,
    SmokeRequest,
)
from rayservice_operator.core.objects import is_terminating
from rayservice_operator.service.analysis.progress import Check, delay_s, interval_s, wanted
from rayservice_operator.service.analysis.state import State
from rayservice_operator.service.apps import serving_pods
from rayservice_operator.service.context import ClusterView, Context
from rayservice_operator.service.endpoints import port_of, serve_service_name


def order(
    context: Context, state: State | None, pending: ClusterView, active: ClusterView | None
) -> AnalysisOrder | None:
    """The order that goes with ``state``; None where nothing is to be measured."""
    asked = wanted(context)
    if state is None or asked is None or asked.analysis is None or state.over or state.resting:
        return None
    measures = tuple(_measures(context, asked.analysis, state, pending, active))
    if not measures:
        return None
    return AnalysisOrder(
        subject=state.subject,
        measures=measures,
        proxies=tuple(sorted(_addresses(serving_pods(pending), "serve"))),
        candidate=tuple(sorted(_addresses(pending.pods, "metrics"))),
        stable=tuple(sorted(_addresses(active.pods, "metrics"))) if active else (),
    )


def _measures(
    context: Context, analysis: Analysis, state: State, pending: ClusterView, active: ClusterView | None
) -> list[Measure]:
    states = {check.name: check for check in state.checks}
    found: list[Measure] = []
    for check in analysis.checks:
        at = states.get(check.name)
        if at is None or at.over:
            continue
        interval = interval_s(check)
        first = state.started + delay_s(check)
        left = check.count - at.successful - at.failed
        # A window goes on where the one before it ended, and how long it has to be is decided after each.
        window = isinstance(check, MetricCheck)
        since = at.window_started if at.window_started is not None else at.measured_at
        found.append(
            Measure(
                check=check.name,
                number=at.measured,
                end=at.measured + (1 if window else left),
                not_before=first if at.measured_at is None else at.measured_at + interval,
                interval_s=float(interval),
                what=_what(context, check, first if since is None else since, pending, active),
            )
        )
    return found


def _what(context: Context, check: Check, since: float, pending: ClusterView, active: ClusterView | None) -> Measurable:
    if isinstance(check, RequestCheck):
        return _request(context, check)
    compared = check.success_condition.compared
    if check.serve is not None:
        labels = tuple(sorted(check.serve.labels.items()))
        return HistogramWindow(check.serve.histogram, since, labels, stable=compared)
    provider = check.prometheus
    assert provider is not None  # validation: one of the two
    return PrometheusQuery(
        address=provider.address.rstrip("/"),
        candidate=filled(provider.query, context, pending.name),
        stable=filled(provider.query, context, active.name) if compared and active else None,
        timeout_s=float(provider.timeout_seconds),
    )


def filled(query: str, context: Context, cluster: str) -> str:
    """``query`` with its placeholders replaced."""
    values = {"cluster": cluster, "service": context.name, "namespace": context.namespace}
    for name, value in values.items():
        query = query.replace(f"{{{{{name}}}}}", value)
    return query


def _request(context: Context, check: RequestCheck) -> SmokeRequest:
    port = names.DEFAULT_HEAD_PORTS["serve"]
    service = f"{serve_service_name(context.service)}.{context.namespace}.svc.{context.config.cluster_domain}:{port}"
    headers = {name: str(value) for name, value in check.headers.items()}
    body = check.body or None
    if check.json_ is not None:
        body = _json(check.json_)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    return SmokeRequest(
        method=check.method,
        path=check.path,
        host=check.host or service,
        headers=tuple(headers.items()),
        body=body,
        status=check.expect.status,
        json=None if check.expect.json_ is None else _json(check.expect.json_),
        timeout_s=float(check.timeout_seconds),
        retries=check.retries,
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _addresses(pods: Iterable[Mapping[str, Any]], port: str) -> set[Address]:
    return {
        (str(pod["status"]["podIP"]), port_of(pod, port))
        for pod in pods
        if (pod.get("status") or {}).get("podIP") and not is_terminating(pod)
    }
