"""One Ray session's Serve instance, with simulated time: what it was told, what it runs, on which pods.

What an application does is written in its ``import_path``: ``demo:app`` runs, ``broken:app`` fails to deploy,
``refused:app`` is refused with HTTP 400, ``heavy:app`` loads for :data:`HEAVY_S`, ``huge:app`` finds no node.
``ailing:app`` never gets healthy, ``sick:app`` is for :data:`WELL_S`, ``flaky:app`` is again and again. A config update
keeps the former replicas until the new ones run. Replicas of an application that is UNHEALTHY are started over and over
(Ray 2.60).
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


HEAVY_S = 2400.0
WELL_S, ILL_S = 50.0, 40.0
"""How long a flaky application is well, and is not."""
RETRY_S = 20.0
"""From one start of a replica that fails to the next; every other time it is seen STARTING."""
GIVEN_UP = 3
"""Failed starts after which Ray says so (``REPLICA_STARTUP_FAILED``) and goes on trying."""


@dataclass
class App:
    """``since`` is when ``config`` was declared; ``served`` the config whose replicas answer now.

    ``targets``: what an external scaler has set since the deployment's declaration changed last. ``struck``: when a
    fault made it unhealthy; ``reloads``: its replica then loads for ever instead of failing to start.
    """

    config: dict[str, Any]
    since: float
    served: dict[str, Any] | None = None
    struck: float | None = None
    reloads: bool = False
    targets: dict[str, int] = field(default_factory=dict)

    def does(self, what: str) -> bool:
        """Whether the config's code is of that kind."""
        return what in self.config["import_path"]

    @property
    def broken(self) -> bool:
        """Whether this config can never run."""
        return self.does("broken")

    def due(self) -> float:
        """When its fate is settled, in epoch seconds."""
        if self.does("huge"):
            return float("inf")
        if self.does("heavy"):
            return self.since + HEAVY_S
        return self.since + (FAIL_S if self.broken else UPDATE_S if self.served is not None else FIRST_DEPLOY_S)

    def ill_since(self, now: float) -> float | None:
        """Since when it is UNHEALTHY; None while it is not."""
        if self.struck is not None:
            return self.struck
        age = now - self.due()
        if age < 0:
            return None
        if self.does("ailing"):
            return self.due()
        if self.does("sick") and age >= WELL_S:
            return self.due() + WELL_S
        if self.does("flaky") and age % (WELL_S + ILL_S) >= WELL_S:
            return now - (age % (WELL_S + ILL_S) - WELL_S)
        return None

    def next_change(self, now: float) -> float:
        """When it changes by itself next."""
        since = self.ill_since(now)
        times = [self.due(), self.since + 30 if self.does("huge") else float("inf")]
        if since is not None:
            times.append(since + RETRY_S * (int((now - since) / RETRY_S) + 1))
        if self.does("sick"):
            times.append(self.due() + WELL_S)
        if self.does("flaky") and now >= self.due():
            turn = self.due() + (WELL_S + ILL_S) * int((now - self.due()) / (WELL_S + ILL_S))
            times += [turn + WELL_S, turn + WELL_S + ILL_S]
        return min((at for at in times if at > now), default=float("inf"))

    def progress(self, now: float) -> None:
        """Take the new config into service when its time has come."""
        if now >= self.due() and not self.broken:
            self.served = self.config

    def status(self, now: float) -> str:
        """As Ray writes it."""
        if self.ill_since(now) is not None:
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
        found = min((app.next_change(now) for app in self.apps.values()), default=float("inf"))
        return None if found == float("inf") else found

    def applications(self, now: float, nodes: Sequence[str]) -> dict[str, ApplicationView]:
        """What GET tells; ``nodes`` are the addresses that replicas can run on."""
        self.progress(now)
        return {name: _view(name, app, now, nodes) for name, app in self.apps.items()}

    def answers(self, now: float, nodes: Sequence[str]) -> bool:
        """Whether a request to any application would be answered: each has replicas somewhere."""
        self.progress(now)
        return (
            bool(self.apps) and bool(nodes) and all(a.served and a.ill_since(now) is None for a in self.apps.values())
        )

    def proxies(self, now: float, head: str, nodes: Sequence[str]) -> dict[str, bool]:
        """Pods with an HTTP proxy: the head from the start of Serve, others with a replica."""
        if not self.started:
            return {}
        with_replicas = {
            replica.node_ip
            for app in self.applications(now, nodes).values()
            for deployment in app.deployments.values()
            for replica in deployment.replicas
            if replica.state == "RUNNING"
        }
        return dict.fromkeys(sorted({head, *with_replicas} - {""}), True)


def _starting(app: App, status: str, tries: int) -> bool:
    """Whether replicas are coming up."""
    if app.reloads or (status == "DEPLOYING" and (app.does("heavy") or app.does("huge"))):
        return True
    return status == "UNHEALTHY" and tries % 2 == 1


def _node(app: App, state: str, node: str) -> str:
    """A try that fails soon is seen while its process is made, before it has a node (Ray 2.60, measured)."""
    loads = app.reloads or app.does("heavy")
    return node if state == "RUNNING" or loads else ""


def _said(app: App, now: float) -> str:
    """What Ray says of replicas that find no place for half a minute."""
    if not app.does("huge") or now < app.since + 30:
        return ""
    return (
        "Deployment 'Main' in application 'app0' has 2 replicas that have taken more than 30s to be scheduled. This "
        "may be due to waiting for the cluster to auto-scale or for a runtime environment to be installed. Resources "
        'required for each replica: {"GPU": 8}, total resources available: {"CPU": 1.0}. Use `ray status` for more '
        "details."
    )


def _kept(known: App, config: Mapping[str, Any]) -> dict[str, int]:
    """Targets of deployments whose declaration is the same as before."""
    before = {d["name"]: d for d in known.config.get("deployments") or ()}
    same = {d["name"] for d in config.get("deployments") or () if d == before.get(d["name"])}
    return {name: target for name, target in known.targets.items() if name in same}


def _view(name: str, app: App, now: float, nodes: Sequence[str]) -> ApplicationView:
    status = app.status(now)
    ill = app.ill_since(now)
    tries = 0 if ill is None else int((now - ill) / RETRY_S)
    served: Mapping[str, Any] | None = None if ill is not None else app.served
    deployments: dict[str, DeploymentView] = {}
    for declared in app.config.get("deployments") or [{"name": "Main"}]:
        wanted = app.targets.get(declared["name"]) or int(declared.get("num_replicas") or 1)
        starting = _starting(app, status, tries)
        trigger = "REPLICA_STARTUP_FAILED" if tries >= GIVEN_UP and not app.reloads else "HEALTH_CHECK_FAILED"
        states = ["RUNNING"] * wanted * (served is not None) + ["STARTING"] * wanted * starting
        deployments[declared["name"]] = DeploymentView(
            name=declared["name"],
            status={"RUNNING": "HEALTHY", "DEPLOYING": "UPDATING"}.get(status, status),
            message=_said(app, now) if ill is None else f"The deployment failed to start {tries} times in a row.",
            status_trigger="" if ill is None else trigger,
            target_replicas=wanted,
            replicas=tuple(
                ReplicaView(f"{name}#{tries}{index}", state, _node(app, state, nodes[index % len(nodes)]))
                for index, state in enumerate(states if nodes else ())
            ),
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
