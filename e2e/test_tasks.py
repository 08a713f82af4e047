"""examples/tasks.yaml through the operator with a real Redis: consumers from zero, a result, a dead letter, and a task
whose worker pod is taken away.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e import redis_server
from e2e.rayservices import Service, identity, ray_pods
from e2e.support import Kube, Object

pytestmark = pytest.mark.timeout(600)

_EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "tasks.yaml"

# Sent from the head pod, so that the service is reached in every kind of cluster.
_ASK: Final = """\
import json, sys, urllib.error, urllib.request
method, url, body = json.loads(sys.argv[1])
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
try:
    answer = urllib.request.urlopen(request, timeout=90)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:  # the proxy of a pod that is going
    print(json.dumps([0, str(error)]))
    raise SystemExit
print(json.dumps([answer.status, json.loads(answer.read() or b"null")]))
"""


class Tasks:
    """The application of the example."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self.service = Service(kube, namespace, "tasks")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer."""
        (head,) = ray_pods(self._kube, self._namespace, "ray.io/node-type=head")
        asked = json.dumps([method, f"http://tasks-serve-svc:8000{path}", body])
        status, answer = json.loads(
            self._kube.exec(self._namespace, head["metadata"]["name"], "python", "-c", _ASK, asked)
        )
        return status, answer

    def submit(self, handler: str, body: Any) -> str:
        """The id of a new task."""
        status, answer = self.ask("POST", f"/tasks/{handler}", body)
        assert status == 202, answer
        return str(answer["id"])

    def state(self, task: str) -> Any:
        """Of a task; None while nobody answers."""
        status, answer = self.ask("GET", f"/tasks/{task}")
        return answer["state"] if status == 200 else None


def test_tasks_from_zero_consumers_to_a_lost_worker(kube: Kube, namespace: str) -> None:
    with redis_server.running(kube, namespace) as redis:
        url = f"redis://:{redis.password}@{redis.address}/0"
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tasks-broker"},
            "stringData": {"url": url},
        }
        kube.apply(secret, namespace)
        manifests: list[Object] = list(yaml.safe_load_all(_EXAMPLE.read_text()))
        (service,) = [each for each in manifests if each["kind"] == "RayService"]
        kube.apply(service, namespace)
        tasks = Tasks(kube, namespace)
        tasks.service.wait_settled()

        first = tasks.submit("count", {"text": "to be or not to be"})
        assert tasks.ask("GET", f"/tasks/{first}/result?wait_s=60") == (200, {"to": 2, "be": 2, "or": 1, "not": 1})

        hopeless = tasks.submit("unlucky", 1)
        tasks.service.wait(lambda: tasks.state(hopeless) == "failed", "the retries used up")
        assert [each["id"] for each in tasks.ask("GET", "/dead-letters")[1]["tasks"]] == [hopeless]
        assert tasks.ask("POST", f"/dead-letters/{hopeless}/requeue")[0] == 202

        long = tasks.submit("count", {"text": "a b", "seconds": 20})
        tasks.service.wait(lambda: tasks.state(long) == "running", "the task taken")
        for pod in tasks.service.workers():
            kube.delete_pod(namespace, pod["metadata"]["name"], grace_seconds=0)
        tasks.service.wait(lambda: tasks.state(long) == "succeeded", "the task run again on a new worker")
        assert tasks.ask("GET", f"/tasks/{long}")[1]["losses"] == 1

        # Other arguments: other replicas, in the same pods, and what was done before is still known.
        pods = identity([*tasks.service.workers(), *ray_pods(kube, namespace, "ray.io/node-type=head")])
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
        config["applications"][0]["args"]["retries"] = {"max": 0}
        tasks.service.patch(serveConfigV2=yaml.safe_dump(config))
        tasks.service.wait_settled()
        once = tasks.submit("unlucky", 1)
        tasks.service.wait(lambda: tasks.state(once) == "failed", "the only run used up")
        assert tasks.ask("GET", f"/tasks/{once}")[1]["attempts"] == 1
        assert tasks.state(long) == "succeeded"
        assert identity([*tasks.service.workers(), *ray_pods(kube, namespace, "ray.io/node-type=head")]) == pods
