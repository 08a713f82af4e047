"""From manifest to model: leniency where Kubernetes is lenient, clear refusals where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rayservice_operator.api.autoscaler import AutoscalerVersion
from rayservice_operator.api.raycluster import parse_raycluster, parse_raycluster_spec
from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.specerror import SpecError, field_path
from rayservice_operator.api.upgrade import UpgradeType
from tests.models.manifests import DELETE, changed, raycluster, rayservice

GROUP = "spec.rayClusterConfig.workerGroupSpecs[0]"
PARAMS = f"{GROUP}.rayStartParams"


def test_defaults_are_those_of_kuberay() -> None:
    service = parse_rayservice(rayservice())
    group = parse_raycluster(
        changed(
            raycluster(), {f"spec.workerGroupSpecs[0].{f}": DELETE for f in ("replicas", "minReplicas", "maxReplicas")}
        )
    ).spec.worker_group_specs[0]
    assert (group.replicas, group.min_replicas, group.max_replicas, group.num_of_hosts) == (0, 0, 2147483647, 1)
    assert group.scale_strategy.workers_to_delete == []
    assert service.spec.ray_cluster_deletion_delay_seconds is None
    assert service.spec.upgrade_type is None
    assert service.spec.managed_by == service.spec.ray_cluster_config.managed_by == ""
    assert service.status.observed_generation == -1


def test_enums_and_names() -> None:
    changes = {
        "spec.upgradeStrategy.type": "NewClusterWithIncrementalUpgrade",
        "spec.rayClusterConfig.autoscalerOptions.version": "v2",
        "spec.rayClusterConfig.authOptions.enableK8sTokenAuth": True,
    }
    service = parse_rayservice(changed(rayservice(), changes))
    assert service.name == "example"
    assert service.spec.upgrade_type is UpgradeType.INCREMENTAL
    cluster = service.spec.ray_cluster_config
    assert cluster.autoscaler_options is not None
    assert cluster.autoscaler_options.version is AutoscalerVersion.V2
    assert cluster.auth_options is not None
    assert cluster.auth_options.enable_k8s_token_auth


@pytest.mark.parametrize(
    ("written", "read"),
    [(4, "4"), (0.5, "0.5"), (True, "true"), (False, "false"), ("4", "4"), ("", "")],
)
def test_scalars_in_start_params_become_strings(written: Any, read: str) -> None:
    params = {"block": written, "num-cpus": None}
    service = parse_rayservice(changed(rayservice(), {PARAMS: params}))
    assert service.spec.ray_cluster_config.worker_group_specs[0].ray_start_params == {"block": read}


def test_numbers_may_be_written_as_strings() -> None:
    service = parse_rayservice(changed(rayservice(), {f"{GROUP}.replicas": "3"}))
    assert service.spec.ray_cluster_config.worker_group_specs[0].replicas == 3


def test_unknown_keys_are_ignored_and_null_is_absent() -> None:
    changes = {
        "spec.fromTheFuture": {"a": 1},
        f"{GROUP}.alsoNew": 1,
        f"{GROUP}.replicas": None,
        "spec.serveService": None,
    }
    service = parse_rayservice(changed(rayservice(), changes))
    assert service.spec.serve_service is None
    assert service.spec.ray_cluster_config.worker_group_specs[0].replicas == 0


def test_models_are_frozen() -> None:
    service = parse_rayservice(rayservice())
    with pytest.raises(ValidationError):
        service.spec.suspend = True  # type: ignore[misc]


def test_templates_are_kept_as_they_are() -> None:
    template = {"spec": {"containers": [{"name": "ray", "newField": [1, None]}], "other": None}}
    service = parse_rayservice(changed(rayservice(), {f"{GROUP}.template": template}))
    assert service.spec.ray_cluster_config.worker_group_specs[0].template == template


REFUSED = [
    ({"spec": DELETE}, "spec", "is required"),
    ({"spec": "x"}, "spec", "must be a mapping, but is 'x'"),
    ({"spec.rayClusterConfig": DELETE}, "spec.rayClusterConfig", "is required"),
    ({"spec.rayClusterConfig.headGroupSpec": DELETE}, "spec.rayClusterConfig.headGroupSpec", "is required"),
    ({"spec.serveConfigV2": {"applications": []}}, "spec.serveConfigV2", "must be text, but is a mapping"),
    ({"spec.suspend": "maybe"}, "spec.suspend", "must be true or false, but is 'maybe'"),
    ({"spec.upgradeStrategy.type": "Rolling"}, "spec.upgradeStrategy.type", "'Rolling'"),
    ({f"{GROUP}.groupName": DELETE}, f"{GROUP}.groupName", "is required"),
    ({f"{GROUP}.replicas": "2 or 3"}, f"{GROUP}.replicas", "must be a whole number, but is '2 or 3'"),
    ({f"{GROUP}.replicas": 1.5}, f"{GROUP}.replicas", "must be a whole number, but is 1.5"),
    ({f"{GROUP}.template": []}, f"{GROUP}.template", "must be a mapping, but is a list"),
    ({PARAMS: {"num-cpus": [1]}}, f"{PARAMS}[num-cpus]", "must be text, but is a list"),
    ({"spec.rayClusterConfig.workerGroupSpecs": {"a": 1}}, "spec.rayClusterConfig.workerGroupSpecs", "must be a list"),
]


@pytest.mark.parametrize(("changes", "field", "problem"), REFUSED, ids=[f"{r[1]}: {r[2]}" for r in REFUSED])
def test_a_wrong_shape_is_refused_with_its_path(changes: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_rayservice(changed(rayservice(), changes))
    assert [v.field for v in caught.value.violations] == [field]
    assert problem in caught.value.violations[0].problem
    assert caught.value.violations[0].fix
    assert "pydantic" not in str(caught.value)


def test_a_choice_is_refused_with_its_options() -> None:
    with pytest.raises(SpecError, match="NewCluster") as caught:
        parse_rayservice(changed(rayservice(), {"spec.upgradeStrategy.type": "Rolling"}))
    assert caught.value.violations[0].fix.startswith("Write one of")


def test_all_wrong_shapes_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_raycluster(changed(raycluster(), {"spec.suspend": [], "spec.workerGroupSpecs[0].replicas": {}}))
    assert len(caught.value.violations) == 2


def test_path_of_a_part() -> None:
    with pytest.raises(SpecError) as caught:
        parse_raycluster_spec({}, ("spec", "rayClusterConfig"))
    assert caught.value.violations[0].field == "spec.rayClusterConfig.headGroupSpec"


def test_secrets_are_not_repeated() -> None:
    secret = {"redisPassword": ["hunter2"]}
    with pytest.raises(SpecError) as caught:
        parse_rayservice(changed(rayservice(), {"spec.rayClusterConfig.gcsFaultToleranceOptions": secret}))
    assert "hunter2" not in str(caught.value)


def test_status_that_cannot_be_read_is_status_unknown() -> None:
    status = {
        "numServeEndpoints": "many",
        "serviceStatus": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    parsed = parse_rayservice({**rayservice(), "status": status})
    assert parsed.status.num_serve_endpoints == 0
    assert parsed.status.service_status == "Running"
    assert parsed.status.conditions[0].type == "Ready"
    assert parse_rayservice({**rayservice(), "status": "?"}).status.conditions == []
    assert parse_raycluster({**raycluster(), "status": {"head": 1}}).status.head is None


def test_status_names() -> None:
    status = {
        "desiredCPU": "2",
        "desiredGPU": 1,
        "head": {"podIP": "10.0.0.1", "serviceIP": "10.0.0.2"},
    }
    parsed = parse_raycluster({**raycluster(), "status": status}).status
    assert (parsed.desired_cpu, parsed.desired_gpu) == ("2", "1")
    assert parsed.head is not None
    assert (parsed.head.pod_ip, parsed.head.service_ip) == ("10.0.0.1", "10.0.0.2")


def test_field_path() -> None:
    assert field_path(("metadata", "annotations", "ray.io/ft-enabled")) == "metadata.annotations[ray.io/ft-enabled]"
    assert field_path((0, "a")) == "[0].a"
    assert field_path(()) == ""
