"""Spans, their links, and the exporter, without Ray."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serve_runtime.observe import export, logs, tracing


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is exported; the tracers of this process are those of a provider of the test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def test_without_a_trace_nothing_is_made(spans: InMemorySpanExporter) -> None:
    with tracing.span("step", size=1), tracing.together("batch", [None, None]):
        tracing.annotate(outcome="ok")
        tracing.event("first item")
        tracing.happened("wait", tracing.current(), time.monotonic())
    assert (tracing.headers(), tracing.trace_id(), spans.get_finished_spans()) == ({}, "", ())


def test_a_request_that_is_not_sampled_costs_nothing_either(spans: InMemorySpanExporter) -> None:
    unsampled = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True))
    with trace.use_span(unsampled), tracing.span("step"):
        assert tracing.current() is None
    assert spans.get_finished_spans() == ()


def test_a_span_is_within_the_request_and_says_how_it_ended(spans: InMemorySpanExporter) -> None:
    with trace.get_tracer("test").start_as_current_span("request") as request:
        with pytest.raises(ValueError, match="wrong"), tracing.span("step", step="a"):
            raise ValueError("wrong")
        tracing.happened("wait", tracing.current(), time.monotonic() - 5)
        inside = tracing.headers()["traceparent"]
        assert tracing.trace_id() in inside
    step, wait, _ = spans.get_finished_spans()
    assert step.parent
    assert step.parent.span_id == request.get_span_context().span_id
    assert (step.attributes or {})["serve_runtime.step"] == "a"
    assert not step.status.is_ok
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert wait.end_time - wait.start_time >= 5e9


def test_a_batch_is_in_the_first_trace_and_linked_to_the_others(spans: InMemorySpanExporter) -> None:
    tracer = trace.get_tracer("test")
    requests = [tracer.start_span(name, context=trace.set_span_in_context(trace.INVALID_SPAN)) for name in "ab"]
    with tracing.together("predict_batch", [None, *requests]):
        assert tracing.trace_id() == trace.format_trace_id(requests[0].get_span_context().trace_id)
    (batch,) = spans.get_finished_spans()
    assert (batch.attributes or {})["serve_runtime.requests"] == 3
    assert [link.context for link in batch.links] == [requests[1].get_span_context()]


def test_log_records_of_a_traced_request_have_its_trace_id(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    logs.with_trace_ids()
    logs.with_trace_ids()
    logger = logging.getLogger("ray.serve")
    with trace.get_tracer("test").start_as_current_span("request"):
        logger.warning("inside")
        wanted = tracing.trace_id()
    logger.warning("outside")
    inside, outside = caplog.records
    assert inside.__dict__["trace_id"] == wanted
    assert "trace_id" not in outside.__dict__


class _Collector(BaseHTTPRequestHandler):
    """Takes what an OpenTelemetry collector takes."""

    def do_POST(self) -> None:
        """Keeps the path and the body."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, self.headers["content-type"], body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    """A server that keeps what it gets."""
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    server.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_reach_the_collector(collector: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    (processor,) = export.otlp()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("a span of ours").end()
    provider.shutdown()
    ((path, content_type, body),) = collector.got  # type: ignore[attr-defined]
    assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
    assert b"a span of ours" in body


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "set OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "cannot be made"),
    ],
)
def test_a_wrong_environment_is_logged_and_keeps_nobody_from_serving(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in export.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert export.otlp() == []
    assert told in caplog.text


def test_without_the_extra_it_is_said_which_one_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert export.otlp() == []
    assert "rayservice-operator[otel]" in caplog.text
