"""The measurements that an analysis orders, against fake heads over HTTP. Conditions are awaited."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.decision import ObserveTarget
from rayservice_operator.core.measurements import (
    AnalysisOrder,
    HistogramWindow,
    Increase,
    Measurable,
    Measure,
    PrometheusQuery,
    QuerySample,
    RequestSample,
    Sample,
    SmokeRequest,
    WindowSample,
)
from rayservice_operator.ray import analysis
from rayservice_operator.ray.prometheus import NoValueError, histograms, value_of
from tests.fakes.fake_ray import FakeRay
from tests.fakes.serve_metrics import FAMILY, ServeMetrics
from tests.ray.configs import payload, push
from tests.ray.conftest import KEY, StartHead, Watcher, target

pytestmark = pytest.mark.timeout(30)

TWO_REPLICAS = push(body=payload("h1", num_replicas=2))
HOST = "demo-serve-svc.default.svc:8000"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RETRY_S", 0.01)


def measure(what: Measurable, *, check: str = "c", number: int = 0, end: int = 1, interval_s: float = 0.01) -> Measure:
    return Measure(check, number, end, 0.0, interval_s, what)


def with_order(head: FakeRay, *measures: Measure, subject: str = "s", **more: Any) -> ObserveTarget:
    """A target that watches ``head`` and measures it; ``stable`` and others override the addresses."""
    addresses = tuple((node, head.metrics_port) for node in head.nodes)
    proxies = tuple((node, head.serve_port) for node in head.nodes)
    order = AnalysisOrder(subject, measures, **{"proxies": proxies, "candidate": addresses, **more})
    return dataclasses.replace(target(head, push=TWO_REPLICAS), analysis=order)


def samples(watcher: Watcher, check: str = "c") -> list[Sample]:
    return [sample for sample in watcher.see().samples if sample.check == check]


async def measured(watcher: Watcher, wanted: ObserveTarget, count: int = 1, check: str = "c") -> list[Sample]:
    """The samples of one check that this order led to, once there are so many."""
    order = wanted.analysis
    assert order is not None
    first = next(measure.number for measure in order.measures if measure.check == check)

    def found() -> list[Sample]:
        return [s for s in samples(watcher, check) if s.subject == order.subject and s.number >= first]

    watcher.pool.sync(KEY, (wanted,))
    await watcher.until(lambda: len(found()) >= count)
    return found()


async def serving(watcher: Watcher, head: FakeRay) -> FakeRay:
    watcher.pool.sync(KEY, (target(head, push=TWO_REPLICAS),))
    await watcher.until_serving(head)
    return head


def request(**changes: Any) -> SmokeRequest:
    return SmokeRequest(**{"method": "GET", "path": "/", "host": HOST, **changes})


# --- smoke requests


async def test_requests_go_to_the_pods_as_users_send_them(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head(nodes=("127.0.0.1", "127.0.0.2")))
    what = request(
        method="POST", path="/chat?x=a%20b", headers=(("X-Team", "ml"),), body='{"n": 1}', json='{"greeting": "h1"}'
    )
    found = await measured(watcher, with_order(head, measure(what, end=3)), 3)
    assert [(sample.subject, sample.number) for sample in found] == [("s", 0), ("s", 1), ("s", 2)]
    assert all(isinstance(s.what, RequestSample) and (s.what.problem, s.what.status) == ("", 200) for s in found)
    assert set(head.requests) == {("POST", "/chat?x=a%20b", HOST, '{"n": 1}')}
    assert (head.asked["proxy 127.0.0.1 /chat"], head.asked["proxy 127.0.0.2 /chat"]) == (2, 1), "one after another"


async def test_a_wrong_answer_is_asked_for_again_and_then_told(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    head.answer = (500, "out of memory")
    (sample,) = await measured(watcher, with_order(head, measure(request(retries=2))))
    assert isinstance(sample.what, RequestSample)
    assert sample.what.problem == "pod 127.0.0.1: HTTP 500 instead of 200 to 299: out of memory"
    assert (sample.what.status, sample.what.attempts) == (500, 3)
    assert len(head.requests) == 3


async def test_a_request_without_an_answer_ends_and_delays_nobody(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    head.slow_s = 3600.0
    hanging = measure(request(timeout_s=0.2), check="hanging")
    forever = measure(request(timeout_s=3600.0), check="forever")
    looks = head.asked["GET /api/serve/applications/"]
    (sample,) = await measured(watcher, with_order(head, forever, hanging), check="hanging")
    assert isinstance(sample.what, RequestSample)
    assert sample.what.problem == "pod 127.0.0.1: no answer within 0.2 s"
    await head.until_asked("GET /api/serve/applications/", looks + 3)


async def test_a_connection_that_fails_is_told(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    gone = with_order(head, measure(request()), proxies=(("127.0.0.1", 9),))
    (sample,) = await measured(watcher, gone)
    assert isinstance(sample.what, RequestSample)
    assert sample.what.problem.startswith("pod 127.0.0.1: the connection failed")
    (sample,) = await measured(watcher, with_order(head, measure(request()), subject="t", proxies=()))
    assert isinstance(sample.what, RequestSample)
    assert sample.what.problem == "no pod of the new cluster is ready"


async def test_only_what_is_wanted_is_measured_and_each_once(watcher: Watcher, start_head: StartHead) -> None:
    """Decisions repeat their orders; one that has counted asks for the rest, a new operator begins where it stood."""
    head = await serving(watcher, await start_head())
    wanted = with_order(head, measure(request(), number=7, end=9))
    found = await measured(watcher, wanted, 2)
    assert [sample.number for sample in found] == [7, 8]
    for _ in range(3):
        watcher.pool.sync(KEY, (wanted,))
    await measured(watcher, with_order(head, measure(request(), number=9, end=10)))
    assert [sample.number for sample in samples(watcher)] == [9]
    assert len(head.requests) == 3


async def test_another_subject_begins_anew_and_none_ends_it(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    await measured(watcher, with_order(head, measure(request(), end=2)), 2)
    await measured(watcher, with_order(head, measure(request()), subject="other"))
    assert [(sample.subject, sample.number) for sample in samples(watcher)] == [("other", 0)]
    head.slow_s = 3600.0
    watcher.pool.sync(KEY, (with_order(head, measure(request(timeout_s=3600.0)), subject="third"),))
    await head.until_asked("proxy 127.0.0.1 /", 4)
    watcher.pool.sync(KEY, (target(head, push=TWO_REPLICAS),))
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("measure") and not task.cancelling()]


async def test_successes_are_told_now_and_then_a_failure_at_once(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    watcher.pool.sync(KEY, (with_order(head, measure(request(), end=1000)),))
    await watcher.until(lambda: len(samples(watcher)) == 1)
    await head.until_asked("proxy 127.0.0.1 /", 20)
    assert len(samples(watcher)) == 1
    head.answer = (500, "")
    await watcher.until(lambda: len(samples(watcher)) > 1)
    last = samples(watcher)[-1]
    assert isinstance(last.what, RequestSample)
    assert last.what.problem
    assert [sample.number for sample in samples(watcher)] == list(range(last.number + 1))


# --- the pods' own metrics


def window(*, since: float = 0.0, stable: bool = False, **labels: str) -> HistogramWindow:
    return HistogramWindow(FAMILY, since, tuple(labels.items()), stable)


async def test_a_window_is_what_was_added_on_both_clusters(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head(nodes=("127.0.0.1", "127.0.0.2")))
    old = await start_head(address="127.0.0.3", nodes=("127.0.0.3",))
    for exported in (*head.metrics.values(), *old.metrics.values()):
        exported.observe("q", "/", "GET", 200, 7.0)
    wanted = with_order(
        head,
        measure(window(stable=True, application="q"), interval_s=0.3),
        stable=(("127.0.0.3", old.metrics_port),),
    )
    watcher.pool.sync(KEY, (wanted,))
    await old.until_asked("metrics 127.0.0.3 /metrics")
    await head.until_asked("metrics 127.0.0.2 /metrics")
    head.metrics["127.0.0.1"].observe("q", "/", "GET", 200, 15.0)
    head.metrics["127.0.0.2"].observe("q", "/", "GET", 503, 3.0)
    head.metrics["127.0.0.2"].observe("", "", "GET", 404, 1.0)
    old.metrics["127.0.0.3"].observe("q", "/", "GET", 200, 1.0)
    (sample,) = await measured(watcher, wanted)
    assert isinstance(sample.what, WindowSample)
    candidate, stable = sample.what.candidate, sample.what.stable
    assert candidate is not None
    assert stable is not None
    assert (candidate.count, candidate.errors, stable.count) == (2, 1, 1)
    assert (candidate.buckets[2.0], candidate.buckets[5.0], candidate.buckets[20.0], candidate.buckets[math.inf]) == (
        0,
        1,
        2,
        2,
    )
    assert sample.what.seconds >= 0.3
    assert sample.at == sample.what.ended


async def test_a_window_goes_on_from_where_it_began(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    (first,) = await measured(watcher, with_order(head, measure(window(), interval_s=0.1)))
    assert isinstance(first.what, WindowSample)
    began = first.at - first.what.seconds
    head.metrics["127.0.0.1"].observe("q", "/", "GET", 200, 15.0)
    longer = dataclasses.replace(
        measure(window(since=began), number=1, end=2, interval_s=0.1), not_before=first.at + 0.1
    )
    (second,) = await measured(watcher, with_order(head, longer))
    assert isinstance(second.what, WindowSample)
    assert second.at - second.what.seconds == pytest.approx(began)
    next_one = measure(window(since=second.at), number=2, end=3, interval_s=0.1)
    (third,) = await measured(watcher, with_order(head, next_one))
    assert isinstance(third.what, WindowSample)
    assert third.at - third.what.seconds == pytest.approx(second.at)
    assert (second.what.candidate, third.what.candidate) == (
        Increase(1, 0, second.what.candidate.buckets if second.what.candidate else {}),
        Increase(0, 0, third.what.candidate.buckets if third.what.candidate else {}),
    )


async def test_pods_whose_metrics_cannot_be_read(
    watcher: Watcher, start_head: StartHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "SCRAPE_S", 0.1)
    head = await serving(watcher, await start_head())
    head.metrics_hang = True
    (sample,) = await measured(watcher, with_order(head, measure(window())))
    assert isinstance(sample.what, WindowSample)
    assert sample.what.error == "the metrics of the new cluster's pods cannot be read"


def test_only_the_histograms_asked_for_are_parsed() -> None:
    exported = ServeMetrics()
    exported.observe("q", "/a{b}", "GET", 200, 3.0)
    text = exported.text() + 'other_bucket{le="1.0"} broken\n'
    series = histograms(text.encode(), [FAMILY])
    assert {name for name, _ in series} == {f"{FAMILY}_bucket", f"{FAMILY}_count"}
    assert series[next(key for key in series if key[0].endswith("_count"))] == 1
    assert dict(next(labels for name, labels in series))["route"] == "/a{b}"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_text_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        histograms(b"h_bucket{" + body + b"\nh_count{" + body, ["h"])


# --- Prometheus


@contextlib.asynccontextmanager
async def prometheus(answers: dict[str, tuple[int, str]]) -> AsyncIterator[str]:
    """A server that gives these answers to queries; its address."""

    async def answer(request: web.Request) -> web.StreamResponse:
        status, body = answers[request.query["query"]]
        return web.Response(status=status, text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


def vector(*values: str) -> tuple[int, str]:
    result = [{"metric": {}, "value": [time.time(), value]} for value in values]
    return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


async def test_prometheus_is_asked_for_both(watcher: Watcher, start_head: StartHead) -> None:
    head = await serving(watcher, await start_head())
    answers = {"new": vector("0.25"), "old": vector("0.5"), "none": vector(), "two": vector("1", "2")}
    async with prometheus(answers) as address:
        for number, (candidate, stable, expected) in enumerate(
            [
                ("new", "old", QuerySample(0.25, 0.5)),
                ("new", None, QuerySample(0.25)),
                ("none", "old", QuerySample(None, 0.5)),
                ("two", None, QuerySample(error="the query gives 2 series, not one; aggregate them, as with sum()")),
            ]
        ):
            what = PrometheusQuery(address, candidate, stable)
            (sample,) = await measured(watcher, with_order(head, measure(what), subject=str(number)))
            assert sample.what == expected
    (sample,) = await measured(watcher, with_order(head, measure(PrometheusQuery(address, "new")), subject="gone"))
    assert isinstance(sample.what, QuerySample)
    assert sample.what.error.startswith("the connection failed")


@pytest.mark.parametrize(
    ("status", "body", "value", "says"),
    [
        (*vector("NaN"), math.nan, ""),
        (*vector("+Inf"), math.inf, ""),
        (200, '{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}', 3.0, ""),
        (200, '{"status": "success", "data": {"resultType": "matrix", "result": []}}', None, "gives a matrix"),
        (400, '{"status": "error", "errorType": "bad_data", "error": "parse error"}', None, "bad_data: parse error"),
        (200, "<html>secret</html>", None, "HTTP 200, and the answer is not that of a Prometheus server"),
        (200, "[]", None, "not that of a Prometheus server"),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": [{}]}}', None, "not that of"),
    ],
)
def test_answers_of_prometheus(status: int, body: str, value: float | None, says: str) -> None:
    if says:
        with pytest.raises(NoValueError, match=says) as refused:
            value_of(status, body.encode())
        assert "secret" not in str(refused.value)
        return
    found = value_of(status, body.encode())
    assert found == value or (found is not None and math.isnan(found))
