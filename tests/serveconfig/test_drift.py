"""Drift: what Ray echoes for a config is no drift from it; what somebody else put is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.core.observation import ApplicationView, ServeObservation
from rayservice_operator.serveconfig.canonical import ServeConfig, parse
from rayservice_operator.serveconfig.drift import drifted_apps, missing_apps

DECLARED: dict[str, Any] = {
    "name": "q",
    "route_prefix": "/",
    "import_path": "serve_runtime.quickstart:app",
    "bogus": 1,
    "runtime_env": {"env_vars": {"A": "x"}},
    "deployments": [
        {
            "name": "Greeter",
            "num_replicas": 1,
            "max_ongoing_requests": 7.0,
            "graceful_shutdown_timeout_s": "20",
            "health_check_period_s": 5,
            "user_config": {"greeting": "hi", "n": {"a": None, "b": [1, 2.0]}},
            "ray_actor_options": {"num_cpus": 0.2, "junk": 3},
            "bad_key": 2,
        },
        {"name": "Scaled", "autoscaling_config": {"min_replicas": 1, "foo": 1, "aggregation_function": "MAX"}},
    ],
}
# What Ray 2.60 gave back for it, on a live head.
ECHOED: dict[str, Any] = {
    "name": "q",
    "route_prefix": "/",
    "import_path": "serve_runtime.quickstart:app",
    "runtime_env": {"env_vars": {"A": "x"}},
    "deployments": [
        {
            "name": "Greeter",
            "num_replicas": 1,
            "max_ongoing_requests": 7,
            "user_config": {"greeting": "hi", "n": {"a": None, "b": [1, 2.0]}},
            "graceful_shutdown_timeout_s": 20.0,
            "health_check_period_s": 5.0,
            "ray_actor_options": {"num_cpus": 0.2},
        },
        {"name": "Scaled", "autoscaling_config": {"min_replicas": 1, "foo": 1, "aggregation_function": "max"}},
    ],
}


def config(*applications: dict[str, Any]) -> ServeConfig:
    """A serve config of these applications."""
    result = parse(json.dumps({"applications": list(applications)}))
    assert result is not None
    return result


def seen(**applications: Any) -> ServeObservation:
    """An observation of applications by name; a mapping is the echoed config of a running one."""
    return ServeObservation(
        head_uid="h",
        started_at=0.0,
        seen_at=1.0,
        applications={
            name: a if isinstance(a, ApplicationView) else ApplicationView(name=name, status="RUNNING", config=a)
            for name, a in applications.items()
        },
    )


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """The echo with one thing changed; the value None removes it."""
    echo: Any = copy.deepcopy(ECHOED)
    place = echo
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return echo  # type: ignore[no-any-return]


def test_rays_echo_is_no_drift() -> None:
    assert drifted_apps(config(DECLARED), seen(q=ECHOED)) == ()
    assert missing_apps(config(DECLARED), seen(q=ECHOED)) == ()


def test_an_application_without_a_name_is_the_default_one() -> None:
    declared = {"import_path": "m:a", "args": {}}
    assert missing_apps(config(declared), seen(default={"import_path": "m:a", "args": {}})) == ()
    assert drifted_apps(config(declared), seen(default={"import_path": "m:a", "args": {}})) == ()
    assert missing_apps(config(declared), seen()) == ("default",)


GREETER = ["deployments", 0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["import_path"], "other:app"),
        (["route_prefix"], "/x"),
        (["route_prefix"], None),
        (["runtime_env", "env_vars", "A"], "y"),
        (["deployments"], []),
        (["deployments"], None),
        ([*GREETER, "name"], "Renamed"),
        ([*GREETER, "num_replicas"], 2),
        ([*GREETER, "num_replicas"], None),
        ([*GREETER, "user_config"], None),
        ([*GREETER, "user_config", "greeting"], "HI"),
        ([*GREETER, "user_config", "greeting"], None),
        ([*GREETER, "user_config", "extra"], 1),
        ([*GREETER, "user_config", "n", "b"], [2.0, 1]),
        ([*GREETER, "ray_actor_options", "num_cpus"], 1),
        ([*GREETER, "health_check_period_s"], 6.0),
        (["deployments", 1, "autoscaling_config", "min_replicas"], 0),
    ],
)
def test_what_somebody_else_put_is_drift(path: list[Any], value: Any) -> None:
    assert drifted_apps(config(DECLARED), seen(q=changed(path, value))) == ("q",)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["docs_path"], "/docs"),
        ([*GREETER, "max_ongoing_requests"], 7.0),
        ([*GREETER, "logging_config"], {"log_level": "INFO"}),
        ([*GREETER, "health_check_period_s"], None),  # an older Ray may not know a field
        (["runtime_env", "env_vars", "A"], "<redacted>"),
        (["deployments"], list(reversed(ECHOED["deployments"]))),
    ],
)
def test_what_ray_may_say_otherwise_is_no_drift(path: list[Any], value: Any) -> None:
    assert drifted_apps(config(DECLARED), seen(q=changed(path, value))) == ()


def test_an_application_from_code_is_drift() -> None:
    assert drifted_apps(config(DECLARED), seen(q={})) == ("q",)


def test_one_that_is_being_deleted_is_missing() -> None:
    going = ApplicationView(name="q", status="DELETING", config=ECHOED)
    assert missing_apps(config(DECLARED), seen(q=going)) == ("q",)
    assert drifted_apps(config(DECLARED), seen(q=going)) == ()


def test_what_was_never_seen_is_unknown() -> None:
    unseen = ServeObservation(head_uid="h", started_at=0.0)
    assert missing_apps(config(DECLARED), unseen) == ()
    assert drifted_apps(config(DECLARED), unseen) == ()


def test_true_is_not_one_in_the_users_own_data() -> None:
    declared = {"import_path": "m:a", "args": {"x": True}}
    assert drifted_apps(config(declared), seen(default={"import_path": "m:a", "args": {"x": 1}})) == ("default",)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("aB1 ", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
APPS = st.fixed_dictionaries(
    {"import_path": st.just("m:a")},
    optional={
        "args": st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=2),
        "runtime_env": st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=2),
        "strange": VALUES,
        "deployments": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from("ABC")},
                optional={"num_replicas": st.integers(1, 3), "user_config": VALUES, "odd": VALUES},
            ),
            max_size=3,
            unique_by=lambda d: d["name"],
        ),
    },
)


def echo(app: dict[str, Any]) -> dict[str, Any]:
    """As Ray echoes: keys unknown to the schema dropped, whole numbers of float fields as floats."""
    result = {key: copy.deepcopy(value) for key, value in app.items() if key != "strange"}
    for deployment in result.get("deployments", ()):
        deployment.pop("odd", None)
    return result


@given(st.lists(APPS, max_size=4))
def test_never_drift_from_an_echo(apps: list[dict[str, Any]]) -> None:
    """A false alarm would push the same config for ever."""
    named = [{"name": f"app{n}", **app} for n, app in enumerate(apps)]
    observation = seen(**{app["name"]: echo(app) for app in named})
    assert drifted_apps(config(*named), observation) == ()
    assert missing_apps(config(*named), observation) == ()


@given(APPS, APPS)
def test_other_user_data_is_always_drift(one: dict[str, Any], two: dict[str, Any]) -> None:
    if json.dumps(one.get("args", {}), sort_keys=True) == json.dumps(two.get("args", {}), sort_keys=True):
        return
    if one.get("args", {}) == {} or one.get("args") == two.get("args"):
        return
    assert drifted_apps(config({"name": "q", **one}), seen(q=echo(two))) == ("q",)


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_missing_is_the_difference(declared: set[str], present: set[str]) -> None:
    names = sorted(declared)
    observation = seen(**{name: {"import_path": "m:a"} for name in present})
    wanted = config(*({"name": name, "import_path": "m:a"} for name in names))
    assert missing_apps(wanted, observation) == tuple(n for n in names if n not in present)
    assert drifted_apps(wanted, observation) == ()
