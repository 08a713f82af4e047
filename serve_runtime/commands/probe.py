"""Ask whether this node is ready: its Serve proxy, and when asked, what runs here and whether it is warm.

One line says why, 0 means ready, 1 not ready. For readiness probes, init containers (--wait) and scripts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from serve_runtime.commands import node, values
from serve_runtime.commands.node import NodeError
from serve_runtime.commands.warm import WarmUp

_PAUSE_S: Final = 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    """As every command's."""
    parser.add_argument("--proxy", default="http://127.0.0.1:8000", metavar="URL", help="of this node's Serve proxy")
    parser.add_argument("--no-proxy", action="store_true", help="do not ask the proxy")
    parser.add_argument(
        "--application", action="append", default=[], metavar="NAME", help="is RUNNING, and the proxy has its route"
    )
    parser.add_argument(
        "--deployment", action="append", default=[], type=_deployment, metavar="APP/NAME", help="has a running replica"
    )
    parser.add_argument("--here", action="store_true", help="each --deployment on this very node")
    parser.add_argument("--idle-ok", action="store_true", help="ready where Serve has neither proxy nor replica here")
    parser.add_argument("--warm", metavar="PATH", default="", help="answered with 2xx once since the container began")
    parser.add_argument("--warm-body", metavar="JSON", default="", help="posted to PATH; @FILE reads it")
    parser.add_argument(
        "--warm-times", type=values.count, default=1, metavar="N", help="that many answers one after another"
    )
    parser.add_argument("--warm-timeout", type=values.positive, default=600.0, metavar="S", help="for all of them")
    parser.add_argument("--dashboard", metavar="URL", default="", help="of the head; else port 8265 at RAY_ADDRESS")
    parser.add_argument("--node-ip", default="", help="this node's address as Ray has it; else by its host name")
    parser.add_argument(
        "--timeout", type=values.positive, default=4.0, metavar="S", help="for all questions of one look"
    )
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="look again until ready, this long")


def run(asked: argparse.Namespace) -> int:
    """0 when ready, else 1; one line on stdout."""
    until = time.monotonic() + asked.wait
    while True:
        deadline = time.monotonic() + asked.timeout
        try:
            said, ready = f"ready: {', '.join(Probe(asked, deadline).look()) or 'nothing was asked'}", True
        except NodeError as error:
            said, ready = f"not ready: {error}", False
        if ready or time.monotonic() + _PAUSE_S > until:
            sys.stdout.write(f"{said}\n")
            return 0 if ready else 1
        time.sleep(_PAUSE_S)


@dataclass
class Probe:
    """One look. ``deadline`` is monotonic; no question outlives it."""

    asked: argparse.Namespace
    deadline: float
    _details: Mapping[str, Any] = field(default_factory=dict)

    def look(self) -> list[str]:
        """What is well, in words. Raises NodeError with the first thing that is not."""
        asked = self.asked
        if asked.application or asked.deployment or asked.idle_ok:
            self._details = node.serve_details(node.dashboard_url(asked.dashboard), self.left())
        if asked.idle_ok and self._idle():
            return ["Serve has neither proxy nor replica on this node"]
        checks: list[tuple[object, Callable[[], str]]] = [
            (not asked.no_proxy, self._proxy),
            (asked.application, self._applications),
            (asked.deployment, self._deployments),
            (asked.warm, self._warm),
        ]
        return [check() for wanted, check in checks if wanted]

    def left(self) -> float:
        """Seconds for the next question. Raises NodeError when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NodeError(f"not all was answered within --timeout {self.asked.timeout:g}")
        return left

    def _proxy(self) -> str:
        url = f"{self.asked.proxy.rstrip('/')}/-/healthz"
        try:
            got = node.ask(url, self.left())
        except NodeError as error:
            raise NodeError(f"the proxy of this node ({self.asked.proxy}): {error}") from None
        if got.status != 200:
            raise NodeError(f"the proxy of this node says {got.status}: {_short(got.body)}")
        return "the proxy takes requests"

    def _applications(self) -> str:
        known = self._details.get("applications") or {}
        for name in self.asked.application:
            app = known.get(name)
            if app is None:
                raise NodeError(f"application {name} is not there; there are {', '.join(sorted(known)) or 'none'}")
            if app.get("status") != "RUNNING":
                why = " ".join(str(app.get("message") or "").split())[:200]
                raise NodeError(f"application {name} is {app.get('status')}{': ' + why if why else ''}")
            prefix = app.get("route_prefix")
            if prefix and not self.asked.no_proxy:
                got = node.ask(f"{self.asked.proxy.rstrip('/')}/-/routes", self.left())
                if got.status != 200 or f'"{prefix}"'.encode() not in got.body:
                    raise NodeError(f"the proxy of this node has no route {prefix} of application {name} yet")
        return f"{', '.join(self.asked.application)} RUNNING"

    def _deployments(self) -> str:
        this = node.here(self.asked.node_ip)
        for app, name in self.asked.deployment:
            deployments = ((self._details.get("applications") or {}).get(app) or {}).get("deployments") or {}
            found = deployments.get(name)
            if found is None:
                raise NodeError(f"deployment {app}/{name} is not there; there are {', '.join(deployments) or 'none'}")
            replicas = [r for r in found.get("replicas") or () if not self.asked.here or this.is_of(r)]
            states = [str(r.get("state")) for r in replicas]
            if "RUNNING" not in states:
                where = " on this node" if self.asked.here else ""
                raise NodeError(f"{app}/{name} has no running replica{where}: {', '.join(states) or 'none'}")
        names = ", ".join(f"{app}/{name}" for app, name in self.asked.deployment)
        return f"{names} running{' here' if self.asked.here else ''}"

    def _warm(self) -> str:
        body = self.asked.warm_body
        if body.startswith("@"):
            try:
                body = Path(body[1:]).read_text()
            except OSError as error:
                raise NodeError(f"--warm-body {body}: {error.strerror}") from error
        url = self.asked.proxy.rstrip("/") + "/" + self.asked.warm.lstrip("/")
        warm_up = WarmUp(url, body.encode(), self.asked.warm_times, self.asked.warm_timeout)
        return warm_up.look(self.left)

    def _idle(self) -> bool:
        this = node.here(self.asked.node_ip)
        proxies = (self._details.get("proxies") or {}).values()
        replicas = (
            replica
            for app in (self._details.get("applications") or {}).values()
            for deployment in (app.get("deployments") or {}).values()
            for replica in deployment.get("replicas") or ()
        )
        return not any(this.is_of(actor) for actor in (*proxies, *replicas))


def _deployment(text: str) -> tuple[str, str]:
    app, slash, name = text.partition("/")
    if not (app and slash and name):
        raise argparse.ArgumentTypeError(f"{text}: write APPLICATION/DEPLOYMENT")
    return app, name


def _short(body: bytes) -> str:
    return " ".join(body[:200].decode(errors="replace").split())
