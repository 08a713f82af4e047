"""The ground of upgrades by a Gateway: requests follow the weights of a route, and none fails when these change."""

import json
import time
from collections.abc import Callable

import pytest

from e2e.cluster import Target
from e2e.gateway import GatewayClass, current, traefik
from e2e.images import full_name
from e2e.support import Kube, LoadPod, Object, account, pod_ready, wait_for

pytestmark = pytest.mark.timeout(300)

GATEWAY, ROUTE = "plain-gateway", "plain-httproute"

_SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["NAME"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""

# Requests one after the other on one connection.
_ASK = """
import collections, http.client, json, sys, urllib.parse
connection = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc, timeout=10)
answers = collections.Counter()
for _ in range(int(sys.argv[2])):
    connection.request("GET", "/")
    answer = connection.getresponse()
    body = answer.read().decode()
    answers[body if answer.status == 200 else str(answer.status)] += 1
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def kube(cluster: Target) -> Kube:
    """Without the operator, which these tests don't need."""
    return Kube(cluster)


def test_requests_follow_the_weights(kube: Kube, gateway_class: GatewayClass, namespace: str) -> None:
    for name in ("old", "new"):
        kube.apply(_backend(name), namespace)
    _wait(kube, namespace, "pods Ready", lambda: all(pod_ready(kube.pod(namespace, name)) for name in ("old", "new")))
    kube.apply(_gateway(gateway_class.name), namespace)
    kube.apply(_route(old=80, new=20), namespace)

    # What the operator waits for before it sends anybody there.
    _wait(kube, namespace, "Gateway accepted and programmed", lambda: _programmed(gateway_class, namespace))
    _wait_route(kube, gateway_class, namespace)
    (parent,) = gateway_class.route(namespace, ROUTE)["status"]["parents"]
    assert parent["parentRef"]["name"] == GATEWAY
    if gateway_class.name == traefik.CLASS:
        assert parent["controllerName"] == traefik.CONTROLLER
    url = gateway_class.url(namespace, GATEWAY)

    _wait(kube, namespace, "answers through the Gateway", lambda: set(_ask(kube, namespace, url, 10)) <= {"old", "new"})
    answers = _ask(kube, namespace, url, 200)
    assert sum(answers.values()) == 200
    assert 20 <= answers["new"] <= 60, f"a fifth goes to the new one: {answers}"

    with (
        LoadPod(kube, namespace, url, rate=20, times=True) as fresh,
        LoadPod(kube, namespace, url, rate=20, keep_alive=True, times=True, name="load-kept-alive") as kept_alive,
    ):
        _answered(kube, namespace, url)
        changed = {}
        for old, new in ((50, 50), (0, 100)):
            kube.apply(_route(old=old, new=new), namespace)
            changed[new] = time.time()
            _wait_route(kube, gateway_class, namespace)
        _wait(kube, namespace, "all go to the new one", lambda: set(_ask(kube, namespace, url, 50)) == {"new"})
        effective = time.time()
        _answered(kube, namespace, url)
        reports = [fresh.report(), kept_alive.report()]

    for report in reports:
        assert not report.failures, str(report)
        assert set(report.answers) == {"old", "new"}
        last = max(report.times["old"])
        assert last < effective < max(report.times["new"]), "those with a connection moved with everybody else"
        print(f"{report}\nthe last answer of the old one came {last - changed[100]:.2f} s after the change")


def _answered(kube: Kube, namespace: str, url: str) -> None:
    """Time passes, told by requests that are answered."""
    for _ in range(3):
        _ask(kube, namespace, url, 100)


def _ask(kube: Kube, namespace: str, url: str, count: int) -> dict[str, int]:
    """How often each answer came; the status stands for what is no answer of a backend."""
    found: dict[str, int] = json.loads(kube.exec(namespace, "old", "python", "-c", _ASK, url, str(count)))
    return found


def _wait(kube: Kube, namespace: str, what: str, probe: Callable[[], bool]) -> None:
    describe = lambda: f"{account(kube, namespace)}\n{traefik.diagnose(kube.target)}"  # noqa: E731
    wait_for(probe, timeout=60, what=what, describe=describe)


def _programmed(gateway_class: GatewayClass, namespace: str) -> bool:
    gateway = gateway_class.gateway(namespace, GATEWAY)
    return current(gateway, "Accepted") and current(gateway, "Programmed")


def _wait_route(kube: Kube, gateway_class: GatewayClass, namespace: str) -> None:
    def accepted() -> bool:
        route = gateway_class.route(namespace, ROUTE)
        return current(route, "Accepted") and current(route, "ResolvedRefs")

    _wait(kube, namespace, "HTTPRoute accepted at its newest generation", accepted)


def _backend(name: str) -> Object:
    container = {
        "name": "web",
        "image": full_name("runtime"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _SERVER],
        "env": [{"name": "NAME", "value": name}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"name": "serve", "port": 8000}]},
            },
        ],
    }


def _gateway(class_name: str) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY},
        "spec": {"gatewayClassName": class_name, "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    }


def _route(*, old: int, new: int) -> Object:
    backends = [{"name": name, "port": 8000, "weight": weight} for name, weight in (("old", old), ("new", new))]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": ROUTE},
        "spec": {
            "parentRefs": [{"name": GATEWAY}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
        },
    }
