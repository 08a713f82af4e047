"""Metrics under names that dashboards know."""

from __future__ import annotations

from rayservice_operator.telemetry.metrics import Metrics


def test_what_happens_is_counted() -> None:
    metrics = Metrics()
    metrics.reconciled("RayService", "error", 0.1)
    metrics.requested("get", "Pod", 0, 0.1)
    metrics.requested("watch", "Pod", 200, 300.0)
    metrics.watch_queue(lambda: 3.0, lambda: 1.0, lambda: 7.0)
    metrics.watch_kind("Pod", lambda: 5.0)
    metrics.watch_process(lambda: 1.0, lambda: 0.0)
    text = metrics.render().decode()
    for line in (
        'controller_runtime_reconcile_total{controller="rayservice",result="error"} 1.0',
        'controller_runtime_reconcile_errors_total{controller="rayservice"} 1.0',
        'rest_client_requests_total{code="none",kind="Pod",verb="get"} 1.0',
        'workqueue_depth{name="rayservice-operator"} 3.0',
        'leader_election_master_status{name="rayservice-operator"} 1.0',
        'rayservice_operator_watch_age_seconds{kind="Pod"} 5.0',
    ):
        assert line in text
    assert 'rest_client_request_duration_seconds_count{verb="watch"}' not in text
