"""A model of one Ray Serve instance without HTTP, threads or waiting: what the REST API would say at ``clock()``.

For the simulation and, behind :mod:`tests.fakes.fake_ray`, for the tests of the client and the observer. Its
transitions are those measured on Ray 2.60 (``tests/ray/test_fake_against_real.py`` compares the two): declarative
PUTs, rebuild after a change of code or in place otherwise, replicas of the former version kept while a new one
fails, applications removed over a moment, proxies that answer 503 until there is a route.

Time only passes in ``clock``: every call first brings the state up to now.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayservice_operator.core.observation import PushResult, ServeObservation
from rayservice_operator.ray.details import parse_details
from tests.fakes.serve_rules import Answer, code, echo, problem

RAY_VERSION = "2.60.0"

_EMPTY: dict[str, Any] = {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}


@dataclass(frozen=True)
class Timings:
    """Seconds. ``serve_start`` is what the first PUT takes; the others follow a PUT."""

    serve_start: float = 2.0
    build: float = 1.5
    replica_start: float = 1.5
    in_place: float = 0.3
    delete: float = 2.0


@dataclass(frozen=True)
class Behaviour:
    """What an ``import_path`` does. ``deployments``: name to replicas when the config says nothing; None: any."""

    deployments: Mapping[str, int] | None = None
    build_error: str | None = None
    start_error: str | None = None
    build_s: float | None = None
    start_s: float | None = None


@dataclass
class _Replica:
    replica_id: str
    version: int
    node_ip: str
    ready_at: float


@dataclass
class _Deployment:
    name: str
    target: int
    ready_at: float
    status: str = "UPDATING"
    trigger: str = "CONFIG_UPDATE_STARTED"
    message: str = ""
    replicas: list[_Replica] = field(default_factory=list)
    unhealthy: str | None = None


@dataclass
class _App:
    config: dict[str, Any]
    deployed_at: float
    version: int
    built_at: float | None
    status: str = "DEPLOYING"
    message: str = ""
    rest_at: float = 0.0
    fail_at: float | None = None
    gone_at: float | None = None
    shown: bool = False
    deployments: dict[str, _Deployment] = field(default_factory=dict)


class FakeServe:
    """One Ray session with its Serve instance. ``nodes`` are pod addresses, the head's first."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        nodes: Iterable[str] = ("127.0.0.1",),
        timings: Timings | None = None,
        behaviours: Mapping[str, Behaviour] | None = None,
        session: str = "session_1",
    ) -> None:
        self.clock = clock
        self.timings = timings or Timings()
        self.behaviours: dict[str, Behaviour] = {**DEFAULT_BEHAVIOURS, **(behaviours or {})}
        self.session = session
        self.target_capacity: float | None = None
        self.puts: list[dict[str, Any]] = []
        self.draining: set[str] = set()
        self.unlisted: set[str] = set()  # proxies that answer and that a recovered controller does not know yet
        self._nodes = list(nodes)
        self._running = False
        self._apps: dict[str, _App] = {}
        self._ids = itertools.count(1)
        self._versions = itertools.count(1)

    # -- the API -----------------------------------------------------------------------------------------------

    def version(self) -> Answer:
        """``GET /api/version``."""
        return 200, json.dumps(
            {"version": "4", "ray_version": RAY_VERSION, "ray_commit": "0" * 40, "session_name": self.session}
        )

    def get(self) -> Answer:
        """``GET /api/serve/applications/``."""
        return 200, json.dumps(self.details())

    def put(self, payload: str) -> Answer:
        """``PUT /api/serve/applications/``; starts Serve when it is not running."""
        try:
            config = json.loads(payload)
        except ValueError:
            return 500, 'Traceback (most recent call last):\n  File "x.py", line 1\njson.decoder.JSONDecodeError: bad'
        refusal = problem(config)
        if refusal is not None:
            return refusal
        self._advance()
        self._running = True
        self.puts.append(copy.deepcopy(config))
        self.target_capacity = config.get("target_capacity")
        wanted = {app.get("name", "default"): app for app in config["applications"]}
        for name, app in self._apps.items():
            if name not in wanted and app.gone_at is None:
                app.status, app.message, app.deployments = "DELETING", "", {}
                app.gone_at = self.clock() + self.timings.delete
        for name, app in wanted.items():
            self._deploy(name, app)
        return 200, ""

    def scale(self, app_name: str, deployment_name: str, target: int) -> Answer:
        """``POST /api/v1/applications/<app>/deployments/<deployment>/scale``: the target changes and nothing else."""
        self._advance()
        app = self._apps.get(app_name)
        if app is not None and app.config.get("external_scaler_enabled") is not True:
            return 412, json.dumps({"error": "Current value: external_scaler_enabled=false."})
        if app is None or deployment_name not in app.deployments:
            return 400, json.dumps({"error": f"Deployment {deployment_name} not found"})
        deployment = app.deployments[deployment_name]
        deployment.target = target
        del deployment.replicas[target:]
        self._fill(app, deployment, self.clock() + self.timings.replica_start)
        return 200, json.dumps({"message": "Scaling request received."})

    def delete(self) -> Answer:
        """``DELETE /api/serve/applications/``: Serve is shut down."""
        self._apps.clear()
        self._running = False
        return 200, ""

    def proxy_status(self, node_ip: str) -> int | None:
        """HTTP status of a proxy's health check; None where no proxy runs."""
        self._advance()
        if node_ip not in self._proxy_nodes():
            return None
        routed = any(
            (app.deployments and app.status != "DEPLOY_FAILED") or self._running_replicas(app)
            for app in self._apps.values()
        )
        return 200 if routed and node_ip not in self.draining else 503

    def route(self, path: str) -> tuple[str, str, str] | None:
        """Name, route prefix and greeting of the application that answers ``path``; None: the proxy answers 404."""
        self._advance()
        routed = [
            (name, str(app.config.get("route_prefix", "/")), app)
            for name, app in self._apps.items()
            if self._running_replicas(app)
        ]
        fitting = [r for r in routed if r[1] == "/" or path == r[1] or path.startswith(f"{r[1]}/")]
        if not fitting:
            return None
        name, prefix, app = max(fitting, key=lambda found: len(found[1]))
        options = [d.get("user_config") or {} for d in app.config.get("deployments", ())]
        return name, prefix, next((str(o["greeting"]) for o in options if "greeting" in o), "Hello")

    # -- what happens to it ------------------------------------------------------------------------------------

    def set_nodes(self, nodes: Iterable[str]) -> None:
        """These pods there are now; replicas on others are lost and start anew elsewhere."""
        self._advance()
        self._nodes = list(nodes)
        now = self.clock()
        for app in self._apps.values():
            for deployment in app.deployments.values():
                kept = [r for r in deployment.replicas if r.node_ip in self._nodes]
                if len(kept) < len(deployment.replicas):
                    deployment.replicas = kept
                    deployment.ready_at = now + self.timings.replica_start
                    self._fill(app, deployment)
                    if deployment.status == "HEALTHY":
                        deployment.status, deployment.trigger = "UNHEALTHY", "HEALTH_CHECK_FAILED"
                        app.status = "UNHEALTHY"

    def set_unhealthy(self, app_name: str, message: str | None) -> None:
        """All deployments of an application fail their health checks from now on, or (None) no longer do."""
        self._advance()
        app = self._apps[app_name]
        for deployment in app.deployments.values():
            deployment.unhealthy = message
        self._advance()

    def lose(self, app_name: str) -> None:
        """An application vanishes without anybody's PUT."""
        self._advance()
        self._apps.pop(app_name, None)

    def restart(self, session: str, *, keep_state: bool = False) -> None:
        """The head begins a new Ray session; without GCS fault tolerance (``keep_state``) everything is gone."""
        self._advance()
        if keep_state:
            return  # with GCS fault tolerance the session goes on, too
        self.session = session
        self._apps.clear()
        self._running = False

    # -- what it says ------------------------------------------------------------------------------------------

    def details(self) -> dict[str, Any]:
        """``ServeInstanceDetails`` as JSON; unset fields are absent as in Ray."""
        self._advance()
        if not self._running:
            return copy.deepcopy(_EMPTY)
        return {
            "controller_info": {"node_ip": self._nodes[0] if self._nodes else ""},
            "proxy_location": "EveryNode",
            "proxies": {
                f"node-{ip}": {
                    "node_id": f"node-{ip}",
                    "node_ip": ip,
                    "actor_name": f"SERVE_PROXY_ACTOR-node-{ip}",
                    "status": "DRAINING" if ip in self.draining else "HEALTHY",
                }
                for ip in self._proxy_nodes()
                if ip not in self.unlisted
            },
            "applications": {name: self._app_details(name, app) for name, app in self._apps.items()},
            "target_capacity": self.target_capacity,
            "controller_health_metrics": {"timestamp": self.clock(), "loop_duration_s": {"mean": 0.01}},
            "restores_unset_config_options": True,
        }

    def observe(self, head_uid: str, *, started_at: float, push: PushResult | None = None) -> ServeObservation:
        """What an observer with perfect sight would hold at this moment."""
        details = parse_details(json.dumps(self.details()).encode())
        return ServeObservation(
            head_uid=head_uid,
            started_at=started_at,
            seen_at=self.clock(),
            session=self.session,
            ray_version=RAY_VERSION,
            applications=details.applications,
            target_capacity=details.target_capacity,
            proxies={ip: self.proxy_status(ip) == 200 for ip in details.proxies},
            push=push,
        )

    def next_change(self) -> float | None:
        """The earliest time after now at which something changes by itself; None when all is at rest."""
        self._advance()
        now = self.clock()
        times: list[float | None] = []
        for app in self._apps.values():
            times += [app.built_at, app.fail_at, app.gone_at, app.rest_at]
            times += [d.ready_at for d in app.deployments.values() if d.status != "HEALTHY" and d.unhealthy is None]
        return min((t for t in times if t is not None and t > now), default=None)

    # -- inside ------------------------------------------------------------------------------------------------

    def _deploy(self, name: str, config: dict[str, Any]) -> None:
        now = self.clock()
        old = self._apps.get(name)
        declared = echo(config)
        if (
            old is not None
            and old.gone_at is None
            and code(old.config) == code(declared)
            and old.built_at is None
            and old.shown
        ):
            self._update_in_place(old, declared)
            return
        behaviour = self._behaviour(declared)
        build_s = self.timings.build if behaviour.build_s is None else behaviour.build_s
        app = _App(declared, now, next(self._versions), now + build_s)
        if old is not None and old.gone_at is None:  # the former version serves until the new one does
            app.deployments = {key: replace_deployment(d) for key, d in old.deployments.items()}
        self._apps[name] = app

    def _update_in_place(self, app: _App, config: dict[str, Any]) -> None:
        now = self.clock()
        old = {d["name"]: d for d in app.config.get("deployments", ())}
        app.config, app.deployed_at, app.status, app.message = config, now, "DEPLOYING", ""
        app.rest_at = now + self.timings.in_place  # even a PUT that changes nothing shows DEPLOYING for a moment
        unknown = [d["name"] for d in config.get("deployments", ()) if d["name"] not in app.deployments]
        if unknown:
            app.status, app.shown = "DEPLOY_FAILED", False
            app.message = f"Deployment '{unknown[0]}' does not exist in the application."
            return
        for declared in config.get("deployments", ()):
            deployment = app.deployments[declared["name"]]
            if declared == old.get(declared["name"]):
                continue
            if deployment.status == "DEPLOY_FAILED":
                continue  # putting the same code again does not retry
            count = declared.get("num_replicas")
            deployment.target = count if isinstance(count, int) else self._coded(app.config, declared["name"])
            del deployment.replicas[deployment.target :]
            grows = len(deployment.replicas) < deployment.target
            deployment.status, deployment.trigger = "UPDATING", "CONFIG_UPDATE_STARTED"
            deployment.ready_at = now + (self.timings.replica_start if grows else self.timings.in_place)
            self._fill(app, deployment)

    def _coded(self, config: Mapping[str, Any], deployment: str) -> int:
        """Replicas that the code asks for: what counts again when the config says nothing of them."""
        return (self._behaviour(config).deployments or {}).get(deployment, 1)

    def _behaviour(self, config: Mapping[str, Any]) -> Behaviour:
        path = str(config.get("import_path", ""))
        if path in self.behaviours:
            return self.behaviours[path]
        module = path.partition(":")[0]
        if module.partition(".")[0] == "nomod":
            return Behaviour(build_error=f"ModuleNotFoundError: No module named {module.partition('.')[0]!r}")
        return Behaviour()

    def _advance(self) -> None:
        now = self.clock()
        for name, app in list(self._apps.items()):
            if app.gone_at is not None and app.gone_at <= now:
                del self._apps[name]
            elif app.gone_at is None:
                self._advance_app(name, app, now)

    def _advance_app(self, name: str, app: _App, now: float) -> None:
        if app.built_at is not None and app.built_at <= now:
            built_at, app.built_at = app.built_at, None
            self._built(name, app, built_at)
        if app.fail_at is not None and app.fail_at <= now:
            app.fail_at = None
            app.status = "DEPLOY_FAILED"
            app.message = f"Failed to update the deployments {sorted(app.deployments)}."
            error = self._behaviour(app.config).start_error
            for deployment in app.deployments.values():
                deployment.status, deployment.trigger = "DEPLOY_FAILED", "REPLICA_STARTUP_FAILED"
                deployment.message = (
                    "The deployment failed to start 3 times in a row. Error:\n"
                    "\x1b[36mray::ServeReplica()\x1b[39m (pid=1)\n"
                    f'  File "app.py", line 1, in __init__\n    raise\n{error}'
                )
                deployment.replicas = [r for r in deployment.replicas if r.version != app.version]
        if app.built_at is None and app.fail_at is None and app.status != "DEPLOY_FAILED":
            for deployment in app.deployments.values():
                self._advance_deployment(app, deployment, now)
            statuses = {d.status for d in app.deployments.values()}
            rests = statuses <= {"HEALTHY"} and app.rest_at <= now
            app.status = "UNHEALTHY" if "UNHEALTHY" in statuses else "RUNNING" if rests else "DEPLOYING"

    def _built(self, name: str, app: _App, at: float) -> None:
        behaviour = self._behaviour(app.config)
        if behaviour.build_error is not None:
            app.status = "DEPLOY_FAILED"
            app.message = (
                f"Deploying app '{name}' failed with exception:\nTraceback (most recent call last):\n"
                f'  File "application_state.py", line 1, in build\n    import_attr(path)\n{behaviour.build_error}\n'
            )
            return
        declared = {d["name"]: d for d in app.config.get("deployments", ())}
        defaults = (
            behaviour.deployments if behaviour.deployments is not None else dict.fromkeys(declared, 1) or {"Main": 1}
        )
        unknown = [key for key in declared if key not in defaults]
        if unknown:
            app.status = "DEPLOY_FAILED"
            app.message = f"Deployment '{unknown[0]}' does not exist in the application."
            return
        start_s = self.timings.replica_start if behaviour.start_s is None else behaviour.start_s
        former, app.deployments, app.shown = app.deployments, {}, True
        for key, default in defaults.items():
            count = declared.get(key, {}).get("num_replicas")
            deployment = _Deployment(key, count if isinstance(count, int) else default, at + start_s)
            deployment.replicas = former[key].replicas if key in former else []
            app.deployments[key] = deployment
            self._fill(app, deployment)
        if behaviour.start_error is not None:
            app.fail_at = at + 3 * start_s

    def _advance_deployment(self, app: _App, deployment: _Deployment, now: float) -> None:
        if deployment.unhealthy is not None:
            deployment.status, deployment.trigger = "UNHEALTHY", "HEALTH_CHECK_FAILED"
            deployment.message = deployment.unhealthy
        elif deployment.ready_at <= now and deployment.status != "HEALTHY":
            deployment.status, deployment.message = "HEALTHY", ""
            deployment.trigger = "CONFIG_UPDATE_COMPLETED"
            deployment.replicas = [r for r in deployment.replicas if r.version == app.version]

    def _fill(self, app: _App, deployment: _Deployment, ready_at: float | None = None) -> None:
        """Starts the replicas of the present version that are missing, spread over the nodes."""
        at = deployment.ready_at if ready_at is None else ready_at
        have = sum(1 for r in deployment.replicas if r.version == app.version)
        for index in range(have, deployment.target):
            node = self._nodes[index % len(self._nodes)] if self._nodes else ""
            deployment.replicas.append(_Replica(f"r{next(self._ids)}", app.version, node, at))

    def _running_replicas(self, app: _App) -> bool:
        now = self.clock()
        return any(r.ready_at <= now for d in app.deployments.values() for r in d.replicas)

    def _proxy_nodes(self) -> list[str]:
        """EveryNode: the head, and each other node that has a replica."""
        if not self._running:
            return []
        used = {r.node_ip for app in self._apps.values() for d in app.deployments.values() for r in d.replicas}
        return [ip for index, ip in enumerate(self._nodes) if index == 0 or ip in used]

    def _app_details(self, name: str, app: _App) -> dict[str, Any]:
        # While it is being built, or could not be, Ray shows no deployments, though the former ones may serve.
        shown = app.deployments if app.shown and app.built_at is None else {}
        return {
            "name": name,
            "route_prefix": app.config.get("route_prefix", "/"),
            "docs_path": None,
            "status": app.status,
            "message": app.message,
            "last_deployed_time_s": app.deployed_at,
            "deployed_app_config": copy.deepcopy(app.config),
            "source": "declarative",
            "deployments": {key: self._deployment_details(d) for key, d in shown.items()},
            "external_scaler_enabled": app.config.get("external_scaler_enabled") is True,
        }

    def _deployment_details(self, deployment: _Deployment) -> dict[str, Any]:
        now = self.clock()
        return {
            "name": deployment.name,
            "status": deployment.status,
            "status_trigger": deployment.trigger,
            "message": deployment.message,
            "target_num_replicas": deployment.target,
            "replicas": [
                {
                    "replica_id": r.replica_id,
                    "node_ip": r.node_ip,
                    "node_id": f"node-{r.node_ip}",
                    "state": "RUNNING" if r.ready_at <= now else "STARTING",
                }
                if r.node_ip
                else {"replica_id": r.replica_id, "state": "STARTING"}
                for r in deployment.replicas
            ],
            "recent_dead_replicas": [],
        }


DEFAULT_BEHAVIOURS: Mapping[str, Behaviour] = {
    "serve_runtime.quickstart:app": Behaviour({"Greeter": 1}),
    "serve_runtime.quickstart:build": Behaviour({"Greeter": 1}),
    "serve_runtime.quickstart:autoscaling": Behaviour({"Sleeper": 1}),
    "serve_runtime.quickstart:broken": Behaviour({"Broken": 1}, start_error="RuntimeError: its constructor raises"),
}


def replace_deployment(deployment: _Deployment) -> _Deployment:
    """A copy that can change on its own."""
    return copy.deepcopy(deployment)
