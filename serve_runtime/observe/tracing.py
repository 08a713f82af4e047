"""Spans within Ray Serve's own: what a request waits for, the batch it is in, the step of a pipeline.

Ray Serve reads ``traceparent``, and makes a span in the proxy, in the router and in the replica, once
``RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH`` names an exporter (:mod:`serve_runtime.observe.export`). Where it does not,
or a request is not sampled, each function here looks at one context variable and returns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

try:
    from opentelemetry import trace
    from opentelemetry.propagate import extract, inject
except ModuleNotFoundError:  # comes with ray[serve]; pure modules that import this are tested without
    trace = None

_TRACER: Final = "serve_runtime"
PREFIX: Final = "serve_runtime."
"""Before the names of attributes."""


def current() -> Any:
    """The span that is open here; None where the request is not traced."""
    if trace is None:
        return None
    found = trace.get_current_span()
    return found if found.is_recording() else None


@contextlib.contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """A span for the length of the block, and for what is called in it; an exception that leaves it is its status."""
    if current() is None:
        yield
        return
    with trace.get_tracer(_TRACER).start_as_current_span(name, attributes=_named(attributes)):
        yield


@contextlib.contextmanager
def continued(traceparent: str, name: str, **attributes: Any) -> Iterator[None]:
    """As :func:`span`, in a trace that was begun elsewhere and some time ago. traceparent: what :func:`traceparent`
    gave there; empty, or not sampled, it is no span.
    """
    if trace is None or not traceparent:
        yield
        return
    context = extract({"traceparent": traceparent})
    with trace.get_tracer(_TRACER).start_as_current_span(name, context=context, attributes=_named(attributes)):
        yield


@contextlib.contextmanager
def together(name: str, requests: Sequence[Any], **attributes: Any) -> Iterator[None]:
    """A span for work on several requests, ``requests`` being what :func:`current` gave in each: in the trace of the
    first that has one, linked to the others.
    """
    traced = [each for each in requests if each is not None]
    if not traced:
        yield
        return
    parent, *others = traced
    with trace.get_tracer(_TRACER).start_as_current_span(
        name,
        context=trace.set_span_in_context(parent),
        links=[trace.Link(each.get_span_context()) for each in others],
        attributes=_named({**attributes, "requests": len(requests)}),
    ):
        yield


def happened(name: str, request: Any, begun: float, **attributes: Any) -> None:
    """A span that ends now, in the trace of ``request``, a value of :func:`current`. begun: monotonic seconds."""
    if request is None:
        return
    now = time.time_ns()
    start = now - int((time.monotonic() - begun) * 1e9)
    made = trace.get_tracer(_TRACER).start_span(
        name, context=trace.set_span_in_context(request), start_time=start, attributes=_named(attributes)
    )
    made.end(now)


def annotate(**attributes: Any) -> None:
    """Attributes of the span that is open here."""
    if (found := current()) is not None:
        found.set_attributes(_named(attributes))


def event(name: str) -> None:
    """A moment in the span that is open here."""
    if (found := current()) is not None:
        found.add_event(name)


def headers() -> dict[str, str]:
    """``traceparent`` (and ``tracestate``) for requests to others, so that their spans are in this trace; else empty.

    Calls of deployment handles carry it by themselves.
    """
    made: dict[str, str] = {}
    if current() is not None:
        inject(made)
    return made


def traceparent() -> str:
    """To be kept with what is done later; empty where the request is not traced."""
    return headers().get("traceparent", "")


def trace_id() -> str:
    """32 hexadecimal digits; empty where the request is not traced."""
    found = current()
    return "" if found is None else trace.format_trace_id(found.get_span_context().trace_id)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"{PREFIX}{name}": value for name, value in attributes.items()}
