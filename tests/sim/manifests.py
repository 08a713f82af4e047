"""The RayService of the simulation and the edits that people make to it."""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from tests.sim.world import GPU

NAME, NAMESPACE = "demo", "default"
DELETION_DELAY_S = 20
WORKERS = 2


def serve_config(*apps: str, greeting: str = "hello") -> str:
    """A ``serveConfigV2`` with these import paths."""
    lines = ["applications:"]
    for index, path in enumerate(apps or ("demo:app",)):
        lines += [
            f"- name: app{index}",
            f"  route_prefix: /{index}",
            f"  import_path: {path}",
            "  deployments:",
            f"  - {{name: Main, num_replicas: 2, user_config: {{greeting: {greeting}}}}}",
        ]
    return "\n".join(lines) + "\n"


def template(image: str, gpus: int = 0) -> Manifest:
    """A pod template with one Ray container."""
    limits: dict[str, Any] = {"cpu": "1", "memory": "2Gi"} | ({GPU: str(gpus)} if gpus else {})
    return {"spec": {"containers": [{"name": "ray", "image": image, "resources": {"limits": limits}}]}}


def cluster_spec(image: str = "ray:a", workers: int = WORKERS, head: str = "", **more: Any) -> Manifest:
    """A head and one group of workers with a GPU each. ``head``: its image, where that is another one."""
    return {
        "rayVersion": "2.60.0",
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template(head or image)},
        "workerGroupSpecs": [
            {
                "groupName": "gpu",
                "replicas": workers,
                "minReplicas": 0,
                "maxReplicas": 5,
                "rayStartParams": {},
                "template": template(image, gpus=1),
            }
        ],
        **more,
    }


def rayservice(image: str = "ray:a", config: str | None = None, name: str = NAME, **spec: Any) -> Manifest:
    """A RayService as a person applies it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "RayService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "serveConfigV2": serve_config() if config is None else config,
            "rayClusterConfig": cluster_spec(image),
            "rayClusterDeletionDelaySeconds": DELETION_DELAY_S,
            **spec,
        },
    }


CHECKED: Final[Manifest] = {
    "type": "NewCluster",
    "analysis": {
        "requests": [
            {"name": "answers", "count": 8, "intervalSeconds": 2, "expect": {"status": 200}},
            {"name": "new-check", "path": "/new", "dryRun": True},
        ],
        "metrics": [
            {
                "name": "p95",
                "serve": {"type": "LatencyQuantile", "quantile": 0.95},
                "initialDelaySeconds": 4,
                "intervalSeconds": 10,
                "inconclusiveLimit": 1,
                "successCondition": {"max": 1000, "stable": {"maxRatio": 1.2}},
            },
            {
                "name": "queue",
                "prometheus": {"address": "http://prometheus:9090", "query": 'q{ray_io_cluster="{{cluster}}"}'},
                "initialDelaySeconds": 4,
                "successCondition": {"max": 1000},
            },
        ],
    },
}
"""``upgradeStrategy`` with an analysis of every kind of check."""
