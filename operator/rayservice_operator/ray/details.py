"""Reads what the Serve REST API answers: leniently, because every Ray version has other fields.

Pure functions from bytes to the types of ``core.observation``. A missing or oddly typed field is empty, never an
error; only a body that is no JSON object is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.observation import ApplicationView, DeploymentView, ReplicaView

_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_FRAME: Final = re.compile(r"^\s*File \"")
_TRACE_START: Final = re.compile(
    r"^\s*(?:Traceback \(most recent call last\)|ray(?:\.exceptions\.\w+)?[:(].*|File \".*)"
)
_DECORATION: Final = re.compile(r"\s*\[type=\w+.*\]$", re.DOTALL)
_METRICS_KEY: Final = b'"controller_health_metrics"'
_METRICS_OPEN: Final = re.compile(rb'"controller_health_metrics"\s*:\s*\{')
_BRACE: Final = re.compile(rb'[{}]|"(?:\\.|[^"\\])*"')


@dataclass(frozen=True, slots=True)
class ServeDetails:
    """One answer of ``GET /api/serve/applications/``: applications by name, addresses of the HTTP proxies, percent."""

    applications: Mapping[str, ApplicationView] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    target_capacity: float | None = None


@dataclass(frozen=True, slots=True)
class HeadVersion:
    """``GET /api/version``. ``session`` is Ray's session name, another one after a restart of the head."""

    ray_version: str = ""
    session: str = ""


def parse_details(body: bytes) -> ServeDetails:
    """Raises ValueError for a body that is no JSON object."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return ServeDetails(
        applications={
            str(name): _application(str(name), app)
            for name, app in _mapping(document.get("applications")).items()
            if isinstance(app, dict)
        },
        proxies={
            _text(proxy.get("node_ip")): _text(proxy.get("status"))
            for proxy in _mapping(document.get("proxies")).values()
            if isinstance(proxy, dict) and proxy.get("node_ip")
        },
        target_capacity=_number(document.get("target_capacity")),
    )


def parse_version(body: bytes) -> HeadVersion:
    """Raises ValueError for a body that is no JSON object."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return HeadVersion(_text(document.get("ray_version")), _text(document.get("session_name")))


def without_health_metrics(body: bytes) -> bytes:
    """``body`` less ``controller_health_metrics``, which has a new timestamp each time (Ray 2.60).

    Two answers that differ in nothing else give the same bytes, so the second need not be parsed.
    """
    start = body.rfind(_METRICS_KEY)
    opening = _METRICS_OPEN.match(body, start) if start >= 0 else None
    if opening is None:
        return body
    depth = 0
    for token in _BRACE.finditer(body, opening.end() - 1):
        if token[0] == b"{":
            depth += 1
        elif token[0] == b"}":
            depth -= 1
            if depth == 0:
                return body[:start] + body[token.end() :]
    return body


def readable(message: str) -> str:
    """A message of Ray for people: no colour codes; of a traceback only what comes before it and its exception.

    Frames say where in Ray it happened, and process and actor ids change with every try; the exception at the end
    says what is wrong.
    """
    lines = [line.rstrip() for line in _ANSI.sub("", message).splitlines()]
    frames = [index for index, line in enumerate(lines) if _FRAME.match(line)]
    if not frames:
        return shorten("\n".join(lines).strip())
    head = lines[: next(index for index, line in enumerate(lines) if _TRACE_START.match(line))]
    tail = lines[frames[-1] + 1 :]
    while tail and (not tail[0] or tail[0].startswith("    ")):  # the frame's source line and its carets
        tail.pop(0)
    return shorten("\n".join(line for line in (*head, *tail) if line.strip()).strip() or lines[-1].strip())


def validation_message(text: str) -> str:
    """pydantic's report (the text of a 400) as one line per field, without the values that were given.

    ``applications.0.import_path: Field required``: values can be secrets and are in the manifest anyway.
    """
    lines = [line for line in _ANSI.sub("", text).splitlines() if line.strip()]
    if not lines or "validation error" not in lines[0]:
        return readable(text)
    problems: list[str] = []
    where: str | None = None
    for line in lines[1:]:
        if not line.startswith(" "):
            where = line.strip()
        elif line.startswith("  ") and not line.startswith("   "):
            problem = _DECORATION.sub("", line.strip()).removeprefix("Value error, ")
            problems.append(f"{where}: {problem}" if where else problem)
    return shorten("; ".join(dict.fromkeys(problems)) or lines[0])


def replicas_by_address(applications: Iterable[ApplicationView]) -> dict[str, int]:
    """How many replicas each pod address carries; one that is starting or finishing its requests counts too."""
    result: dict[str, int] = {}
    for app in applications:
        for deployment in app.deployments.values():
            for replica in deployment.replicas:
                if replica.node_ip and replica.state != "STOPPED":
                    result[replica.node_ip] = result.get(replica.node_ip, 0) + 1
    return result


def _application(name: str, app: Mapping[str, Any]) -> ApplicationView:
    route_prefix = app.get("route_prefix")
    return ApplicationView(
        name=name,
        status=_text(app.get("status")),
        message=readable(_text(app.get("message"))),
        route_prefix=route_prefix if isinstance(route_prefix, str) else None,
        deployments={
            str(key): _deployment(str(key), deployment)
            for key, deployment in _mapping(app.get("deployments")).items()
            if isinstance(deployment, dict)
        },
        config=_mapping(app.get("deployed_app_config")),
        last_deployed_s=_number(app.get("last_deployed_time_s")),
    )


def _deployment(name: str, deployment: Mapping[str, Any]) -> DeploymentView:
    target = deployment.get("target_num_replicas")
    replicas = deployment.get("replicas")
    return DeploymentView(
        name=name,
        status=_text(deployment.get("status")),
        message=readable(_text(deployment.get("message"))),
        status_trigger=_text(deployment.get("status_trigger")),
        target_replicas=target if isinstance(target, int) else None,
        replicas=tuple(
            ReplicaView(
                replica_id=_text(replica.get("replica_id")),
                state=_text(replica.get("state")),
                node_ip=_text(replica.get("node_ip")),
            )
            for replica in (replicas if isinstance(replicas, list) else ())
            if isinstance(replica, dict)
        ),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
