"""check(): each rule once, its words, what depends on the version, and that several faults are told at once.

Whether it agrees with real Ray is tested in ``tests/ray/test_schema_against_real.py``.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rayservice_operator.api.validation import serve_config
from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.serveconfig.canonical import document_json, field_text
from rayservice_operator.serveconfig.check import ROOT, RULES, check
from rayservice_operator.serveconfig.model import minor_version
from tests.serveconfig.configs import documents


def config(application: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """One application."""
    return {"applications": [{"import_path": "m:a", **(application or {})}], **top}


def deployed(**deployment: Any) -> dict[str, Any]:
    """One application with one deployment."""
    return config({"deployments": [{"name": "D", **deployment}]})


APP: Path = ("applications", 0)
DEPLOYMENT: Path = (*APP, "deployments", 0)


def only(document: Any, version: str | None = None) -> Finding:
    """The only finding."""
    found = check(document, version)
    assert len(found) == 1, found
    return found[0]


CASES: list[tuple[str, Any, str, str, Path, str]] = [
    ("unknown-key", deployed(num_replica=2), "warning", "ignores it in a deployment", (*DEPLOYMENT, "num_replica"),
     "Did you mean num_replicas?"),
    ("unknown-key", deployed(maxOngoingRequests=2), "warning", "ignores it", (*DEPLOYMENT, "maxOngoingRequests"),
     "Did you mean max_ongoing_requests?"),
    ("unknown-key", deployed(max_concurrent_queries=2), "warning", "ignores", (*DEPLOYMENT, "max_concurrent_queries"),
     "It is called max_ongoing_requests now"),
    ("unknown-key", deployed(num_gpus=1), "warning", "ignores", (*DEPLOYMENT, "num_gpus"),
     "Move it into ray_actor_options"),
    ("unknown-key", deployed(logging_config={"level": "INFO"}), "error", "refuses it in logging_config",
     (*DEPLOYMENT, "logging_config", "level"), "Did you mean log_level?"),
    ("unknown-key", config({"runtime_env": {"env_var": {}}}), "warning", "ignores it in runtime_env",
     (*APP, "runtime_env", "env_var"), "Did you mean env_vars?"),
    ("unknown-key", config(http_options={"location": "HeadOnly"}), "warning", "ignores", ("http_options", "location"),
     "Use proxy_location, beside http_options"),
    ("unknown-key", config(zzz=1), "warning", "ignores it in the serve config", ("zzz",), "Remove it, or write one of"),
    ("wrong-type", deployed(max_ongoing_requests=[1]), "error", "is a list where a whole number is expected",
     (*DEPLOYMENT, "max_ongoing_requests"), "Write a whole number without quotes"),
    ("wrong-type", config({"import_path": 5}), "error", "5 is a number where text is expected", (*APP, "import_path"),
     "Put it in quotes"),
    ("wrong-type", config({"runtime_env": {"env_vars": {"A": 1}}}), "error", "1 is a number where text is expected",
     (*APP, "runtime_env", "env_vars", "A"), "Put it in quotes"),
    ("wrong-type", deployed(graceful_shutdown_timeout_s=None), "error", "is null where a number is expected",
     (*DEPLOYMENT, "graceful_shutdown_timeout_s"), "Write a number without quotes"),
    ("wrong-type", {"applications": "x"}, "error", "'x' is text where a list is expected", ("applications",),
     "Write a list, each entry behind a dash"),
    ("bad-value", deployed(health_check_period_s=0), "error", "0 is not above 0",
     (*DEPLOYMENT, "health_check_period_s"), "Write more than 0"),
    ("bad-value", config(target_capacity=101), "error", "101 is above 100", ("target_capacity",), "Write at most 100"),
    ("bad-value", config(proxy_location="Everynode"), "error", "'Everynode' is not allowed", ("proxy_location",),
     "Write Disabled, HeadOnly or EveryNode"),
    ("bad-value", deployed(num_replicas=0), "error", "0 is below 1", (*DEPLOYMENT, "num_replicas"), "Write 1 or more"),
    ("bad-value", deployed(num_replicas="3"), "error", "'3' is neither a whole number nor auto",
     (*DEPLOYMENT, "num_replicas"), "Write a number above 0, or auto"),
    ("bad-value", deployed(num_replicas=2, autoscaling_config={}), "error", "contradicts autoscaling_config",
     (*DEPLOYMENT, "num_replicas"), "Remove num_replicas, or write auto"),
    ("bad-value", deployed(autoscaling_config={"min_replicas": 2}), "error",
     "2 is more than 1, which max_replicas is by default", (*DEPLOYMENT, "autoscaling_config", "min_replicas"),
     "Set max_replicas to at least 2"),
    ("bad-value", deployed(num_replicas="auto", autoscaling_config={"min_replicas": 101}), "error", "more than 100",
     (*DEPLOYMENT, "autoscaling_config", "min_replicas"), "Set max_replicas"),
    ("bad-value", deployed(autoscaling_config={"max_replicas": 3, "initial_replicas": 4}), "error",
     "4 is more than max_replicas 3", (*DEPLOYMENT, "autoscaling_config", "initial_replicas"), "raise max_replicas"),
    ("bad-value", deployed(autoscaling_config={"look_back_period_s": 5}), "warning", "looks back 5 s",
     (*DEPLOYMENT, "autoscaling_config", "look_back_period_s"), "Set look_back_period_s above 10"),
    ("bad-value", deployed(max_queued_requests=0), "error", "0 is neither -1 nor above 0",
     (*DEPLOYMENT, "max_queued_requests"), "Write -1 for no limit"),
    ("bad-value", deployed(max_replicas_per_node=101), "error", "101 is not between 1 and 100",
     (*DEPLOYMENT, "max_replicas_per_node"), "Write a number from 1 to 100"),
    ("bad-value", deployed(placement_group_bundles=[{"CPU": 1}], max_replicas_per_node=1), "error",
     "cannot be set together", (*DEPLOYMENT, "max_replicas_per_node"), "Remove one of them"),
    ("bad-value", deployed(placement_group_bundles=[{"CPU": 1}], ray_actor_options={"num_gpus": 1}), "error",
     "has 0 GPU, but the replica itself, which goes there, needs 1", (*DEPLOYMENT, "placement_group_bundles", 0),
     "Give the first bundle 1 GPU"),
    ("bad-value", deployed(placement_group_bundles=[{"GPU": 1}]), "warning", "unless the code asks for less",
     (*DEPLOYMENT, "placement_group_bundles", 0), "Give the first bundle 1 CPU"),
    ("bad-value", deployed(gang_scheduling_config={"gang_size": 2}, num_replicas=3), "error",
     "3 is no multiple of gang_size 2", (*DEPLOYMENT, "num_replicas"), "Write 4"),
    ("bad-value", deployed(gang_scheduling_config={"gang_size": 1, "runtime_failure_policy": "RESTART_REPLICA"}),
     "error", "not implemented", (*DEPLOYMENT, "gang_scheduling_config", "runtime_failure_policy"), "Use RESTART_GANG"),
    ("bad-value", deployed(ray_actor_options={"num_gpus": 1.5}), "warning", "1.5 is more than one GPU",
     (*DEPLOYMENT, "ray_actor_options", "num_gpus"), "Round it"),
    ("bad-value", deployed(ray_actor_options={"resources": {"GPU": 1}}), "error", "is not allowed there",
     (*DEPLOYMENT, "ray_actor_options", "resources", "GPU"), "Write num_gpus beside resources"),
    ("bad-value", deployed(ray_actor_options={"label_selector": {"a": "-"}}), "error", "'-' is no label selector",
     (*DEPLOYMENT, "ray_actor_options", "label_selector", "a"), "in(a, b)"),
    ("bad-value", deployed(logging_config={"log_level": "info"}), "error", "'info' is none of",
     (*DEPLOYMENT, "logging_config", "log_level"), "Write INFO"),
    ("bad-value", deployed(request_router_config={"request_router_class": "Router"}), "error",
     "'Router' does not name a router class", (*DEPLOYMENT, "request_router_config", "request_router_class"),
     "Write module:Class"),
    ("bad-value", config({"route_prefix": "app"}), "error", "'app' does not start with a slash",
     (*APP, "route_prefix"), "Write for example /app"),
    ("bad-value", config({"import_path": "app"}), "error", "'app' is no import path", (*APP, "import_path"),
     "Write module:application"),
    ("bad-value", config({"port": 80}), "error", "cannot be set for one application", (*APP, "port"),
     "Move it to http_options.port"),
    ("bad-value", config({"name": ""}), "error", "is empty", (*APP, "name"), "Give it a name of its own"),
    ("bad-value", config({"runtime_env": {"working_dir": "/app"}}), "error", "is a local path",
     (*APP, "runtime_env", "working_dir"), "put the code into the image"),
    ("bad-value", config({"runtime_env": {"working_dir": "https://x/y"}}), "error", "does not end in .zip",
     (*APP, "runtime_env", "working_dir"), "Name an archive"),
    ("bad-value", config({"runtime_env": {"pip": ["a"], "conda": "b"}}), "error", "cannot be set together with pip",
     (*APP, "runtime_env", "conda"), "Keep one of them"),
    ("bad-value", config({"external_scaler_enabled": True, "deployments": [{"name": "D", "num_replicas": "auto"}]}),
     "error", "asks for Serve's autoscaler", (*DEPLOYMENT, "num_replicas"), "Remove one of them"),
    ("bad-value", config({"deployments": [{"name": "D"}, {"name": "D"}]}), "warning", "is used more than once",
     (*APP, "deployments", 1, "name"), "Merge them into one entry"),
    ("bad-value", config(http_options={"ssl_certfile": "/c"}), "error", "is set without ssl_keyfile",
     ("http_options", "ssl_certfile"), "Set ssl_keyfile too"),
    ("bad-value", config(controller_options={"runtime_env": {"pip": []}}), "error", "takes env_vars only",
     ("controller_options", "runtime_env"), "Move that to a deployment"),
    ("missing-field", {"applications": [{"name": "a"}]}, "error", "is missing", (*APP, "import_path"),
     "Write module:application"),
    ("missing-field", config({"deployments": [{"num_replicas": 1}]}), "error", "is missing", (*DEPLOYMENT, "name"),
     "Give it the name that the code has"),
    ("missing-field", {}, "error", "is missing", ("applications",), "List the applications"),
    ("deprecated-field", deployed(autoscaling_config={"smoothing_factor": 1}), "warning", "is deprecated",
     (*DEPLOYMENT, "autoscaling_config", "smoothing_factor"), "Use upscaling_factor and downscaling_factor"),
    ("converted-value", deployed(max_ongoing_requests="5"), "hint", "'5' is text where a whole number is expected",
     (*DEPLOYMENT, "max_ongoing_requests"), "Write a whole number"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}:{'.'.join(map(str, case[4][-2:]))}" for case in CASES])
def test_a_fault_and_its_words(case: tuple[str, Any, str, str, Path, str]) -> None:
    rule, document, severity, problem, path, fix = case
    before = copy.deepcopy(document)
    finding = only(document, "2.60.0")
    assert (finding.rule, finding.severity, finding.path[2:]) == (rule, severity, path)
    assert problem in finding.problem
    assert fix in finding.fix
    assert document == before


def test_every_rule_has_a_case() -> None:
    versioned = {"newer-field"}
    assert {case[0] for case in CASES} | versioned == set(RULES)


@pytest.mark.parametrize(
    ("document", "since", "field"),
    [
        (deployed(max_surge_percent=50), (2, 60), "max_surge_percent"),
        (config(grpc_options={"enable_reflection": True}), (2, 60), "enable_reflection"),
        (config(tracing_config={}), (2, 59), "tracing_config"),
        (deployed(backpressure_config={}), (2, 58), "backpressure_config"),
        (deployed(rolling_update_percentage=0.5), (2, 56), "rolling_update_percentage"),
        (config(controller_options={}), (2, 56), "controller_options"),
        (deployed(deployment_actors=[]), (2, 55), "deployment_actors"),
        (deployed(ray_actor_options={"label_selector": {}}), (2, 54), "label_selector"),
        (config({"external_scaler_enabled": True}), (2, 53), "external_scaler_enabled"),
        (config({"autoscaling_policy": None}), (2, 51), "autoscaling_policy"),
        (deployed(autoscaling_config={"policy": {}}), (2, 50), "policy"),
        (deployed(request_router_config={}), (2, 48), "request_router_config"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_is_told_before_its_version_and_not_from_it_on(
    document: Any, since: tuple[int, int], field: str
) -> None:
    major, minor = since
    finding = only(document, f"{major}.{minor - 1}.1")
    assert (finding.rule, finding.severity, finding.path[-1]) == ("newer-field", Severity.WARNING, field)
    assert f"is new in Ray {major}.{minor}; Ray {major}.{minor - 1} ignores it" in finding.problem
    assert check(document, f"{major}.{minor}.0") == check(document, None) == []


def test_a_field_that_is_too_new_is_not_judged() -> None:
    assert only(deployed(max_surge_percent=500), "2.54.0").rule == "newer-field"
    assert only(deployed(max_surge_percent=500), "2.60.0").rule == "bad-value"


def test_old_ray_turns_numbers_into_text() -> None:
    finding = only(config({"name": 5}), "2.54.0")
    assert (finding.rule, finding.severity) == ("converted-value", Severity.WARNING)
    assert "5 is read as '5'; from Ray 2.55 on it is refused" in finding.problem
    assert only(config({"name": 5}), "2.55.0").severity is Severity.ERROR


@pytest.mark.parametrize("version", ["2.54.0", "2.60.0"])
def test_variables_are_text_in_every_version(version: str) -> None:
    finding = only(config({"runtime_env": {"env_vars": {"A": 1}}}), version)
    assert (finding.rule, finding.severity) == ("wrong-type", Severity.ERROR)


@pytest.mark.parametrize(("value", "read"), [("3", "3"), (2.5, "2"), ("auto", None)])
def test_old_ray_makes_whole_numbers(value: Any, read: str | None) -> None:
    found = check(deployed(num_replicas=value), "2.54.0")
    assert [finding.fix for finding in found] == ([f"Write {read}"] if read else [])
    assert all(finding.severity is Severity.WARNING for finding in found)


@pytest.mark.parametrize("version", [None, "", "nightly", "latest", "9.9.9", "2.60", "2.60.0.dev0", "v2.60.1"])
def test_a_version_that_says_nothing_is_the_newest(version: str | None) -> None:
    assert check(deployed(max_surge_percent=1), version) == []


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.9.3-py310", (2, 9)), ("2.54", (2, 54)), ("v2.54.1", (2, 54)), ("254", None), ("x", None), ("2.", None)],
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert minor_version(text) == version


def test_faults_do_not_hide_each_other() -> None:
    document = config(
        {
            "import_path": "app",
            "deployments": [
                {"name": "A", "num_replicas": 0, "unknown": 1},
                {"name": "B", "max_replicas_per_node": 0, "autoscaling_config": {"min_replicas": 5}},
                {"nam": "C"},
            ],
        },
        http_options={"ssl_certfile": "/c"},
        applicatons=[],
    )
    found = [(finding.rule, finding.path[2:]) for finding in check(document, "2.60.0")]
    assert found == [
        ("bad-value", (*APP, "import_path")),
        ("bad-value", (*APP, "deployments", 0, "num_replicas")),
        ("unknown-key", (*APP, "deployments", 0, "unknown")),
        ("bad-value", (*APP, "deployments", 1, "max_replicas_per_node")),
        ("bad-value", (*APP, "deployments", 1, "autoscaling_config", "min_replicas")),
        ("unknown-key", (*APP, "deployments", 2, "nam")),
        ("missing-field", (*APP, "deployments", 2, "name")),
        ("bad-value", ("http_options", "ssl_certfile")),
        ("unknown-key", ("applicatons",)),
    ]


def test_user_data_is_the_users() -> None:
    anything = {"num_replica": "x", "nested": [{"1": None}], "name": 5}
    document = config({"args": anything, "deployments": [{"name": "D", "user_config": anything}]})
    assert check(document, "2.60.0") == []


@pytest.mark.parametrize("document", [None, [], "x", 5, {"applications": None}, {"applications": [None, [], "x"]}])
def test_no_mapping_where_one_has_to_be_is_an_error(document: Any) -> None:
    found = check(document, "2.60.0")
    assert found
    assert all(finding.severity is Severity.ERROR for finding in found)
    assert all(finding.path[:2] == ROOT for finding in found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents)
def test_it_says_at_least_what_the_reconcile_refuses(document: Any) -> None:
    """The validation that every reconcile runs refuses a part of it."""
    fields = {field_text(f.path[len(ROOT) :]) for f in check(document, None) if f.severity is Severity.ERROR}
    for violation in serve_config.violations(document_json(document)):
        assert violation.field in fields, violation
