"""Where rules begin and end: manifests next to the planted faults, with and without a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayservice_operator.lint import lint_text
from rayservice_operator.lint.nodes import gpu_type

DATA = Path(__file__).resolve().parents[1] / "data" / "lint"

Change = tuple[str, str]


def rules(name: str, *changes: Change, folder: str = "faults") -> list[str]:
    text = (DATA / folder / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return [finding.rule for finding in lint_text(text)]


AUTOSCALED = ("    rayVersion: 2.60.0\n", "    rayVersion: 2.60.0\n    enableInTreeAutoscaling: true\n")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # What a replica needs, once there is enough of it.
        ("gpus-none", [('cpu: "4", memory: 8Gi}', 'cpu: "4", memory: 8Gi, nvidia.com/gpu: 1}')]),
        ("gpus-none", [('cpu: "4", memory: 8Gi}', 'cpu: "4", memory: 8Gi, amd.com/gpu: 1}')]),
        ("gpus-none", [("          spec:\n", "          spec:\n            runtimeClassName: nvidia\n")]),
        ("gpus-none", [("num_gpus: 1", "num_gpus: 0")]),
        ("gpus-too-many", [("nvidia.com/gpu: 1", "nvidia.com/gpu: 4"), ("num_replicas: 1", "num_replicas: 2")]),
        ("gpus-placement-group", [("GPU: 2", "GPU: 1")]),
        ("gpus-strict-pack", [("STRICT_PACK", "SPREAD")]),
        ("cpus-too-many", [("num_cpus: 16", "num_cpus: 4")]),
        (
            "cpus-too-many",
            [
                ('limits: {cpu: "4", memory: 8Gi}', "limits: {memory: 8Gi}"),
                ('requests: {cpu: "4"', 'requests: {cpu: "16"'),
            ],
        ),
        ("memory-too-much", [("memory: 17179869184", "memory: 8589934592")]),
        (
            "custom-resource",
            [
                ("rayStartParams: {}", "resources: {fpga: 1}\n        rayStartParams: {}"),
                ("num_cpus: 1", "num_cpus: 0"),
            ],
        ),
        ("custom-resource", [("rayStartParams: {}", 'rayStartParams:\n          resources: \'"{\\"fpga\\": 1}"\'')]),
        ("accelerator-other", [("accelerator_type: H100", "accelerator_type: L4")]),
        ("accelerator-other", [("nvidia-l4", "nvidia-h100-80gb")]),
        ("accelerator-other", [("cloud.google.com/gke-accelerator: nvidia-l4", "pool: gpus")]),
        ("label-selector", [("tier: slow", "tier: fast")]),
        ("label-selector", [("              tier: fast", '              tier: "!fast"')]),
        ("label-selector", [("              tier: fast", '              tier: "in(fast, slow)"')]),
        ("label-selector", [("              tier: fast", "              ray.io/availability-zone: eu-west1-b")]),
        # Room for replicas.
        ("replicas-beyond-gpus", [("replicas: 2\n        minReplicas: 2", "replicas: 3\n        minReplicas: 2")]),
        ("replicas-beyond-gpus", [AUTOSCALED]),
        ("replicas-beyond-gpus", [("num_gpus: 1", "num_gpus: 0.5")]),
        ("max-replicas-beyond-groups", [("maxReplicas: 4", "maxReplicas: 16")]),
        ("max-replicas-beyond-groups", [("        maxReplicas: 4\n", "")]),
        ("replicas-per-node", [("num_replicas: 4", "num_replicas: 2")]),
        ("replicas-per-node", [AUTOSCALED]),
        ("policy-setting", [("per_replca", "per_replica")]),
        ("policy-setting", [("serve_runtime.autoscaling.adapter", "my_app.adapter")]),
        ("router-setting", [("heder", "header")]),
        # Autoscaling.
        ("min-above-max", [("max_replicas: 2", "max_replicas: 4")]),
        ("no-max-replicas", [("target_ongoing_requests: 4", "max_replicas: 4")]),
        ("downscale-at-once", [("downscale_delay_s: 5", "downscale_delay_s: 30")]),
        ("target-above-limit", [("            max_ongoing_requests: 5\n", "")]),
        ("zero-without-autoscaler", [AUTOSCALED, ("minReplicas: 2", "minReplicas: 0")]),
        ("zero-but-min-pods", [("minReplicas: 2", "minReplicas: 0")]),
        (
            "router-in-working-dir",
            [("my_app.routers:Sticky", "ray.serve.experimental.round_robin_router:RoundRobinRouter")],
        ),
        ("router-in-working-dir", [("working_dir: https://example.com/app.zip", "env_vars: {}")]),
        ("policy-in-working-dir", [("2.60.0", "2.54.0")]),
        # Models.
        ("lora-local", [("/models/adapters", "azure://adapters@store.dfs.core.windows.net/a")]),
        ("llm-without-target", [("max_replicas: 2", "max_replicas: 1")]),
        ("pd-other-connector", [("LMCacheConnectorV1", "NixlConnector")]),
        ("pd-roles-swapped", [("kv_consumer", "kv_producer")]),
        ("pd-network", [("nvidia.com/gpu: 1}", "nvidia.com/gpu: 1, rdma/hca: 1}")]),
        # Tasks.
        ("task-shutdown", [("visibility_timeout: 90", "visibility_timeout: 20")]),
        # Time.
        ("health-check", [("health_check_timeout_s: 2", "health_check_timeout_s: 10")]),
        ("startup-probe", [("failureThreshold: 3", "failureThreshold: 30")]),
        ("service-threshold", [("10\n  serve", "30\n  serve")]),
        ("deployment-threshold-gpu", [("Threshold: 60", "Threshold: 120")]),
        # Pods that leave.
        ("grace", [("terminationGracePeriodSeconds: 10", "terminationGracePeriodSeconds: 40")]),
        ("grace", [("  name: example\n", '  name: example\n  annotations: {ray.io/drain: "false"}\n')]),
        (
            "shutdown-beyond-grace",
            [("          spec:\n", "          spec:\n            terminationGracePeriodSeconds: 700\n")],
        ),
        ("single-replica", [("replicas: 2\n        minReplicas: 2", "replicas: 1\n        minReplicas: 1")]),
        ("single-replica", [("num_replicas: 1", "num_replicas: 1\n            max_surge_percent: 100")]),
        ("single-replica", [("2.60.0", "2.54.0")]),
        # Ports and versions.
        (
            "http-port",
            [
                (
                    "            - name: ray-head\n",
                    "            - name: ray-head\n              ports: [{name: serve, containerPort: 9000}]\n",
                )
            ],
        ),
        ("head-kept-out", [("  excludeHeadPodFromServeSvc: true\n", "")]),
        ("worker-version", [("2.58.0", "2.60.0-py311-gpu")]),
        ("declared-version", [("rayproject/ray:2.60.0", "registry.example.com/team/serving:2.60.0")]),
        ("worker-version", [("rayproject/ray:", "registry.example.com/ray-app:")]),
        ("declared-version", [("rayproject/ray:2.60.0", "registry.example.com/ray:1.4.0")]),
        ("gpu-only-in-params", [('num-gpus: "1"', 'num-gpus: "0"')]),
        ("object-store", [('"1000000"', '"200000000"')]),
        # Secrets.
        ("secret-token-env-vars", [("API_TOKEN: d41d8cd98f00b204", "API_TOKEN_FILE: /run/token")]),
        ("secret-token-env-vars", [("d41d8cd98f00b204", "${API_TOKEN}")]),
        ("secret-token-env-vars", [("API_TOKEN: d41d8cd98f00b204", 'MAX_NEW_TOKEN: "256"')]),
        ("secret-token-env-vars", [("API_TOKEN: d41d8cd98f00b204", "OPENAI_API_KEY: EMPTY")]),
        (
            "secret-pod",
            [("value: wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "valueFrom: {secretKeyRef: {name: s3, key: secret}}")],
        ),
        ("secret-broker", [("hunter2@", "$(REDIS_PASSWORD)@")]),
        # What nobody reads.
        ("autoscaler-options", [AUTOSCALED]),
        ("replicas-above-max", [("replicas: 9", "replicas: 4")]),
        ("upgrade-options", [("type: NewCluster", "type: InPlace")]),
    ],
)
def test_what_is_corrected_has_no_finding(name: str, changes: list[Change]) -> None:
    assert rules(name, *changes) == []


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("gpus-none", [("num_gpus: 1", "num_gpus: 0.1")], ["gpus-do-not-fit"]),
        (
            "gpus-none",
            [("          spec:\n", "          spec:\n            runtimeClassName: gvisor\n")],
            ["gpus-do-not-fit"],
        ),
        # The dictionary of options without num_cpus means one CPU; head and workers have none to give here.
        (
            "gpus-none",
            [
                ("num_gpus: 1", "memory: 1"),
                ("num_cpus: 4\n              ", ""),
                ("rayStartParams: {}", 'rayStartParams: {num-cpus: "0"}'),
            ],
            ["cpus-do-not-fit"],
        ),
        ("label-selector", [("              tier: fast", '              tier: "!slow"')], []),
        (
            "label-selector",
            [("              tier: fast", '              tier: "in(a, b)"')],
            ["label-selector-unmatched"],
        ),
        ("llm-replicas-beyond-gpus", [("tensor_parallel_size: 4", "tensor_parallel_size: 2")], []),
        ("autoscaler-options", [("idleTimeoutSeconds: 60", "version: v1")], ["autoscaler-off"]),
        (
            "upgrade-options",
            [("inPlace:\n      maxSurge: 1", "clusterUpgradeOptions:\n      stepSizePercent: 10")],
            ["upgrade-options-unused"],
        ),
        ("health-check", [("health_check_timeout_s: 2", "health_check_timeout_s: 9")], ["health-check-impatient"]),
        (
            "progress-deadline",
            [("progressDeadlineSeconds: 90", "progressDeadlineSeconds: 119")],
            ["threshold-below-cold-start"],
        ),
        ("grace", [("terminationGracePeriodSeconds: 10", "terminationGracePeriodSeconds: 39")], ["grace-too-short"]),
        ("gpus-none", [("num_gpus: 1", 'num_gpus: "inf"')], ["converted-value", "bad-value"]),
    ],
)
def test_where_a_rule_begins(name: str, changes: list[Change], expected: list[str]) -> None:
    assert rules(name, *changes) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nvidia-l4", "L4"),
        ("NVIDIA-A100-SXM4-80GB", "A100"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-h100-80gb", "H100"),
        ("A100-40G", "A100-40G"),
        ("L40S", "L40S"),
        ("gpu-pool", ""),
        ("", ""),
    ],
)
def test_types_of_gpus_are_known_by_the_names_of_labels(text: str, name: str) -> None:
    assert gpu_type(text) == name


EXAMPLE = DATA.parents[2] / "examples" / "llm-prefill-decode.yaml"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("cpus: 1, resources: {prefill: 1}", "cpus: 1, resources: {prefil: 1}", "custom-resource-missing"),
        ("kind: cpu, cpus: 1, resources: {decode: 1}", "cpus: 1, resources: {decode: 1}", "gpus-do-not-fit"),
        ("drain_timeout_s: 30\n", "drain_timeout_s: 30\n            engine: {block_size: 16}\n", "pd-engine"),
    ],
)
def test_both_sides_of_prefill_decode_are_seen(old: str, new: str, rule: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    assert rule in [finding.rule for finding in lint_text(text.replace(old, new))]
