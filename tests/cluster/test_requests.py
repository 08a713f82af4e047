"""What a pod asks a node for: the scheduler's rule."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rayservice_operator.cluster.requests import PODS, pod_limits, pod_requests


def container(requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **more: Any) -> Any:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def sidecar(cpu: str) -> Any:
    return container({"cpu": cpu}, restartPolicy="Always")


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container({"cpu": "250m"}), container({"cpu": 1})]}, "1.25"),
        ({"containers": [container(limits={"cpu": "2"})]}, "2"),
        ({"containers": [container({"cpu": "1"}, {"cpu": "2"})]}, "1"),
        ({"containers": [container({"cpu": "1"})], "initContainers": [container({"cpu": "3"})]}, "3"),
        ({"containers": [container({"cpu": "1"})], "initContainers": [container({"cpu": "500m"})]}, "1"),
        ({"containers": [container({"cpu": "1"})], "initContainers": [sidecar("1"), container({"cpu": "3"})]}, "4"),
        ({"containers": [container({"cpu": "1"})], "initContainers": [container({"cpu": "3"}), sidecar("1")]}, "3"),
        ({"containers": [container({"cpu": "1"})], "overhead": {"cpu": "250m"}}, "1.25"),
        ({"containers": [container({"cpu": "1"})], "resources": {"requests": {"cpu": "5"}}}, "5"),
        ({"containers": [container({"cpu": "a lot"})]}, "0"),
        ({"containers": None}, "0"),
    ],
)
def test_cpu(spec: dict[str, Any], cpu: str) -> None:
    assert pod_requests(spec).get("cpu", Decimal(0)) == Decimal(cpu)


def test_devices_and_the_pods_own_place() -> None:
    gpu = container({"memory": "1Gi"}, {"nvidia.com/gpu": "2", "memory": "2Gi"})
    assert pod_requests({"containers": [gpu]}) == {"nvidia.com/gpu": 2, "memory": 2**30, PODS: 1}
    assert pod_limits({"containers": [gpu, gpu]}) == {"nvidia.com/gpu": 4, "memory": 2**32}
