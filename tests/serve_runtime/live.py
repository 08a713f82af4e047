"""Applications of serve_runtime on a real Ray, and a client of theirs."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.ray import real_ray


@dataclass(frozen=True)
class Answer:
    """status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Live:
    """A Ray with applications on it."""

    ray: real_ray.RealRay
    config: dict[str, Any]

    def put(self, applications: list[dict[str, Any]]) -> None:
        """Sends the config; nothing is awaited."""
        self.config = {"http_options": {"port": self.ray.serve_port}, "applications": applications}
        until(lambda: self._serve(self.config) is not None, self.ray)

    def states(self) -> dict[str, Any]:
        """Application to its details."""
        return dict(self._serve()["applications"])

    def running(self) -> bool:
        """Whether all of the config are; raises AssertionError where one has failed for good."""
        states = self.states()
        failed = {name: each["message"] for name, each in states.items() if each["status"] == "DEPLOY_FAILED"}
        if failed:
            raise RuntimeError(f"applications failed: {failed}")
        wanted = {each["name"] for each in self.config["applications"]}
        return wanted == set(states) and all(each["status"] == "RUNNING" for each in states.values())

    def await_running(self) -> None:
        """Until all run, and the proxy knows."""
        until(self.running, self.ray)
        routes = {each["route_prefix"] for each in self.config["applications"]}
        until(lambda: routes <= set(self.ask("GET", "/-/routes").json), self.ray)

    def _serve(self, config: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(f"{self.ray.dashboard}/api/serve/applications/")
        if config is not None:
            request.method, request.data = "PUT", json.dumps(config).encode()
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as got:
            return json.loads(got.read() or "{}")

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """To the proxy."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.ray.serve_port, timeout=60)) as made:
            yield made

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a body that is no bytes goes as JSON. Underscores in header names become dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        with self.connection() as to:
            to.request(method, path, body=body, headers=sent)
            got = to.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def metrics(self) -> str:
        """What this node exports now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ray.metrics_port}/metrics", timeout=30) as got:
            return str(got.read().decode())


def example(name: str) -> dict[str, Any]:
    """The application of a manifest in examples/, with its name as its route."""
    (service,) = yaml.safe_load_all((real_ray.ROOT / "examples" / f"{name}.yaml").read_text())
    (found,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    return {**found, "name": f"example-{name}", "route_prefix": f"/example-{name}"}


@contextlib.contextmanager
def served(applications: list[dict[str, Any]], **options: Any) -> Iterator[Live]:
    """A Ray on which all of these run. options: of :func:`real_ray.start`."""
    with real_ray.running(**options) as ray:
        found = Live(ray, {})
        found.put(applications)
        found.await_running()
        yield found


def until(probe: Callable[[], Any], ray: real_ray.RealRay) -> None:
    """Waits for ``probe`` to be true; connections that are refused until then are «not yet»."""
    while True:
        ray.check()
        try:
            if probe():
                return
        except (OSError, KeyError, http.client.HTTPException, json.JSONDecodeError):
            pass
        time.sleep(0.05)
