"""How long a preview takes with 1, 10, 100 and 1,000 deployments, after the YAML has been read.

    python -m bench.preview [--repeat 20]

For each size two edits: one that touches each deployment, and one that touches the cluster. ``ms`` is the median,
``worst`` the slowest; ``per deployment`` shows whether it is linear. The serve config has been parsed before, as it has
in a running webhook; ``first`` is the first preview of a config, with parsing and validation.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

from rayservice_operator.service.preview import preview

SIZES = (1, 10, 100, 1000)
PER_APPLICATION = 10
GOAL_MS = 30.0
"""For 100 deployments, after parsing."""


def serve_config(deployments: int, patience: int) -> str:
    """Applications of ten deployments each; ``patience`` is in every deployment."""
    lines = ["applications:"]
    for index in range(deployments):
        if index % PER_APPLICATION == 0:
            number = index // PER_APPLICATION
            lines += [f"  - name: app-{number}", f"    route_prefix: /{number}", f"    import_path: app_{number}:app"]
            lines.append("    deployments:")
        lines += [
            f"      - name: D{index}",
            f"        health_check_timeout_s: {patience}",
            "        autoscaling_config: {min_replicas: 1, max_replicas: 8, target_ongoing_requests: 4}",
            "        ray_actor_options: {num_cpus: 1, num_gpus: 1, runtime_env: {env_vars: {LEVEL: info}}}",
            "        user_config: {threshold: 0.5, names: [a, b, c]}",
        ]
    return "\n".join(lines) + "\n"


def manifest(config: str, image: str = "ray:1") -> dict[str, Any]:
    """A RayService of a head and a group of four."""
    container = {"name": "ray", "image": image, "resources": {"limits": {"cpu": "4", "memory": "8Gi"}}}
    template = {"spec": {"containers": [container]}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {
            "serveConfigV2": config,
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "headGroupSpec": {"rayStartParams": {}, "template": template},
                "workerGroupSpecs": [
                    {"groupName": "gpu", "replicas": 4, "minReplicas": 0, "maxReplicas": 8, "template": template}
                ],
            },
        },
    }


def measured(before: dict[str, Any], after: dict[str, Any], repeat: int) -> tuple[float, list[float]]:
    """Milliseconds of the first preview, lines and all, and of those after it."""
    times: list[float] = []
    for _ in range(repeat + 1):
        one, other = copy.deepcopy(before), copy.deepcopy(after)
        started = time.perf_counter()
        told = preview(one, other)
        told.lines()
        told.as_dict()
        times.append((time.perf_counter() - started) * 1000)
    return times[0], times[1:]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=20)
    repeat = parser.parse_args().repeat
    print(f"{'deployments':>11}  {'edit':<8}  {'first ms':>9}  {'ms':>8}  {'worst':>8}  {'per deployment, µs':>18}")
    reached = 0.0
    for size in SIZES:
        before = manifest(serve_config(size, 30))
        edits = {"config": manifest(serve_config(size, 40)), "cluster": manifest(serve_config(size, 30), "ray:2")}
        for name, after in edits.items():
            first, times = measured(before, after, repeat)
            middle = statistics.median(times)
            if size == 100:
                reached = max(reached, middle)
            figures = f"{first:>9.1f}  {middle:>8.2f}  {max(times):>8.2f}  {middle / size * 1000:>18.1f}"
            print(f"{size:>11}  {name:<8}  {figures}")
    print(f"100 deployments: {reached:.1f} ms; the goal is {GOAL_MS:g} ms: {'met' if reached <= GOAL_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
