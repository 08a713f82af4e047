"""Hot updates of the arguments of serve_runtime's applications on real pods do what docs/serve-runtime says of each.

Each test begins with an example as it is in the repository.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.rayservices import Service, identity
from e2e.support import Kube, LoadPod, Object, condition

pytestmark = pytest.mark.timeout(600)

EXAMPLES: Final = Path(__file__).parents[1] / "examples"

# Run in the head pod, so that the service is reached in every kind of cluster.
_ASK: Final = """\
import json, sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
_STATES: Final = """\
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8265/api/serve/applications/", timeout=30).read().decode())
"""


class Application(Service):
    """The example's service, and its one application."""

    @property
    def _head(self) -> str:
        return str(self.head()["metadata"]["name"])

    def ask(self, path: str, body: Any) -> Any:
        """What ``POST path`` answers."""
        url = f"http://{self.name}-serve-svc:8000{path}"
        return json.loads(self.kube.exec(self.namespace, self._head, "python", "-c", _ASK, url, json.dumps(body)))

    def state(self) -> Object:
        """What Ray says of the application."""
        states = json.loads(self.kube.exec(self.namespace, self._head, "python", "-c", _STATES))
        (found,) = states["applications"].values()
        assert isinstance(found, dict)
        return found

    def replicas(self) -> dict[str, set[str]]:
        """Deployment to the ids of its replicas that run."""
        return {
            name: {each["replica_id"] for each in found["replicas"] if each["state"] == "RUNNING"}
            for name, found in self.state()["deployments"].items()
        }

    def pods(self) -> dict[str, tuple[str, int]]:
        """Which pods there are."""
        return identity([self.head(), *self.workers()])


def begun(kube: Kube, namespace: str, name: str) -> tuple[Application, dict[str, Any]]:
    """The example, running, and its serve config to be changed."""
    manifest: Object = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    kube.apply(manifest, namespace)
    service = Application(kube, namespace, name)
    service.wait_settled()
    return service, yaml.safe_load(manifest["spec"]["serveConfigV2"])


def load(service: Application, path: str) -> LoadPod:
    """Requests all the time; to a page that the same replicas answer."""
    return LoadPod(service.kube, service.namespace, f"http://{service.name}-serve-svc:8000{path}", rate=10)


def test_predictor(kube: Kube, namespace: str) -> None:
    service, config = begun(kube, namespace, "predictor")
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    assert service.ask("/predict", "good and cheap") == {"score": 1.5}
    replicas, pods = service.replicas(), service.pods()

    # user_config: the replica that is there goes on with it.
    deployment["user_config"]["predictor"]["weights"]["good"] = 3.0
    deployment["user_config"]["batching"] = {"max_batch_size": 4}
    with load(service, "/models") as requests:
        service.patch(serveConfigV2=yaml.safe_dump(config))
        service.wait(lambda: service.ask("/predict", "good and cheap") == {"score": 3.5}, "the new weights")
        service.wait_settled()
        report = requests.report()
    assert not report.failures, str(report)
    assert service.replicas() == replicas

    # args: another replica, in the same pods.
    application["args"]["init"]["cost_s"] = 0.0
    deployment["max_surge_percent"] = 100
    service.patch(serveConfigV2=yaml.safe_dump(config))
    service.wait(lambda: (now := service.replicas()).get("Predictor") and now != replicas, "another replica")
    service.wait_settled()
    assert service.ask("/predict", "good and cheap") == {"score": 3.5}
    assert not service.replicas()["Predictor"] & replicas["Predictor"]

    # args that the builder refuses: said with the field, and the replica that is there goes on.
    replicas = service.replicas()
    application["args"]["batching"]["max_batch_sise"] = 8
    service.patch(serveConfigV2=yaml.safe_dump(config))
    service.wait(lambda: "max_batch_sise" in json.dumps(service.get()["status"]), "the field in the status")
    assert service.ask("/predict", "good and cheap") == {"score": 3.5}
    # While Ray builds, the way back too, it tells of no replicas.
    service.wait(lambda: service.replicas() == replicas, "the same replica as before")
    assert service.pods() == pods

    # and corrected.
    del application["args"]["batching"]["max_batch_sise"]
    service.patch(serveConfigV2=yaml.safe_dump(config))
    obj = service.wait_settled()
    assert condition(obj, "ApplicationsHealthy")["status"] == "True"
    assert service.pods() == pods


def test_pipeline(kube: Kube, namespace: str) -> None:
    service, config = begun(kube, namespace, "pipeline")
    (application,) = config["applications"]
    text = "Good, cheap and good!"
    assert service.ask("/run", text) == {"verdict": "buy it", "of": 0.375}
    replicas, pods = service.replicas(), service.pods()

    # user_config of a step: nothing restarts, of this step or another.
    (praise,) = [each for each in application["deployments"] if each["name"] == "praise"]
    praise["user_config"]["words"] = ["and"]
    with load(service, "/graph") as requests:
        service.patch(serveConfigV2=yaml.safe_dump(config))
        service.wait(lambda: service.ask("/run", text) == {"verdict": "leave it", "of": 0.25}, "the new words")
        service.wait_settled()
        report = requests.report()
    assert not report.failures, str(report)
    assert service.replicas() == replicas

    # args: every step gets another replica, in the same pods.
    application["args"]["steps"]["buy"]["init"]["text"] = "take it"
    praise["user_config"]["words"] = ["good", "fine", "great"]
    service.patch(serveConfigV2=yaml.safe_dump(config))
    service.wait(lambda: service.ask("/run", text) == {"verdict": "take it", "of": 0.375}, "the new verdict")
    service.wait_settled()
    now = service.replicas()
    assert not [step for step in replicas if now[step] & replicas[step]]
    assert service.pods() == pods
