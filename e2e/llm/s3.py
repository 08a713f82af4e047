"""An object store with LoRA adapters in it: moto's S3 in a pod of the image with vLLM, which makes them too."""

from typing import Final

from e2e.images import full_name
from e2e.support import Kube, account, pod_ready, wait_for

NAME: Final = "s3"
BUCKET: Final = "adapters"
ENVIRONMENT: Final = {
    "AWS_ENDPOINT_URL": f"http://{NAME}:9000",
    "AWS_ACCESS_KEY_ID": "e2e",
    "AWS_SECRET_ACCESS_KEY": "e2e",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What clients need. moto looks at no key."""

_SERVE: Final = """\
import pathlib, time
import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="0.0.0.0", port=9000)
server.start()
store = boto3.client("s3", endpoint_url="http://127.0.0.1:9000")
store.create_bucket(Bucket="adapters")
root = pathlib.Path("/models/adapters")
for path in sorted(root.rglob("*")):
    if path.is_file():
        store.upload_file(str(path), "adapters", f"tiny/{path.relative_to(root)}")
pathlib.Path("/tmp/ready").touch()
while True:
    time.sleep(3600)
"""


def start(kube: Kube, namespace: str) -> None:
    """Make pod and service, and wait until every adapter is in ``s3://adapters/tiny``."""
    image = {"image": full_name("llm-cpu"), "imagePullPolicy": "IfNotPresent"}
    mounts = {"volumeMounts": [{"name": "models", "mountPath": "/models"}]}
    environment = [{"name": name, "value": value} for name, value in ENVIRONMENT.items()]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [
                {
                    "name": "adapters",
                    **image,
                    **mounts,
                    "command": ["python", "-m", "serve_runtime.llm.samples", "/models"],
                }
            ],
            "containers": [
                {
                    "name": NAME,
                    **image,
                    **mounts,
                    "command": ["python", "-c", _SERVE],
                    "env": environment,
                    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                    "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
                }
            ],
            "volumes": [{"name": "models", "emptyDir": {}}],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 9000}]},
    }
    kube.apply(pod, namespace)
    kube.apply(service, namespace)
    wait_for(
        lambda: pod_ready(kube.pod(namespace, NAME)),
        timeout=300,
        what="S3 with adapters",
        describe=lambda: account(kube, namespace),
    )
