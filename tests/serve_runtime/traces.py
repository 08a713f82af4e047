"""Traces of a real Ray through the file exporter that Ray Serve comes with."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.serve_runtime.live import Live

ENVIRONMENT = {
    "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "ray.serve._private.tracing_utils:default_tracing_exporter",
    "RAY_SERVE_TRACING_SAMPLING_RATIO": "0",  # only what a caller has sampled
}
"""Of the head."""

RAYS = {"proxy_http_request", "route_to_replica", "replica_handle_request"}
"""Ray Serve's own spans of a request."""


def parent(*, sampled: bool = True) -> tuple[str, dict[str, str]]:
    """A trace's id, and the header of a caller that is in it (W3C Trace Context)."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-0{int(sampled)}"}


def spans(live: Live, trace: str) -> dict[str, dict[str, Any]]:
    """The trace's spans by id, as far as they have ended."""
    found: dict[str, dict[str, Any]] = {}
    for file in (live.ray.temp_dir / "session_latest" / "logs" / "serve" / "spans").glob("*"):
        text, decoder, at = file.read_text(), json.JSONDecoder(), 0
        while at < len(text):
            span, at = decoder.raw_decode(text, at)
            while at < len(text) and text[at].isspace():
                at += 1
            if span["context"]["trace_id"] == f"0x{trace}":
                found[span["context"]["span_id"]] = span
    return found


def names(live: Live, trace: str) -> set[str]:
    """What they are called, without what Ray adds of the deployment."""
    return {span["name"].partition(" ")[0] for span in spans(live, trace).values()}


def deployments(live: Live, trace: str) -> set[str]:
    """Whose replicas have handled something of it, as Ray Serve names them in its spans."""
    found = (span["name"].split() for span in spans(live, trace).values())
    return {words[1] for words in found if words[0] == "replica_handle_request"}
