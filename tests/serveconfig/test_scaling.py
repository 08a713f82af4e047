"""Replica counts of an external scaler go with the next config, unless the user has just declared another count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rayservice_operator.core.decision import ScaledApp
from rayservice_operator.core.observation import ApplicationView, DeploymentView, ServeObservation
from rayservice_operator.serveconfig.canonical import ServeConfig, canonical_json, parse
from rayservice_operator.serveconfig.drift import drifted_apps
from rayservice_operator.serveconfig.scaling import scaled_apps, with_targets


def config(*deployments: dict[str, Any], external: Any = True, **more: Any) -> ServeConfig:
    app = {"name": "a", "import_path": "m:app", "external_scaler_enabled": external, "deployments": list(deployments)}
    result = parse(json.dumps({"applications": [app], **more}))
    assert result is not None
    return result


def seen(put: dict[str, Any] | None = None, **targets: int) -> dict[str, ApplicationView]:
    deployments = {name: DeploymentView(name, "HEALTHY", target_replicas=n) for name, n in targets.items()}
    return {"a": ApplicationView("a", "RUNNING", deployments=deployments, config=put or {})}


def d(name: str = "D", **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def put(new: ServeConfig, former: ServeConfig | None, applications: dict[str, ApplicationView]) -> list[dict[str, Any]]:
    body = with_targets(canonical_json(new), scaled_apps(new, former), applications)
    deployments: list[dict[str, Any]] = json.loads(body)["applications"][0]["deployments"]
    return deployments


OLD = config(d(num_replicas=1))


@pytest.mark.parametrize(
    ("new", "former", "count"),
    [
        (config(d(num_replicas=1, user_config={"x": 1})), OLD, 5),
        (config(d(user_config={"x": 1})), config(d()), 5),
        (config(d(num_replicas=2)), OLD, 2),  # the user has just said so
        (config(d()), OLD, None),  # and here that the code shall say it
        (config(d(num_replicas=1), external=False), OLD, 1),
        (config(d(num_replicas=1)), config(d(num_replicas=1), external=False), 1),
        (config(d(num_replicas=1)), None, 1),
        (config(d(num_replicas=1), target_capacity=50), OLD, 1),
    ],
)
def test_which_counts_are_kept(new: ServeConfig, former: ServeConfig | None, count: int | None) -> None:
    assert put(new, former, seen(D=5))[0].get("num_replicas") == count


def test_the_order_stays_and_what_only_the_code_names_comes_behind() -> None:
    new = config(d("B", num_replicas=1), d("A", num_replicas=1))
    assert put(new, new, seen(A=3, B=2, C=4)) == [
        d("B", num_replicas=2),
        d("A", num_replicas=3),
        d("C", num_replicas=4),
    ]


def test_while_ray_builds_what_was_put_last_counts() -> None:
    building = seen({"deployments": [d(num_replicas=7)]})
    assert put(OLD, OLD, building) == [d(num_replicas=7)]


def test_nothing_can_be_declared_as_zero() -> None:
    assert put(OLD, OLD, seen(D=0)) == [d(num_replicas=1)]


def test_an_application_that_is_not_there_is_put_as_it_is() -> None:
    body = with_targets(canonical_json(OLD), (ScaledApp("a"),), {})
    assert body == canonical_json(OLD)


def test_a_kept_count_is_no_drift() -> None:
    echoed = {**OLD.document["applications"][0], "deployments": [d(num_replicas=7)]}
    observation = ServeObservation("head", 0.0, seen_at=1.0, applications=seen(echoed, D=7))
    assert drifted_apps(OLD, observation) == ()
    changed = {**echoed, "deployments": [d(num_replicas=7, user_config={"x": 1})]}
    assert drifted_apps(config(d(user_config={})), ServeObservation("h", 0.0, 1.0, applications=seen(changed))) == (
        "a",
    )
