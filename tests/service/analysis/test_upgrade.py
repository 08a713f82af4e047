"""An upgrade with an analysis, decision by decision: started, measured, passed or given up, whoever is killed when."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest

from rayservice_operator.core.decision import Create, Decision, Delete
from rayservice_operator.core.measurements import (
    AnalysisOrder,
    HistogramWindow,
    Increase,
    PrometheusQuery,
    RequestSample,
    Sample,
    SmokeRequest,
    WindowSample,
)
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service import revisions
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, OTHER_SERVE_CONFIG, after, annotated, condition, config_hash, edited
from tests.service.test_decide import upgrading

REQUEST = {"name": "hello", "path": "/", "count": 3, "expect": {"json": {"greeting": "hello"}}}
P95 = {
    "name": "p95",
    "serve": {"type": "LatencyQuantile", "quantile": 0.95, "minimumSample": 10},
    "successCondition": {"max": 100},
    "intervalSeconds": 20,
}


def analysed(*requests: Any, metrics: Any = (), **strategy: Any) -> ServiceSnapshot:
    """An upgrade whose new cluster is proven."""
    snapshot = upgrading("proven")
    service = copy.deepcopy(snapshot.service)
    service["spec"]["upgradeStrategy"] = {"analysis": {"requests": [*requests], "metrics": [*metrics]}, **strategy}
    service["status"]["applied"] = {"goodConfigHash": config_hash()}
    service["status"]["upgrade"] = {"from": "demo-one", "to": "demo-two", "started": to_rfc3339(NOW - 100)}
    history = (revisions.build(service, 1),)
    return dataclasses.replace(snapshot, service=service, revisions=history)


def order(decision: Decision) -> AnalysisOrder | None:
    """What the pending cluster's observer is to measure; the active one's never is to measure anything."""
    orders = {target.cluster.name: target.analysis for target in decision.observe}
    assert orders.get("demo-one") is None
    return orders.get("demo-two")


def ordered(decision: Decision) -> AnalysisOrder:
    found = order(decision)
    assert found is not None
    return found


def state(decision: Decision) -> Manifest:
    assert decision.status is not None
    found: Manifest = decision.status["upgrade"].get("analysis", {})
    return found


def check(decision: Decision, name: str) -> Manifest:
    return next(found for found in state(decision)["checks"] if found["name"] == name)


def measured(snapshot: ServiceSnapshot, *samples: Sample) -> ServiceSnapshot:
    """The snapshot when the observer of the new cluster has these samples, and just looked at it."""
    seen = dataclasses.replace(snapshot.observations["demo-two"], samples=samples, seen_at=NOW + 500)
    return dataclasses.replace(snapshot, observations={**snapshot.observations, "demo-two": seen})


def answers(decision: Decision, name: str, *problems: str, at: float = NOW + 1) -> tuple[Sample, ...]:
    """Samples as an observer takes them that got this order: one for each problem, empty for none."""
    wanted = ordered(decision)
    measure = next(m for m in wanted.measures if m.check == name)
    return tuple(
        Sample(wanted.subject, name, measure.number + i, at + i, RequestSample(problem, 500 if problem else 200))
        for i, problem in enumerate(problems)
    )


def observed(decision: Decision, count: float, *, at: float, slow: float = 0.0, seconds: float = 20.0) -> Sample:
    """A window of ``count`` answers, ``slow`` of them above 100 ms."""
    wanted = ordered(decision)
    measure = next(m for m in wanted.measures if m.check == "p95")
    buckets = {50.0: count - slow, 100.0: count - slow, 200.0: count, math.inf: count}
    return Sample(wanted.subject, "p95", measure.number, at, WindowSample(seconds, Increase(count, 0.0, buckets)))


def started(snapshot: ServiceSnapshot) -> tuple[ServiceSnapshot, Decision]:
    first = decide(snapshot, NOW)
    return after(snapshot, first), first


def test_a_proven_cluster_is_analysed_before_it_takes_over() -> None:
    snapshot, first = started(analysed(REQUEST))
    assert first.status is not None
    assert first.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
    assert first.status["upgrade"]["phase"] == "Analyzing"
    assert condition(first, "UpgradeInProgress") == ("True", "Analyzing")
    assert condition(first, "Reconciling") == ("True", "Analyzing")
    assert "AnalysisStarted" in {note.reason for note in first.notes}
    assert state(first)["phase"] == "Running"
    assert state(first)["checks"] == [{"name": "hello", "phase": "Pending"}]

    second = decide(measured(snapshot, *answers(first, "hello", "", "", "")), NOW + 5)
    assert state(second)["phase"] == "Successful"
    assert check(second, "hello")["successful"] == 3
    assert "AnalysisSuccessful" in {note.reason for note in second.notes}
    assert second.status is not None
    assert second.status["activeServiceStatus"]["rayClusterName"] == "demo-one", "not before the pass is stored"
    assert order(second) is None

    third = decide(after(snapshot, second), NOW + 5)
    assert third.status is not None
    assert third.status["activeServiceStatus"]["rayClusterName"] == "demo-two"
    assert third.status["upgrade"]["phase"] == "Promoted"
    assert third.status["upgrade"]["analysis"]["phase"] == "Successful"
    assert "AnalysisSuccessful" not in {note.reason for note in third.notes}


def test_the_request_is_sent_as_users_do() -> None:
    request = {**REQUEST, "method": "POST", "json": {"n": 1}, "headers": {"X-Team": "ml"}, "timeoutSeconds": 3}
    _, first = started(analysed(request))
    wanted = ordered(first)
    assert wanted.proxies == (("10.0.1.1", 8000),)
    (measure,) = wanted.measures
    assert (measure.number, measure.end, measure.interval_s) == (0, 3, 1.0)
    assert measure.what == SmokeRequest(
        "POST",
        "/",
        "demo-serve-svc.default.svc.cluster.local:8000",
        headers=(("X-Team", "ml"), ("Content-Type", "application/json")),
        body='{"n": 1}',
        json='{"greeting": "hello"}',
        timeout_s=3.0,
        retries=2,
    )


def test_a_failure_aborts_the_upgrade_and_tells_the_numbers() -> None:
    snapshot, first = started(analysed(REQUEST))
    snapshot = measured(snapshot, *answers(first, "hello", "", "pod 10.0.1.1: HTTP 500 instead of 200 to 299"))
    second = decide(snapshot, NOW + 5)
    assert state(second)["phase"] == "Failed"
    assert second.status is not None
    message = second.status["failedUpdate"]["message"]
    assert message == (
        "RayCluster demo-two is given up, because its analysis failed: check hello: GET /: pod 10.0.1.1: HTTP 500 "
        "instead of 200 to 299 (1 of 2 measurements failed, failureLimit is 0)."
    )
    assert second.status["failedUpdate"]["analysisHash"]
    assert {"AnalysisFailed", "RollingBack"} <= {note.reason for note in second.notes}

    third = decide(after(snapshot, second), NOW + 5)
    assert [action.ref.name for action in third.actions if isinstance(action, Delete)] == ["demo-two"]
    assert third.status is not None
    assert third.status["upgrade"]["phase"] == "Aborted"
    assert third.status["upgrade"]["analysis"]["phase"] == "Failed"
    assert "pendingServiceStatus" not in third.status


def aborted() -> ServiceSnapshot:
    """The upgrade was given up and the new cluster is gone."""
    snapshot, first = started(analysed(REQUEST))
    snapshot = measured(snapshot, *answers(first, "hello", "HTTP 500"))
    snapshot = after(snapshot, decide(snapshot, NOW + 5))
    snapshot = after(snapshot, decide(snapshot, NOW + 5))
    only = tuple(c for c in snapshot.clusters if c["metadata"]["name"] == "demo-one")
    return dataclasses.replace(snapshot, clusters=only)


def test_what_failed_is_tried_again_with_another_analysis() -> None:
    snapshot = aborted()
    last = decide(snapshot, NOW + 60)
    assert condition(last, "Stalled") == ("True", "UpgradeAborted")
    assert not [action for action in last.actions if isinstance(action, Create)]

    other = {"analysis": {"requests": [{**REQUEST, "path": "/right"}]}}
    again = decide(edited(snapshot, upgradeStrategy=other), NOW + 60)
    assert again.status is not None
    assert again.status["pendingServiceStatus"]["rayClusterName"]
    assert "failedUpdate" not in again.status

    wrong = {"analysis": {"requests": [{**REQUEST, "path": "right"}]}}
    refused = decide(edited(snapshot, upgradeStrategy=wrong), NOW + 60)
    assert refused.status is not None
    assert "pendingServiceStatus" not in refused.status, "an invalid analysis is no other one"


def test_failures_up_to_the_limit_are_no_failure() -> None:
    snapshot, first = started(analysed({**REQUEST, "failureLimit": 1}))
    second = decide(measured(snapshot, *answers(first, "hello", "bad", "")), NOW + 5)
    assert (state(second)["phase"], check(second, "hello")["failed"]) == ("Running", 1)
    (measure,) = ordered(second).measures
    assert (measure.number, measure.end) == (2, 3)
    snapshot = after(snapshot, second)
    assert state(decide(measured(snapshot, *answers(second, "hello", "")), NOW + 6))["phase"] == "Successful"
    assert state(decide(measured(snapshot, *answers(second, "hello", "bad")), NOW + 6))["phase"] == "Failed"


def test_each_measurement_counts_once_whoever_took_it() -> None:
    """The observer keeps samples until it is told that they were counted; a new one takes only those that lack."""
    snapshot, first = started(analysed(REQUEST))
    samples = answers(first, "hello", "", "")
    second = decide(measured(snapshot, *samples), NOW + 3)
    snapshot = after(snapshot, second)
    third = decide(measured(snapshot, *samples), NOW + 4)
    assert check(third, "hello")["successful"] == 2
    assert third.status == second.status
    assert ordered(third).measures[0].number == 2
    restarted = decide(measured(snapshot), NOW + 5)
    assert restarted.status == second.status
    assert ordered(restarted) == ordered(third)


def test_samples_of_another_subject_count_for_nothing() -> None:
    snapshot, first = started(analysed(REQUEST))
    samples = answers(first, "hello", "", "", "")
    assert state(decide(measured(snapshot, *samples), NOW + 5))["phase"] == "Successful"

    strategy = copy.deepcopy(snapshot.service["spec"]["upgradeStrategy"])
    strategy["analysis"]["requests"][0]["path"] = "/other"
    other = decide(measured(edited(snapshot, upgradeStrategy=strategy), *samples), NOW + 5)
    assert state(other)["checks"] == [{"name": "hello", "phase": "Pending"}]
    assert state(other)["subject"] != state(first)["subject"]


def test_a_pass_is_one_of_this_serve_config() -> None:
    snapshot, first = started(analysed(REQUEST))
    snapshot = measured(snapshot, *answers(first, "hello", "", "", ""))
    snapshot = edited(after(snapshot, decide(snapshot, NOW + 5)), serveConfigV2=OTHER_SERVE_CONFIG)
    decision = decide(snapshot, NOW + 5)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
    assert state(decision) == {}, "not before the new config serves"


def test_an_analysis_that_is_taken_away_holds_nothing() -> None:
    snapshot, _ = started(analysed(REQUEST))
    decision = decide(edited(snapshot, upgradeStrategy={"type": "NewCluster"}), NOW + 1)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-two"


def test_an_analysis_that_cannot_be_read_holds_and_nothing_is_measured() -> None:
    snapshot, _ = started(analysed(REQUEST))
    for spec in ({"requests": "none"}, {"metrics": [{"name": "x"}]}, {}):
        broken = edited(snapshot, upgradeStrategy={"analysis": spec})
        decision = decide(broken, NOW + 1)
        assert decision.status is not None
        assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
        assert condition(decision, "Stalled") == ("True", "ValidationFailed")
        assert order(decision) is None


def test_it_rests_while_the_candidate_is_not_ready() -> None:
    snapshot, first = started(analysed(REQUEST))
    snapshot = after(snapshot, decide(measured(snapshot, *answers(first, "hello", "")), NOW + 2))
    seen = dataclasses.replace(snapshot.observations["demo-two"], applications={})
    resting = dataclasses.replace(snapshot, observations={**snapshot.observations, "demo-two": seen})
    decision = decide(resting, NOW + 3)
    assert order(decision) is None
    assert check(decision, "hello")["successful"] == 1
    assert condition(decision, "UpgradeInProgress") == ("True", "BothActivePendingClustersExist")
    assert ordered(decide(snapshot, NOW + 4)).measures[0].number == 1


def test_promote_passes_it_over() -> None:
    snapshot, _ = started(analysed(REQUEST))
    decision = decide(annotated(snapshot, promote="demo-two"), NOW + 1)
    assert decision.status is not None
    assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-two"


def test_nothing_is_aborted_without_the_net_or_without_an_old_cluster_that_serves() -> None:
    for change in (lambda s: annotated(s, rollback="false"), lambda s: dataclasses.replace(s, endpoint_slices=())):
        snapshot, first = started(analysed(REQUEST))
        failing = change(measured(snapshot, *answers(first, "hello", "HTTP 500")))
        snapshot = after(failing, decide(failing, NOW + 5))
        decision = decide(snapshot, NOW + 6)
        assert decision.status is not None
        assert "failedUpdate" not in decision.status
        assert decision.status["activeServiceStatus"]["rayClusterName"] == "demo-one"
        assert "The analysis of RayCluster demo-two failed: check hello" in decision.status["upgrade"]["message"]
        assert decision.status == decide(after(snapshot, decision), NOW + 7).status


def test_a_dry_run_is_awaited_and_reported_and_decides_nothing() -> None:
    dry = {"name": "dry", "path": "/dry", "dryRun": True}
    snapshot, first = started(analysed(REQUEST, dry))
    second = decide(measured(snapshot, *answers(first, "hello", "", "", "")), NOW + 5)
    assert state(second)["phase"] == "Running"
    snapshot = after(snapshot, second)
    third = decide(measured(snapshot, *answers(second, "dry", "HTTP 404")), NOW + 6)
    assert state(third)["phase"] == "Successful"
    assert check(third, "dry")["phase"] == "Failed"
    assert check(third, "dry")["dryRun"] is True
    assert "1 of 2 checks passed. Of the dry run did not: dry." in state(third)["message"]
    (note,) = [note for note in third.notes if note.reason == "AnalysisDryRun"]
    assert "HTTP 404" in note.message
    assert third.status is not None
    assert "failedUpdate" not in third.status


# --- metrics


def test_windows_begin_after_the_warm_up_and_follow_one_another() -> None:
    snapshot, first = started(analysed(REQUEST, metrics=[{**P95, "initialDelaySeconds": 60, "count": 2}]))
    begun = from_rfc3339(state(first)["started"])
    assert begun is not None
    wanted = ordered(first)
    assert wanted.candidate == (("10.0.1.1", 8080),)
    assert wanted.stable == (("10.0.0.1", 8080), ("10.0.0.2", 8080))
    measure = wanted.measures[1]
    assert measure.what == HistogramWindow("ray_serve_http_request_latency_ms", begun + 60)
    assert (measure.number, measure.end, measure.interval_s) == (0, 1, 20.0)

    end = NOW + 80.5
    second = decide(measured(snapshot, observed(first, 50.0, at=end)), NOW + 81)
    assert check(second, "p95")["successful"] == 1
    measure = ordered(second).measures[1]
    assert isinstance(measure.what, HistogramWindow)
    assert measure.what.since == pytest.approx(end, abs=1)
    assert measure.number == 1
    assert ordered(decide(measured(after(snapshot, second)), NOW + 82)) == ordered(second)


def test_too_small_a_sample_makes_the_window_longer_until_the_limit() -> None:
    snapshot, decision = started(analysed(REQUEST, metrics=[{**P95, "inconclusiveLimit": 2}]))
    start = NOW + 10
    for number in range(3):
        end = start + 20 * (number + 1)
        sample = observed(decision, 3.0, at=end, seconds=end - start)
        decision = decide(measured(snapshot, sample), end)
        snapshot = after(snapshot, decision)
        assert check(decision, "p95")["inconclusive"] == number + 1
        if number < 2:
            what = ordered(decision).measures[1].what
            assert isinstance(what, HistogramWindow)
            assert what.since == pytest.approx(start, abs=1)
    assert state(decision)["phase"] == "Inconclusive"
    assert decision.status is not None
    message = decision.status["failedUpdate"]["message"]
    assert "its analysis was inconclusive: check p95" in message
    assert "3 observations in 60 s, fewer than minimumSample (10)" in message
    assert "3 measurements were inconclusive, inconclusiveLimit is 2" in message


def test_a_metric_out_of_bounds_fails_with_its_numbers() -> None:
    snapshot, first = started(analysed(REQUEST, metrics=[P95]))
    second = decide(measured(snapshot, observed(first, 100.0, slow=10.0, at=NOW + 40)), NOW + 41)
    assert check(second, "p95")["value"] == "150"
    assert second.status is not None
    assert "latency_ms is 150, more than 100 (100 observations in 20 s)" in second.status["failedUpdate"]["message"]


def test_prometheus_is_asked_for_both_clusters() -> None:
    query = 'rate(errors{ray_io_cluster="{{cluster}}",namespace="{{namespace}}",job="{{service}}"}[1m])'
    check = {
        "name": "errors",
        "prometheus": {"address": "http://prometheus:9090/", "query": query},
        "successCondition": {"stable": {"maxRatio": 1.1}},
    }
    _, first = started(analysed(metrics=[check]))
    (measure,) = ordered(first).measures
    assert measure.what == PrometheusQuery(
        "http://prometheus:9090",
        'rate(errors{ray_io_cluster="demo-two",namespace="default",job="demo"}[1m])',
        'rate(errors{ray_io_cluster="demo-one",namespace="default",job="demo"}[1m])',
    )
    absolute = {**check, "successCondition": {"max": 1}}
    _, first = started(analysed(metrics=[absolute]))
    what = ordered(first).measures[0].what
    assert isinstance(what, PrometheusQuery)
    assert what.stable is None


def test_each_share_of_the_requests_is_a_subject_of_its_own() -> None:
    """A strategy that moves traffic in steps asks before each of them; with all of it there is nothing to compare."""
    snapshot, first = started(analysed(REQUEST))
    service = copy.deepcopy(snapshot.service)
    service["status"]["pendingServiceStatus"]["trafficRoutedPercent"] = 20
    stepped = decide(dataclasses.replace(snapshot, service=service), NOW + 1)
    assert state(stepped)["subject"] != state(first)["subject"]
    service["status"]["pendingServiceStatus"]["trafficRoutedPercent"] = 100
    last = decide(dataclasses.replace(snapshot, service=service), NOW + 1)
    assert last.status is not None
    assert last.status["activeServiceStatus"]["rayClusterName"] == "demo-two"
