"""What a changed serve config does: numbers, requests, versions of Ray.

What restarts is compared with Ray itself in tests/ray.
"""

from __future__ import annotations

from typing import Any

import pytest

from rayservice_operator.serveconfig.effect import AppEffect, DeploymentEffect, effect
from rayservice_operator.serveconfig.fields import DEFAULTS, FIELDS, Reach
from rayservice_operator.serveconfig.model import Deploy
from rayservice_operator.serveconfig.rollout import Requests
from rayservice_operator.serveconfig.traits import Traits, fields_below
from tests.serveconfig.changes import NO_VALUES, VALUES, Case, cases, document

OLD_RAY = Traits.of("2.54.0")


def app_of(before: dict[str, Any], after: dict[str, Any], **more: Any) -> AppEffect:
    """The effect on application ``a``."""
    return effect(before, after, **more).applications[0]


def of_d(before: dict[str, Any], after: dict[str, Any], **more: Any) -> DeploymentEffect:
    """The effect on its deployment ``D``, of which one is declared with ``before`` and one with ``after``."""
    return app_of(document(before), document(after), **more).deployments[0]


def test_every_row_has_values_to_test_it_with() -> None:
    assert VALUES.keys() | NO_VALUES == FIELDS.keys()


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_changed_field_is_named(case: Case) -> None:
    """With its own row's sentence, or one about the circumstances; nothing else is blamed."""
    told = effect(case.before, case.after)
    app = told.applications[0]
    causes = [*told.causes, *app.causes, *(c for d in app.deployments for c in d.causes)]
    key = case.path.removeprefix("applications[].deployments[].").removeprefix("applications[].")
    if not causes:
        assert case.what in ("added", "removed")
        assert DEFAULTS[case.path] == VALUES[case.path][1]  # what is so anyway, written out
    keys = {cause.key.replace("[0]", "[]") for cause in causes}
    assert all(
        each == key or each.startswith((f"{key}.", f"{key}[")) or each == key.rpartition(".")[0] for each in keys
    )


def test_nothing_changes_nothing() -> None:
    for case in cases():
        told = effect(case.after, case.after)
        assert told.reach is Reach.NONE
        assert not any(replicas.touched or replicas.extra for replicas in told.replicas)


def test_a_rebuild_restarts_deployments_that_only_the_status_names() -> None:
    seen = {"a": {"D": 2, "Hidden": 4}}
    app = app_of(document(), document(app={"args": {"a": 1}}), seen=seen)
    assert {d.name: (d.reach, d.replicas.touched) for d in app.deployments} == {
        "D": (Reach.REBUILD, 2),
        "E": (Reach.REBUILD, None),
        "Hidden": (Reach.REBUILD, 4),
    }


def test_a_hidden_deployment_is_left_alone_by_changes_of_others() -> None:
    app = app_of(document({"num_replicas": 1}), document({"num_replicas": 2}), seen={"a": {"D": 1, "Hidden": 4}})
    assert app.deployments[2].reach is Reach.NONE


@pytest.mark.parametrize(
    ("options", "replicas", "away", "extra", "requests"),
    [
        ({}, 1, 1, 0, Requests.WAIT),
        ({"max_surge_percent": 100}, 1, 0, 1, Requests.SERVED),
        ({}, 4, 1, 0, Requests.SERVED),
        ({}, 20, 4, 0, Requests.SERVED),
        ({"rolling_update_percentage": 1.0}, 4, 4, 0, Requests.WAIT),
        ({"max_surge_percent": 50}, 4, 0, 2, Requests.SERVED),
        ({"max_surge_percent": 28}, 25, 0, 7, Requests.SERVED),
        ({"max_surge_percent": 1}, 3, 0, 1, Requests.SERVED),
        ({"gang_scheduling_config": {"gang_size": 4}}, 8, 4, 0, Requests.FAIL),
        ({"gang_scheduling_config": {"gang_size": 4}, "max_surge_percent": 10}, 8, 0, 4, Requests.FAIL),
    ],
)
def test_numbers_of_a_rolling_restart(
    options: dict[str, Any], replicas: int, away: int, extra: int, requests: Requests
) -> None:
    """One replica and four with and without surge as measured on a live Ray, the others by its formulas."""
    before = {"num_replicas": replicas, **options, "ray_actor_options": {"num_gpus": 1}}
    told = of_d(before, {**before, "ray_actor_options": {"num_gpus": 2}})
    assert told.reach is Reach.RESTART
    assert (told.replicas.touched, told.replicas.away, told.replicas.extra) == (replicas, away, extra)
    assert (told.replicas.touched_gpus, told.replicas.extra_gpus) == (2.0 * replicas, 2.0 * extra)
    assert told.requests is requests


def test_a_restart_that_scales_as_well_needs_both() -> None:
    before = {"num_replicas": 2, "max_surge_percent": 50, "ray_actor_options": {"num_cpus": 1}}
    told = of_d(before, {**before, "num_replicas": 4, "ray_actor_options": {"num_cpus": 2}})
    assert (told.replicas.before, told.replicas.after, told.replicas.extra) == (2, 4, 4)


def test_gpus_of_a_placement_group_count_in_place_of_the_actors() -> None:
    bundles = [{"CPU": 1, "GPU": 2}, {"GPU": 2}]
    told = of_d({"num_replicas": 1}, {"num_replicas": 3, "placement_group_bundles": bundles})
    assert told.replicas.gpus == 4.0


@pytest.mark.parametrize(
    ("scaling", "seen", "target"),
    [
        ({"min_replicas": 1, "max_replicas": 8}, 3, 3),
        ({"min_replicas": 5, "max_replicas": 8}, 3, 5),
        ({"min_replicas": 1, "max_replicas": 2}, 3, 2),
        ({"min_replicas": 1, "max_replicas": 8}, None, 8),
        ({"max_replicas": 1}, None, 1),
    ],
)
def test_an_autoscaled_deployment_keeps_its_number_within_the_bounds(
    scaling: dict[str, Any], seen: int | None, target: int
) -> None:
    before = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 9, "upscale_delay_s": 3}}
    told = of_d(before, {"autoscaling_config": scaling}, seen={"a": {"D": seen}})
    assert told.reach is Reach.CONTROLLER
    assert told.replicas.after == target


def test_scaling_down_to_nothing_lets_requests_wait() -> None:
    told = app_of(document({"num_replicas": 2}), {**document({"num_replicas": 2}), "target_capacity": 0})
    assert (told.deployments[0].replicas.after, told.deployments[0].requests) == (0, Requests.WAIT)


@pytest.mark.parametrize(("capacity", "replicas"), [(100, 5), (50, 3), (10, 1), (1, 1)])
def test_target_capacity_rounds_half_up_and_never_to_none(capacity: int, replicas: int) -> None:
    told = app_of(document({"num_replicas": 5}), {**document({"num_replicas": 5}), "target_capacity": capacity})
    assert told.deployments[0].replicas.after == replicas


def test_what_an_external_scaler_has_set_stays_through_other_changes() -> None:
    app = {"external_scaler_enabled": True}
    before, after = (document({"num_replicas": 1, "user_config": {"a": n}}, app) for n in (1, 2))
    told = app_of(before, after, seen={"a": {"D": 6}})
    assert (told.deployments[0].replicas.before, told.deployments[0].replicas.after) == (6, 6)


def test_applications_come_and_go_by_name() -> None:
    one = document({"num_replicas": 3})["applications"][0]
    told = effect({"applications": [one]}, {"applications": [{**one, "name": "b"}]})
    by_name = {app.name: app for app in told.applications}
    assert by_name["b"].reach is Reach.NEW
    assert by_name["b"].deployments[0].replicas.extra == 3
    assert by_name["a"].reach is Reach.DELETED
    assert by_name["a"].requests is Requests.FAIL
    assert by_name["a"].deployments[0].replicas.after == 0


def test_a_new_autoscaled_deployment_begins_small() -> None:
    for scaling, start in (({"min_replicas": 2}, 2), ({"initial_replicas": 3}, 3), ({"min_replicas": 0}, 0), ({}, 1)):
        new = document({"autoscaling_config": {"max_replicas": 9, **scaling}})
        told = effect({"applications": []}, new).applications[0].deployments[0]
        assert (told.replicas.after, told.replicas.extra) == (start, 9)


def test_an_application_without_a_name_is_the_default_one() -> None:
    unnamed = {"import_path": "m:a"}
    told = effect({"applications": [unnamed]}, {"applications": [{**unnamed, "name": "default"}]})
    assert told.reach is Reach.NONE


def test_a_moved_route_fails_requests_to_the_old_one() -> None:
    told = app_of(document(app={"route_prefix": "/a"}), document(app={"route_prefix": "/b"}))
    assert (told.reach, told.requests) == (Reach.RECONFIGURE, Requests.FAIL)


def test_a_placement_option_alone_is_ignored_and_says_how_to_have_it() -> None:
    told = of_d({"max_replicas_per_node": 1}, {"max_replicas_per_node": 2})
    assert told.reach is Reach.IGNORED
    assert "change another field" in told.causes[0].why


def test_a_placement_option_is_taken_along_and_says_by_what() -> None:
    told = of_d({"max_replicas_per_node": 1}, {"max_replicas_per_node": 2, "num_replicas": 3})
    assert told.reach is Reach.RESTART
    assert told.causes[0].key == "max_replicas_per_node"
    assert "num_replicas" in told.causes[0].why


def test_an_older_ray_keeps_what_is_removed() -> None:
    before = {"max_ongoing_requests": 7, "ray_actor_options": {"num_cpus": 2}}
    assert of_d(before, {}).reach is Reach.RESTART
    told = of_d(before, {}, traits=OLD_RAY)
    assert told.reach is Reach.IGNORED
    assert {cause.key for cause in told.causes} == before.keys()
    assert all("keeps the last value" in cause.why for cause in told.causes)


def test_an_older_ray_gives_it_up_when_the_application_is_rebuilt() -> None:
    told = app_of(document({"max_ongoing_requests": 7}), document(app={"args": {"a": 1}}), traits=OLD_RAY)
    assert told.deployments[0].reach is Reach.REBUILD
    assert told.deployments[0].causes[0].reach is Reach.RECONFIGURE


def test_inside_a_mapping_an_older_ray_takes_what_is_removed() -> None:
    both = {"ray_actor_options": {"num_cpus": 1, "num_gpus": 1}}
    assert of_d(both, {"ray_actor_options": {"num_cpus": 1}}, traits=OLD_RAY).reach is Reach.RESTART


def test_a_field_that_the_version_lacks_is_ignored() -> None:
    told = of_d({}, {"max_surge_percent": 50, "deployment_actors": [{"name": "a"}]}, traits=OLD_RAY)
    assert told.reach is Reach.IGNORED
    assert [cause.reach for cause in told.causes] == [Reach.IGNORED, Reach.IGNORED]
    assert of_d({}, {"max_surge_percent": 50}, traits=Traits.of("2.60.1")).reach is Reach.CONTROLLER


def test_inside_a_router_even_unknown_keys_are_hashed() -> None:
    router = {"request_routing_stats_period_s": 5}
    for more in ({"a_typo": 1}, {"initial_backoff_s": 1}):
        for traits in (OLD_RAY, Traits()):
            before, after = {"request_router_config": router}, {"request_router_config": {**router, **more}}
            told = of_d(before, after, traits=traits)
            assert told.reach is Reach.REBUILD
            assert [cause.key.rpartition(".")[2] for cause in told.causes] == list(more)


def test_the_table_and_the_model_have_the_same_fields() -> None:
    """But for those inside of what is hashed as it is written."""
    modelled = {path for path, _ in fields_below(Deploy, "")}
    assert FIELDS.keys() <= modelled
    inside = "applications[].autoscaling_policy.", "runtime_env."
    assert {path for path in modelled - FIELDS.keys() if not any(part in path for part in inside)} == set()


@pytest.mark.parametrize(
    ("version", "restores"),
    [
        ("2.60.0", True),
        ("2.61.1", True),
        ("3.0.0", True),
        ("2.59.9", False),
        ("2.9.0", False),
        ("", True),
        (None, True),
    ],
)
def test_versions_that_restore_what_is_removed(version: str | None, restores: bool) -> None:
    assert Traits.of(version).restores_unset_config_options is restores


@pytest.mark.parametrize(
    ("where", "path"),
    [("top", "proxi_location"), ("app", "import_pth"), ("deployment", "max_replica_per_node"), ("options", "num_gpu")],
)
def test_an_unknown_key_is_ignored_wherever_it_is(where: str, path: str) -> None:
    made = {
        "top": {**document(), path: 1},
        "app": document(app={path: 1}),
        "deployment": document({path: 1}),
        "options": document({"ray_actor_options": {"num_cpus": 1, path: 1}}),
    }[where]
    before = document({"ray_actor_options": {"num_cpus": 1}}) if where == "options" else document()
    told = effect(before, made)
    assert told.reach is Reach.IGNORED
    assert [cause.key.rpartition(".")[2] for _, cause in told.ignored] == [path]


def test_host_and_port_of_an_application_are_refused() -> None:
    assert effect(document(), document(app={"port": 8000})).reach is Reach.REFUSED


def test_shapes_that_ray_refuses_do_not_break_the_preview() -> None:
    for broken in (
        {"applications": [{"name": "a", "deployments": 3}]},
        {"applications": [{"name": "a", "deployments": [3, {"name": "D", "autoscaling_config": 4}]}]},
        {
            "applications": [
                {"name": "a", "deployments": [{"num_replicas": [], "gang_scheduling_config": {"gang_size": 0}}]}
            ]
        },
        {"applications": [{"name": 7, "runtime_env": [], "args": None}], "target_capacity": "x", "http_options": 3},
        {"applications": None},
    ):
        effect(document(), broken)
        effect(broken, document())
