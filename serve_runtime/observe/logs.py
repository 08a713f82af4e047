"""Logs that lead to traces: Ray Serve's records have request id, route, application, deployment and replica."""

from __future__ import annotations

import logging

from serve_runtime.observe import tracing


class _TraceId(logging.Filter):
    """Lets everything through, and adds ``trace_id`` where the request is traced; in JSON it is a field."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True."""
        if found := tracing.trace_id():
            record.trace_id = found
        return True


def with_trace_ids() -> None:
    """From now on, in this process, for the logger ``ray.serve``. Called by each replica; once is enough."""
    logger = logging.getLogger("ray.serve")
    if not any(isinstance(each, _TraceId) for each in logger.filters):
        logger.addFilter(_TraceId())
