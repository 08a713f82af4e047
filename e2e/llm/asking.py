"""Questions to an LLM application from inside the cluster, and the answers that Transformers gives."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.rayservices import Service, ray_pods
from e2e.support import Kube, Object

_FOLDER: Final = Path(__file__).parent
_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Asker:
    """Asks from the head pod, so that the service is reached in every kind of cluster."""

    service: Service

    def ask(self, *requests: tuple[str, Object | str | None]) -> list[Object]:
        """Answers to (path, body): a dict is sent as JSON, text as it is, None makes it a GET. See ``ask.py``."""
        url = f"http://{self.service.name}-serve-svc:8000"
        asked: list[Object] = []
        for path, body in requests:
            asked.append({"url": url + path, **({"raw": body} if isinstance(body, str) else {"body": body})})
        (head,) = ray_pods(self.service.kube, self.service.namespace, "ray.io/node-type=head")
        return _run(self.service.kube, self.service.namespace, head, "ask.py", json.dumps(asked))

    def expected(self, *requests: Object) -> list[Object]:
        """What Transformers answers to ``{"prompt" or "messages", "tokens", "adapter"}``, in a worker pod."""
        worker = ray_pods(self.service.kube, self.service.namespace, "ray.io/node-type=worker")[0]
        arguments = ("/models/model", json.dumps(requests))
        return _run(self.service.kube, self.service.namespace, worker, "reference.py", *arguments)


def _run(kube: Kube, namespace: str, pod: Object, script: str, *arguments: str) -> list[Any]:
    code = (_FOLDER / script).read_text()
    name = pod["metadata"]["name"]
    container = pod["spec"]["containers"][0]["name"]
    words = ("exec", "-n", namespace, name, "-c", container, "--", "python", "-c", code, *arguments)
    answers: list[Any] = json.loads(kube.target.kubectl(*words, timeout=_SECONDS).splitlines()[-1])
    return answers
