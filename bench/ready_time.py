"""Where the seconds go between `kubectl apply` and Ready, on the cluster of your kubeconfig, operator running.

    .venv/bin/python bench/ready_time.py [--runs N] [--manifest examples/quickstart.yaml] [--kubeconfig FILE]

Applies the manifest, watches RayService and pods, prints each milestone in seconds since the apply returned, deletes
the RayService and waits for its pods to go; then the medians. It ends by itself (``--deadline`` seconds a run).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayservices"
POLL_S = 0.25  # asking costs processor time that Ray needs


class Api:
    """The three calls that this needs."""

    def __init__(self, kubeconfig: str | None, namespace: str) -> None:
        config.load_kube_config(config_file=kubeconfig)
        self.core, self.custom, self.namespace = client.CoreV1Api(), client.CustomObjectsApi(), namespace

    def create(self, manifest: dict[str, Any]) -> None:
        self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, manifest)

    def delete(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        return found

    def pods(self, name: str) -> list[Any]:
        found = self.core.list_namespaced_pod(self.namespace, label_selector="ray.io/is-ray-node=yes").items
        return [pod for pod in found if pod.metadata.name.startswith(name)]


def reached(service: dict[str, Any], pods: list[Any]) -> list[str]:
    """Milestones that this state has passed, in the order in which they are usually met."""
    conditions = {c["type"]: c for c in service.get("status", {}).get("conditions", ())}
    phase = conditions.get("Reconciling", {}).get("reason", "")
    ready = conditions.get("Ready", {}).get("status") == "True"
    heads = [p for p in pods if p.metadata.labels.get("ray.io/node-type") == "head"]
    running = any(p.status.phase == "Running" for p in heads)
    head_ready = any(c.type == "Ready" and c.status == "True" for p in heads for c in p.status.conditions or ())
    applied = conditions.get("ServeConfigApplied", {}).get("status") == "True"
    passed = {
        "head pod created": bool(heads),
        "head container running": running,
        "serve config accepted by Ray": applied,
        "head pod Ready": head_ready,
        "applications running": ready or phase == "WaitingForEndpoints",
        "Ready": ready,
    }
    return [name for name, true in passed.items() if true]


def run(api: Api, manifest: dict[str, Any], deadline_s: float) -> dict[str, float]:
    """One run: milestone to seconds."""
    name = manifest["metadata"]["name"]
    api.create(manifest)
    began, marks = time.monotonic(), {}
    try:
        while "Ready" not in marks:
            now = time.monotonic() - began
            if now > deadline_s:
                sys.exit(f"not Ready within {deadline_s:.0f} s: {api.service(name).get('status')}")
            for milestone in reached(api.service(name), api.pods(name)):
                if milestone not in marks:
                    marks[milestone] = now
                    print(f"  {now:6.1f}  {milestone}", flush=True)
            time.sleep(POLL_S)
    finally:
        api.delete(name)
        while api.pods(name):
            time.sleep(0.5)
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--manifest", type=Path, default=Path("examples/quickstart.yaml"))
    parser.add_argument("--kubeconfig")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--deadline", type=float, default=300.0)
    arguments = parser.parse_args()
    api = Api(arguments.kubeconfig, arguments.namespace)
    manifest = yaml.safe_load(arguments.manifest.read_text())
    runs = []
    for number in range(arguments.runs):
        print(f"run {number + 1}")
        runs.append(run(api, manifest, arguments.deadline))
    print("median")
    for milestone in runs[0]:
        times = [marks[milestone] for marks in runs if milestone in marks]
        print(f"  {statistics.median(times):6.1f}  {milestone}")


if __name__ == "__main__":
    main()
