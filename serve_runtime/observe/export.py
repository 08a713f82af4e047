"""Where spans go. Named in the environment of the head and of the workers, for proxies and replicas alike::

RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=serve_runtime.observe.export:otlp
RAY_SERVE_TRACING_SAMPLING_RATIO=0.05
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
"""

from __future__ import annotations

import logging
import os
from typing import Any, Final

_LOG = logging.getLogger("ray.serve")
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def otlp() -> list[Any]:
    """Span processors for Ray Serve: OTLP over HTTP, in batches, from a thread; ``OTEL_…`` variables are obeyed.

    Raises nothing. Ray Serve calls this while a proxy or a replica starts, and what is raised here would keep them from
    serving; so what is missing is logged, and no spans are sent.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        _LOG.error("No traces are sent: set %s to the address of a collector", ENDPOINTS[1])
        return []
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        _LOG.error("No traces are sent: %s is missing; install rayservice-operator[otel] in the image", missing.name)
        return []
    try:
        return [BatchSpanProcessor(OTLPSpanExporter())]
    except Exception:
        _LOG.exception("No traces are sent: the exporter cannot be made of the OTEL_… variables")
        return []
