"""What lint costs by the number of deployments: 1, 10, 100, 1,000; nothing but this process is needed.

    .venv/bin/python -m bench.lint

``YAML``: reading the manifest and the serve config inside. ``rules``: everything after that, ``lint_manifest`` with
the text of the serve config read already. ``file``: ``lint_text`` as a whole, a new text each time, places included.
Each number is the least of several runs, in milliseconds of CPU time; ``per deployment`` is of ``rules``, in
microseconds, and stays the same when the cost is linear. ``ruined``: the rules on a manifest in which each deployment
has faults.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final

import yaml

from rayservice_operator.lint import lint_manifest, lint_text
from rayservice_operator.serveconfig.canonical import parse
from rayservice_operator.serveconfig.source import load_manifests

SIZES: Final = (1, 10, 100, 1000)
PER_APPLICATION: Final = 10
_RUNS: Final = 9


def serve_config(deployments: int, *, ruined: bool = False) -> dict[str, Any]:
    """Applications of ten deployments each, every third autoscaled, every fourth on a GPU."""
    entries = [_deployment(number, ruined=ruined) for number in range(deployments)]
    return {
        "applications": [
            {
                "name": f"app-{first}",
                "route_prefix": f"/app-{first}",
                "import_path": "package.module:app",
                "runtime_env": {"env_vars": {"MODE": "production"}},
                "deployments": entries[first : first + PER_APPLICATION],
            }
            for first in range(0, deployments, PER_APPLICATION)
        ]
    }


def _deployment(number: int, *, ruined: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": f"Model{number}", "max_ongoing_requests": 16, "user_config": {"weight": number}}
    entry["ray_actor_options"] = {"num_cpus": 1, "num_gpus": 0.01 if number % 4 == 0 else 0}
    if number % 3 == 0:
        entry["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 8}
    else:
        entry["num_replicas"] = 2
    if ruined:
        entry |= {"max_replica_per_node": 1, "graceful_shutdown_timeout_s": 0}
        entry["ray_actor_options"] = {"num_cpus": 1000, "resources": {"fpga": 1}}
    return entry


def manifest(config: dict[str, Any]) -> dict[str, Any]:
    """A RayService with a cluster that has room for it."""
    limits = {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "8"}
    image = "rayproject/ray:2.60.0"
    head = {"containers": [{"name": "ray-head", "image": image, "resources": {"limits": {"cpu": "4"}}}]}
    worker = {"containers": [{"name": "ray-worker", "image": image, "resources": {"limits": limits}}]}
    group = {"groupName": "gpus", "replicas": 100, "minReplicas": 1, "maxReplicas": 100, "template": {"spec": worker}}
    cluster = {
        "rayVersion": "2.60.0",
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": {"spec": head}},
        "workerGroupSpecs": [group],
    }
    text = yaml.safe_dump(config, sort_keys=False)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "bench"},
        "spec": {"serveConfigV2": text, "rayClusterConfig": cluster},
    }


def least_ms(run: Callable[[], Any], runs: int = _RUNS) -> float:
    """The least time of several runs."""
    times = []
    for _ in range(runs):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times) * 1000


def main() -> None:
    """Measure and print a table in Markdown."""
    print("| deployments | YAML | rules | per deployment | ruined | file |")
    print("|---:|---:|---:|---:|---:|---:|")
    for size in SIZES:
        good, bad = manifest(serve_config(size)), manifest(serve_config(size, ruined=True))
        text = yaml.safe_dump(good, sort_keys=False)
        assert lint_manifest(good) == []
        assert len(lint_manifest(bad)) >= 3 * size
        read = least_ms(lambda t=text, g=good: (load_manifests(t), parse(g["spec"]["serveConfigV2"])))  # type: ignore[misc]
        rules = least_ms(lambda g=good: lint_manifest(g))  # type: ignore[misc]
        ruined = least_ms(lambda b=bad: lint_manifest(b))  # type: ignore[misc]
        # A comment in the serve config makes it another text, so nothing is remembered from the run before.
        texts = itertools.count()
        file = least_ms(
            lambda t=text, n=texts: lint_text(t.replace("Model0", f"Model0x{next(n)}")),  # type: ignore[misc]
            3,
        )
        print(f"| {size} | {read:.1f} | {rules:.1f} | {rules / size * 1000:.0f} | {ruined:.1f} | {file:.1f} |")


if __name__ == "__main__":
    main()
