"""Serve configs for Hypothesis, made from our own models: mostly right, with some of everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from hypothesis import strategies as st

from rayservice_operator.serveconfig.model import Deploy, Part, Shape, fields_of
from rayservice_operator.serveconfig.model.logs import LOG_RECORD_ATTRIBUTES

POLICY = "ray.serve.autoscaling_policy:default_autoscaling_policy"
ROUTER = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
ZIP = "https://example.com/code.zip"

JUNK: list[Any] = [
    None, True, False, 0, 1, 2, -1, 3, 101, 0.5, 1.5, -0.5, 2.0, 1e300, "", "5", "5.0", "x", "auto", "yes", "a.b", "/x",
    [], ["x"], [1], [{}], [None], {}, {"x": 1}, {"CPU": 1}, {"a": "b"}, {"x": None}, [{"CPU": 1}], [{"name": "A"}],
]  # fmt: skip
"""Values that are wrong nearly everywhere, and right somewhere."""

GOOD: Mapping[tuple[str, str], list[Any]] = {
    ("Application", "import_path"): ["m:a", "p.m:a.b", "m.a"],
    ("Application", "route_prefix"): ["/", "/a", "/b", "/b/c", None],
    ("Application", "name"): ["a", "b", "c", "d"],
    ("Application", "host"): [],
    ("Application", "port"): [],
    ("Application", "autoscaling_policy"): [None, {"policy_function": POLICY}],
    ("AutoscalingConfig", "aggregation_function"): ["mean", "MAX", "min"],
    ("AutoscalingConfig", "min_replicas"): [0, 1, 2, 4],
    ("AutoscalingConfig", "max_replicas"): [1, 2, 4, 100],
    ("AutoscalingConfig", "initial_replicas"): [None, 0, 1, 2, 4],
    ("AutoscalingConfig", "policy"): [{}, {"policy_function": POLICY}],
    ("AutoscalingPolicy", "policy_function"): [POLICY],
    ("BackpressureConfig", "status_code"): [503, 429],
    ("ControllerOptions", "runtime_env"): [None, {}, {"env_vars": {"A": "1"}}],
    ("Deploy", "proxy_location"): ["Disabled", "HeadOnly", "EveryNode"],
    ("Deployment", "name"): ["A", "B", "C"],
    ("Deployment", "num_replicas"): [1, 2, 4, "auto", None],
    ("Deployment", "max_replicas_per_node"): [1, 100],
    ("Deployment", "max_queued_requests"): [-1, 1, 100],
    ("Deployment", "placement_group_bundles"): [[{"CPU": 1}], [{"CPU": 2}, {"GPU": 1}], [{"GPU": 1, "CPU": 0.5}]],
    ("Deployment", "placement_group_strategy"): ["PACK", "STRICT_SPREAD"],
    ("Deployment", "placement_group_bundle_label_selector"): [[{"ray.io/zone": "a"}], [{"a": "b"}, {"a": "!c"}]],
    ("DeploymentActor", "actor_class"): ["ray.serve.config:AutoscalingConfig"],
    ("DeploymentActor", "actor_options"): [{}, {"num_cpus": 1}],
    ("GangSchedulingConfig", "gang_size"): [1, 2, 4],
    ("GangSchedulingConfig", "gang_placement_strategy"): ["PACK", "SPREAD"],
    ("GangSchedulingConfig", "runtime_failure_policy"): ["RESTART_GANG"],
    ("HttpOptions", "ssl_certfile"): [None, "/cert"],
    ("HttpOptions", "ssl_keyfile"): [None, "/key"],
    ("LoggingConfig", "encoding"): ["TEXT", "JSON"],
    ("LoggingConfig", "log_level"): ["INFO", "DEBUG", 10],
    ("LoggingConfig", "additional_log_standard_attrs"): [[], sorted(LOG_RECORD_ATTRIBUTES)[:3]],
    ("RayActorOptions", "num_cpus"): [0, 0.5, 1, None],
    ("RayActorOptions", "num_gpus"): [0, 0.5, 1, 2, None],
    ("RayActorOptions", "resources"): [{}, {"TPU": 4}, {"custom": 0.5}],
    ("RayActorOptions", "label_selector"): [None, {"ray.io/zone": "in(a, b)"}],
    ("RayActorOptions", "fallback_strategy"): [None, [], [{"label_selector": {"a": "b"}}]],
    ("RequestRouterConfig", "request_router_class"): [ROUTER],
    ("RuntimeEnv", "working_dir"): [ZIP, "s3://b/k.zip"],
    ("RuntimeEnv", "py_modules"): [[], [ZIP], ["gs://b/k.whl"]],
    ("RuntimeEnv", "pip"): [["requests"], [], {"packages": ["a"]}],
    ("RuntimeEnv", "uv"): [["requests"], [], {"packages": ["a"], "uv_check": True}],
    ("RuntimeEnv", "conda"): [{"dependencies": []}],
    ("RuntimeEnv", "env_vars"): [{}, {"A": "1"}, None],
    ("RuntimeEnv", "image_uri"): ["example.com/image:1"],
    ("RuntimeEnv", "container"): [{"image": "x"}],
    ("RuntimeEnv", "excludes"): [[], ["*.log"]],
    ("RuntimeEnvConfig", "setup_timeout_seconds"): [-1, 600],
}  # fmt: skip
"""Values for fields whose type alone does not make them."""

WRONG: Mapping[tuple[str, str], list[Any]] = {
    ("ControllerOptions", "runtime_env"): [{"pip": []}, {"env_vars": {"A": 1}}],
    ("GangSchedulingConfig", "runtime_failure_policy"): ["RESTART_REPLICA"],
    ("LoggingConfig", "log_level"): ["info", 11],
    ("RayActorOptions", "fallback_strategy"): [[{}], [{"x": 1}], [{"label_selector": {"-": "x"}}]],
    ("RayActorOptions", "label_selector"): [{"bad key!": "a"}, {"a": "in()"}],
    ("RayActorOptions", "num_gpus"): [1.5, 0.00001],
    ("RayActorOptions", "resources"): [{"custom": -1}, {"CPU": 1}],
    ("RuntimeEnv", "env_vars"): [{"A": 1}],
    ("RuntimeEnv", "pip"): [{"packages": ["a"], "x": 1}, {"pip_check": True}],
    ("RuntimeEnv", "py_modules"): [["x/y"], ["ftp://a/b.zip"]],
    ("RuntimeEnv", "working_dir"): ["https://example.com/code", "local:///app", "./here", "s3://b/k.whl"],
    ("RuntimeEnvConfig", "setup_timeout_seconds"): [0],
}  # fmt: skip
"""Values that look right, for documents with trouble."""

NEVER_JUNK = {("RuntimeEnv", "pip"), ("RuntimeEnv", "uv"), ("RuntimeEnv", "conda")}
"""Text there names a file on the head's machine, which only Ray can look for."""

SELDOM = {
    ("Application", "host"),
    ("Application", "port"),
    ("RuntimeEnv", "container"),
    ("RuntimeEnv", "image_uri"),
    ("Deployment", "gang_scheduling_config"),
    ("Deployment", "max_replicas_per_node"),
}
"""Fields that exclude many others."""

TYPOS = ["unknown", "num_replica", "max_replicas", "name", "location"]


def numbers(part: type[Part], name: str, kind: type, trouble: int) -> list[Any]:
    """Within the bounds of a field; with ``trouble`` just outside of them, too."""
    least, most, open_below, open_above = 0.0, 1000.0, False, False
    for item in _metadata(part, name):
        if getattr(item, "ge", None) is not None:
            least = item.ge
        if getattr(item, "gt", None) is not None:
            least, open_below = item.gt, True
        if getattr(item, "le", None) is not None:
            most = item.le
        if getattr(item, "lt", None) is not None:
            most, open_above = item.lt, True
    inside = [least + 1, most, (least + most) / 2, *([] if open_below else [least])]
    outside = [least - 1, least - 0.5, most + 1, *([least] if open_below else []), *([most] if open_above else [])]
    return [kind(value) for value in (inside + outside if trouble else inside * 2)]


def _metadata(part: type[Part], name: str) -> list[Any]:
    info = part.model_fields[name]
    inner = [found for choice in get_args(info.annotation) for found in getattr(choice, "__metadata__", ())]
    return [*info.metadata, *inner]


@st.composite
def parts(draw: st.DrawFn, part: type[Part], trouble: int) -> dict[str, Any]:
    """A mapping for a part. ``trouble``: in so many of a hundred places there is junk."""
    fields = fields_of(part)
    required = [name for name, info in part.model_fields.items() if info.is_required()]
    extra = draw(st.lists(st.sampled_from(sorted(fields)), max_size=5, unique=True))
    if part.__name__ == "Application" and draw(st.integers(0, 9)) < 9:
        extra.append("deployments")
    result: dict[str, Any] = {}
    for name in dict.fromkeys([*required, *extra]):
        if name in required and draw(st.integers(0, 99)) >= 100 - trouble // 2:
            continue
        if (part.__name__, name) in SELDOM and draw(st.integers(0, 3)) < 3:
            continue
        result[name] = draw(values(part, name, trouble))
    if not trouble:
        _mend(result)
    if part is Deploy and isinstance(result.get("applications"), list):
        _apart(draw, result["applications"])
    if draw(st.integers(0, 99)) >= 100 - trouble:
        result[draw(st.sampled_from(TYPOS))] = draw(st.sampled_from(JUNK))
    return result


EXCLUSIVE = (("max_replicas_per_node", "placement_group_bundles"), ("num_replicas", "autoscaling_config"),
             ("pip", "conda"), ("uv", "conda"), ("pip", "uv"))  # fmt: skip
DEPENDENT = (("placement_group_bundle_label_selector", "placement_group_bundles"),
             ("placement_group_strategy", "placement_group_bundles"))  # fmt: skip


def _mend(part: dict[str, Any]) -> None:
    """Takes away what cannot be together, so that most documents without trouble are right."""
    for one, other in EXCLUSIVE:
        if other in part and part.get(one) != "auto":
            part.pop(one, None)
    for one, other in DEPENDENT:
        if other not in part:
            part.pop(one, None)


def _apart(draw: st.DrawFn, applications: list[Any]) -> None:
    """Mostly applications do not get into each other's way."""
    if draw(st.integers(0, 9)) < 9:
        for index, application in enumerate(applications):
            if isinstance(application, dict):
                application["name"], application["route_prefix"] = f"app-{index}", f"/app-{index}"
    for application in applications:
        deployments = application.get("deployments") if isinstance(application, dict) else None
        for index, deployment in enumerate(deployments if isinstance(deployments, list) else []):
            # Entries with the same name are applied one after the other, which no schema describes.
            if isinstance(deployment, dict) and isinstance(deployment.get("name"), str):
                deployment["name"] += str(index)


@st.composite
def values(draw: st.DrawFn, part: type[Part], name: str, trouble: int) -> Any:
    """A value for a field."""
    key = (part.__name__, name)
    good = GOOD.get(key)
    if key not in NEVER_JUNK and (good == [] or draw(st.integers(0, 99)) >= 100 - trouble):
        return draw(st.sampled_from([*WRONG.get(key, []) * 9, *JUNK]))
    if good:
        return json.loads(json.dumps(draw(st.sampled_from(good))))
    return draw(shaped(part, name, fields_of(part)[name].shape, trouble))


def shaped(part: type[Part], name: str, shape: Shape, trouble: int) -> st.SearchStrategy[Any]:
    """Values of a shape."""
    if shape.part is not None:
        return parts(shape.part, trouble)
    if shape.item is not None:
        fewest = 1 if name in ("applications", "deployments") else 0
        return st.lists(shaped(part, name, shape.item, trouble), min_size=fewest, max_size=3)
    if shape.scalar in (int, float):
        return st.sampled_from(numbers(part, name, shape.scalar, trouble))
    if shape.scalar is bool:
        return st.booleans()
    if shape.scalar is str:
        return st.sampled_from(["a", "b", "/path"])
    return st.sampled_from([{}, {"a": 1}, {"a": {"b": [1]}}])


documents = st.sampled_from([0, 0, 0, 2, 5]).flatmap(lambda trouble: parts(Deploy, trouble))
"""Whole configs."""
