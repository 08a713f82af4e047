"""One scripted life of a Serve instance, spoken over HTTP, and what it answered: the same for real Ray and the fake.

A step is a PUT (or another call); its record is the HTTP status, the sequence of distinct states until it came to
rest, and the shape of the last answer. States that may be too short to be seen are left out of the comparison by
the reader, not here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

APPLICATIONS = "/api/serve/applications/"
REST = frozenset({"RUNNING", "DEPLOY_FAILED", "UNHEALTHY"})


@dataclass
class Record:
    """What one step did. ``states``: application name to its distinct (application, deployments) statuses in order."""

    status: int
    body: str
    states: dict[str, list[tuple[str, dict[str, str]]]] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    pids_before: set[str] = field(default_factory=set)
    replicas_after: set[str] = field(default_factory=set)


def app(name: str, import_path: str, **more: Any) -> dict[str, Any]:
    """An entry of ``applications``."""
    return {"name": name, "route_prefix": f"/{name}", "import_path": import_path, **more}


def replica_ids(details: dict[str, Any], name: str) -> set[str]:
    """Ids of the running replicas of one application."""
    deployments = details.get("applications", {}).get(name, {}).get("deployments", {})
    return {r["replica_id"] for d in deployments.values() for r in d["replicas"] if r["state"] == "RUNNING"}


class Driver:
    """Speaks to one head."""

    def __init__(self, http: aiohttp.ClientSession, base: str, serve_port: int) -> None:
        self.http = http
        self.base = base
        self.serve_port = serve_port

    async def get(self, path: str = APPLICATIONS) -> tuple[int, Any]:
        """Status and parsed body."""
        async with self.http.get(self.base + path) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text

    async def put(self, config: Any, *, settle: bool = True, deadline_s: float = 90.0) -> Record:
        """PUTs ``config`` and follows it until every application is at rest and none is being deleted."""
        async with self.http.put(self.base + APPLICATIONS, json=config) as response:
            record = Record(response.status, await response.text())
        if settle:
            names = {a.get("name", "default") for a in config["applications"]}
            await self.follow(record, lambda d: self._at_rest(d, names), deadline_s)
        return record

    async def follow(self, record: Record, done: Callable[[dict[str, Any]], bool], deadline_s: float = 90.0) -> None:
        """Records states until ``done``; raises TimeoutError."""
        until = time.monotonic() + deadline_s
        while True:
            status, details = await self.get()
            if status == 200:
                for name, application in details["applications"].items():
                    state = (
                        application["status"],
                        {key: d["status"] for key, d in application["deployments"].items()},
                    )
                    seen = record.states.setdefault(name, [])
                    if not seen or seen[-1] != state:
                        seen.append(state)
                record.last = details
                if done(details):
                    return
            if time.monotonic() > until:
                raise TimeoutError(f"not at rest: {record.states}")
            await asyncio.sleep(0.02)

    @staticmethod
    def _at_rest(details: dict[str, Any], names: set[str]) -> bool:
        present = details["applications"]
        return set(present) == names and all(a["status"] in REST for a in present.values())

    async def scale(self, name: str, deployment: str, target: int) -> Record:
        """What an external scaler does; followed until as many replicas run."""
        path = f"/api/v1/applications/{name}/deployments/{deployment}/scale"
        async with self.http.post(self.base + path, json={"target_num_replicas": target}) as response:
            record = Record(response.status, await response.text())
        if record.status == 200:
            await self.follow(record, lambda details: len(replica_ids(details, name)) == target)
        return record

    async def answer(self, path: str) -> tuple[int, str]:
        """What the proxy says."""
        async with self.http.get(f"http://127.0.0.1:{self.serve_port}{path}") as response:
            return response.status, await response.text()


async def run(driver: Driver) -> dict[str, Record]:
    """The whole script; step name to record."""
    http = {"host": "0.0.0.0", "port": driver.serve_port}
    quick = "serve_runtime.quickstart:build"

    def config(*applications: dict[str, Any]) -> dict[str, Any]:
        return {"http_options": http, "applications": list(applications)}

    def greeter(greeting: str, **more: Any) -> list[dict[str, Any]]:
        return [{"name": "Greeter", "user_config": {"greeting": greeting}, **more}]

    one = app("one", quick, args={"version": "1"}, deployments=greeter("hi"))
    two = app("two", quick, deployments=[{"name": "Greeter", "num_replicas": 2, "graceful_shutdown_timeout_s": "1"}])
    records: dict[str, Record] = {}
    records["empty"] = Record(*await _text(driver.get()))
    records["first"] = await driver.put(config(one))
    records["same"] = await driver.put(config(one))
    records["user_config"] = await driver.put(config({**one, "deployments": greeter("hello")}))
    records["second_app"] = await driver.put(config(one, two))
    records["code"] = await driver.put(config({**one, "args": {"version": "2"}}, two))
    records["scale"] = await driver.put(
        config({**one, "args": {"version": "2"}, "deployments": greeter("hi", num_replicas=2)}, two)
    )
    records["bad_import"] = await driver.put(config({**one, "import_path": "nomod.x:app", "args": {}}, two))
    records["good_again"] = await driver.put(config(one, two))
    records["remove"] = await driver.put(config(one))
    records["broken"] = await driver.put(config(one, app("bad", "serve_runtime.quickstart:broken")))
    records["unknown_deployment"] = await driver.put(config({**one, "deployments": [{"name": "Nobody"}]}))
    scaled = app("one", quick, deployments=greeter("hi"), external_scaler_enabled=True)
    records["scale_without_asking"] = await driver.scale("one", "Nobody", 2)
    records["scaler_allowed"] = await driver.put(config(scaled))
    records["scaled"] = await driver.scale("one", "Greeter", 2)
    records["scaled_same"] = await driver.put(config(scaled))
    records["scaled_other"] = await driver.put(config({**scaled, "deployments": greeter("hello")}))
    records["scaled_again"] = await driver.scale("one", "Greeter", 2)
    records["scaled_named"] = await driver.put(config({**scaled, "deployments": greeter("hi", num_replicas=2)}))
    records["scaled_rebuilt"] = await driver.put(config({**scaled, "args": {"version": "3"}}))
    records["scaler_forbidden"] = await driver.put(config({**one, "args": {"version": "3"}}))
    records["scale_refused"] = await driver.scale("one", "Greeter", 2)
    records["no_import_path"] = await driver.put(config({"name": "x"}), settle=False)
    records["no_applications"] = await driver.put({"http_options": http}, settle=False)
    records["twice"] = await driver.put(config(one, one), settle=False)
    records["same_route"] = await driver.put(config(one, {**two, "route_prefix": "/one"}), settle=False)
    records["zero_replicas"] = await driver.put(
        config({**one, "deployments": greeter("x", num_replicas=0)}), settle=False
    )
    policy = {"autoscaling_config": {"policy": {"policy_function": "nomod.policies:f"}}}
    records["policy_import"] = await driver.put(config({**one, "deployments": greeter("x", **policy)}), settle=False)
    records["no_slash"] = Record((await driver.get(APPLICATIONS.rstrip("/")))[0], "")
    records["none_left"] = await driver.put(config())
    async with driver.http.delete(driver.base + APPLICATIONS) as response:
        records["delete"] = Record(response.status, await response.text())
    records["after_delete"] = Record(*await _text(driver.get()))
    return records


async def _text(call: Any) -> tuple[int, str]:
    status, body = await call
    return status, json.dumps(body)
