"""The examples of ``serve_runtime`` as they are in the repository, through the operator, and what they answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.rayservices import Service, ray_pods
from e2e.support import Kube

pytestmark = pytest.mark.timeout(420)

EXAMPLES: Final = Path(__file__).parents[1] / "examples"

# Sent from the head pod, so that the service is reached in every kind of cluster.
_ASK: Final = """\
import json, sys, urllib.request
url, times, headers, body = json.loads(sys.argv[1])
answers = []
for _ in range(times):
    request = urllib.request.Request(url, None if body is None else body.encode(), headers)
    answers.append(json.load(urllib.request.urlopen(request, timeout=30)))
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Case:
    """What is asked, how often, and what must be true of the answers."""

    path: str
    holds: Callable[[list[Any]], bool]
    body: str | None = None
    times: int = 1
    header: tuple[str, str] = ("Content-Type", "application/json")


CASES: Final = {
    "predictor": Case("/predict", lambda answers: answers == [{"score": 1.5}], '"good and cheap"'),
    "prefetch": Case("/predict", lambda answers: answers == [{"score": 1.5}], '"good and cheap"'),
    "pipeline": Case(
        "/run", lambda answers: answers == [{"verdict": "buy it", "of": 0.375}], '"Good, cheap and good!"'
    ),
    "sticky-routing": Case(
        "/", lambda answers: len({a["pid"] for a in answers}) == 1, times=12, header=("X-User", "a")
    ),
    "autoscaling-policies": Case("/", lambda answers: len(answers) == 1),
}


@pytest.mark.parametrize("name", CASES)
def test_example(kube: Kube, namespace: str, name: str) -> None:
    case = CASES[name]
    kube.apply(EXAMPLES / f"{name}.yaml", namespace)
    service = Service(kube, namespace, name)
    service.wait_settled()
    (head,) = ray_pods(kube, namespace, "ray.io/node-type=head")
    asked = [f"http://{name}-serve-svc:8000{case.path}", case.times, dict([case.header]), case.body]
    answers = json.loads(kube.exec(namespace, head["metadata"]["name"], "python", "-c", _ASK, json.dumps(asked)))
    assert case.holds(answers), answers
