"""The cluster that the other tests stand on: pods run, names resolve, services answer, rights are checked."""

import json

import pytest

from e2e.cluster import Target
from e2e.images import full_name
from e2e.support import Kube, account, http_get, pod_ready, wait_for

pytestmark = pytest.mark.timeout(120)

_POD = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  containers:
  - name: web
    image: {full_name("runtime")}
    imagePullPolicy: IfNotPresent
    command: [bash, -c, 'cd /tmp && echo hello > index.html && exec python -m http.server 8000']
    readinessProbe: {{httpGet: {{path: /, port: 8000}}, periodSeconds: 1}}
    livenessProbe: {{exec: {{command: [wget, -q, -O, /dev/null, "http://127.0.0.1:8000/"]}}}}
    volumeMounts: [{{name: shm, mountPath: /dev/shm}}]
  volumes: [{{name: shm, emptyDir: {{medium: Memory, sizeLimit: 64Mi}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 8000}}]}}
"""

_ASK_API = """
import json, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
token = open(folder + "token").read()
def ask(path):
    request = urllib.request.Request("https://kubernetes.default" + path, headers={"Authorization": "Bearer " + token})
    try:
        return urllib.request.urlopen(request, context=context, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
print(json.dumps([ask("/version"), ask("/api/v1/secrets")]))
"""


@pytest.fixture(scope="module")
def kube(cluster: Target) -> Kube:
    """Without the operator, which these tests don't need."""
    return Kube(cluster)


def test_pods_names_services_and_rights(namespace: str, kube: Kube) -> None:
    kube.apply(_POD, namespace)
    ready = lambda: pod_ready(kube.pod(namespace, "web"))  # noqa: E731
    wait_for(ready, timeout=60, what="pod Ready", describe=lambda: account(kube, namespace))

    answer = wait_for(lambda: http_get(kube, namespace, "web"), timeout=10, what="service answers")
    assert answer == "hello\n"
    by_name = kube.exec(namespace, "web", "wget", "-q", "-O", "-", f"http://web.{namespace}.svc.cluster.local:8000/")
    assert by_name == "hello\n", "a pod reaches itself through its service, found by name"

    statuses = json.loads(kube.exec(namespace, "web", "python", "-c", _ASK_API))
    assert statuses == [200, 403], "the API answers in a pod, and RBAC refuses what wasn't granted"

    assert "GET / HTTP" in kube.logs(namespace, "web"), "logs are served"
