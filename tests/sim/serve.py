"""One Ray session's Serve instance, with simulated time: what it was told, what it runs, on which pods.

What an application does is written in its ``import_path``: ``demo:app`` runs, ``broken:app`` fails to deploy,
``refused:app`` is refused with HTTP 400. A config update keeps the former replicas until the new ones run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayservice_operator.core.observation import ApplicationView, DeploymentView, ReplicaView

FIRST_DEPLOY_S = 5.0
UPDATE_S = 2.0
FAIL_S = 4.0


class Refused(Exception):  # noqa: N818
    """HTTP 400: this config will never be taken."""


@dataclass
class App:
    """``since`` is when ``config`` was declared; ``served`` the config whose replicas answer now.

    ``targets``: what an external scaler has set since the deployment's declaration changed last.
    """

    config: dict[str, Any]
    since: float
    served: dict[str, Any] | None = None
    unhealthy: bool = False
    targets: dict[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> bool:
        """Whether this config can never run."""
        return "broken" in self.config["import_path"]

    def due(self) -> float:
        """When its fate is settled, in epoch seconds."""
        return self.since + (FAIL_S if self.broken else UPDATE_S if self.served is not None else FIRST_DEPLOY_S)

    def progress(self, now: float) -> None:
        """Take the new config into service when its time has come."""
        if now >= self.due() and not self.broken:
            self.served = self.config

    def status(self, now: float) -> str:
        """As Ray writes it."""
        if self.unhealthy:
            return "UNHEALTHY"
        if now < self.due():
            return "DEPLOYING"
        return "DEPLOY_FAILED" if self.broken else "RUNNING"


@dataclass
class SimServe:
    """Serve of one head. ``puts`` are the bodies that were accepted, in order."""

    session: str
    apps: dict[str, App] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    started: bool = False
    target_capacity: float | None = None

    def put(self, payload: str, now: float) -> None:
        """PUT of a config: the whole of what is to run. Raises Refused."""
        body = json.loads(payload)
        declared = {str(app.get("name", "default")): app for app in body["applications"]}
        for app in declared.values():
            if "refused" in app["import_path"]:
                raise Refused("applications.0.import_path: refused")
        self.started = True
        self.puts.append(payload)
        self.target_capacity = body.get("target_capacity")
        self.progress(now)
        for name in [name for name in self.apps if name not in declared]:
            del self.apps[name]
        for name, config in declared.items():
            known = self.apps.get(name)
            if known is None:
                self.apps[name] = App(config, now)
            elif known.config != config:
                self.apps[name] = App(config, now, known.served, targets=_kept(known, config))

    def scale(self, app: str, deployment: str, target: int) -> None:
        """Ray's external scaling API."""
        assert self.apps[app].config["external_scaler_enabled"]
        self.apps[app].targets[deployment] = target

    def progress(self, now: float) -> None:
        """Let time pass for all applications."""
        for app in self.apps.values():
            app.progress(now)

    def next_due(self, now: float) -> float | None:
        """When an application changes by itself next."""
        return min((app.due() for app in self.apps.values() if app.due() > now), default=None)

    def applications(self, now: float, nodes: Sequence[str]) -> dict[str, ApplicationView]:
        """What GET tells; ``nodes`` are the addresses that replicas can run on."""
        self.progress(now)
        return {name: _view(name, app, now, nodes) for name, app in self.apps.items()}

    def answers(self, now: float, nodes: Sequence[str]) -> bool:
        """Whether a request to any application would be answered: each has replicas somewhere."""
        self.progress(now)
        return bool(self.apps) and bool(nodes) and all(a.served and not a.unhealthy for a in self.apps.values())

    def proxies(self, now: float, head: str, nodes: Sequence[str]) -> dict[str, bool]:
        """Pods with an HTTP proxy: the head from the start of Serve, others with a replica."""
        if not self.started:
            return {}
        with_replicas = {
            replica.node_ip
            for app in self.applications(now, nodes).values()
            for deployment in app.deployments.values()
            for replica in deployment.replicas
        }
        return dict.fromkeys(sorted({head, *with_replicas} - {""}), True)


def _kept(known: App, config: Mapping[str, Any]) -> dict[str, int]:
    """Targets of deployments whose declaration is the same as before."""
    before = {d["name"]: d for d in known.config.get("deployments") or ()}
    same = {d["name"] for d in config.get("deployments") or () if d == before.get(d["name"])}
    return {name: target for name, target in known.targets.items() if name in same}


def _view(name: str, app: App, now: float, nodes: Sequence[str]) -> ApplicationView:
    status = app.status(now)
    served: Mapping[str, Any] | None = None if app.unhealthy else app.served
    deployments: dict[str, DeploymentView] = {}
    for declared in app.config.get("deployments") or [{"name": "Main"}]:
        wanted = app.targets.get(declared["name"]) or int(declared.get("num_replicas") or 1)
        running = served is not None and bool(nodes)
        deployments[declared["name"]] = DeploymentView(
            name=declared["name"],
            status={"RUNNING": "HEALTHY", "DEPLOYING": "UPDATING"}.get(status, status),
            target_replicas=wanted,
            replicas=tuple(
                ReplicaView(f"{name}#{index}", "RUNNING", nodes[index % len(nodes)]) for index in range(wanted)
            )
            if running
            else (),
        )
    message = "it cannot be built" if status == "DEPLOY_FAILED" else ""
    return ApplicationView(
        name=name,
        status=status,
        message=message,
        route_prefix=app.config.get("route_prefix", "/"),
        deployments=deployments if status != "DEPLOY_FAILED" or served is not None else {},
        config=app.config,
        last_deployed_s=app.since,
    )
