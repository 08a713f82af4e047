"""Rules about settings of ``serve_runtime``'s policies and routers, which Ray hands over without a look.

They stand here as text, so that nothing that runs in Ray pods is imported; a test compares them with the models.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.reading import as_map, maps_in
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.served import served
from rayservice_operator.lint.subject import Subject

Known = Mapping[str, str]
"""Name of each setting: the kind of what it holds, empty where that is no mapping with settings of its own."""

POLICIES: Final[Mapping[str, Known]] = {
    "queue_depth": dict.fromkeys(("type", "per_replica", "metric", "tolerance"), ""),
    "slo": dict.fromkeys(
        (
            "type",
            "metric",
            "quantile",
            "target_s",
            "bounds",
            "headroom",
            "max_step",
            "min_samples",
            "settle_s",
        ),
        "",
    ),
    "schedule": {"type": "", "windows": "window", "otherwise": ""},
    "predictive": dict.fromkeys(("type", "per_replica", "window_s", "horizon_s", "max_growth", "sample_s"), ""),
    "max": {"type": "", "of": "policy"},
}
"""By type: policies of a deployment."""
OF_APPLICATIONS: Final[Mapping[str, Known]] = {
    "each": {"type": "", "of": "policy"},
    "prefill_decode": {
        **dict.fromkeys(("type", "prefill", "decode", "prefill_ongoing", "decode_ongoing", "kv_metric"), ""),
        **dict.fromkeys(("kv_target", "decode_holds_prompts", "min_ratio", "max_ratio"), ""),
        "others": "policy",
    },
}
WINDOW: Final[Known] = dict.fromkeys(("start", "end", "timezone", "replicas"), "")
ROUTERS: Final[Mapping[str, Known]] = {
    "StickyRouter": dict.fromkeys(("header", "balance", "fallbacks"), ""),
    "PrefixRouter": dict.fromkeys(("balance", "block", "capacity", "least_match", "least_bound"), ""),
    "KvCacheRouter": dict.fromkeys(("stat", "weight"), ""),
}
_ADAPTER: Final = "serve_runtime.autoscaling.adapter"
_ROUTING: Final = "serve_runtime.routing.routers"


def _policies(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        found = as_map(app.data.get("autoscaling_policy"))
        if found.get("policy_function") in _names("ApplicationPolicy"):
            at = app.at("autoscaling_policy", "policy_kwargs")
            yield from _adapter(found.get("policy_kwargs"), at, OF_APPLICATIONS)
        for model in served(app.data, app.path):
            given, at = as_map(model.data.get("autoscaling")).get("policy"), (*model.path, "autoscaling", "policy")
            if given is not None:
                yield from _policy(given, at, POLICIES)
    for deployment in subject.deployments:
        found = as_map(as_map(deployment.data.get("autoscaling_config")).get("policy"))
        if found.get("policy_function") in _names("DeploymentPolicy"):
            at = deployment.at("autoscaling_config", "policy", "policy_kwargs")
            yield from _adapter(found.get("policy_kwargs"), at, POLICIES)


def _routers(subject: Subject) -> Iterator[Problem]:
    for deployment in subject.deployments:
        found = as_map(deployment.data.get("request_router_config"))
        for name, known in ROUTERS.items():
            if found.get("request_router_class") in (f"{_ROUTING}:{name}", f"{_ROUTING}.{name}"):
                at = deployment.at("request_router_config", "request_router_kwargs")
                yield from _unknown(as_map(found.get("request_router_kwargs")), at, known, name)


def _names(adapter: str) -> tuple[str, str]:
    return f"{_ADAPTER}:{adapter}", f"{_ADAPTER}.{adapter}"


def _adapter(arguments: Any, path: Path, kinds: Mapping[str, Known]) -> Iterator[Problem]:
    """The adapter takes one argument, the policy."""
    yield from _unknown(as_map(arguments), path, {"policy": ""}, "the adapter")
    if "policy" in as_map(arguments):
        yield from _policy(arguments["policy"], (*path, "policy"), kinds)


def _policy(given: Any, path: Path, kinds: Mapping[str, Known]) -> Iterator[Problem]:
    """One policy and those in it; no recursion, as the depth is the user's."""
    waiting = [(given, path, kinds)]
    while waiting:
        found, at, allowed = waiting.pop()
        if not isinstance(found, dict):
            continue
        kind = found.get("type")
        if not isinstance(kind, str) or kind not in allowed:
            said = f"is {kind!r}" if "type" in found else "has no type"
            where = (*at, "type") if "type" in found else at
            yield Problem(where, f"{said}; there are {', '.join(allowed)}", "Write one of these")
            continue
        yield from _unknown(found, at, allowed[kind], kind)
        for name, holds in allowed[kind].items():
            inner = found.get(name)
            if holds == "policy":
                inside = [((*at, name), inner)] if isinstance(inner, dict) else maps_in(inner, (*at, name))
                waiting.extend((item, where, POLICIES) for where, item in inside)
            elif holds == "window":
                for where, item in maps_in(inner, (*at, name)):
                    yield from _unknown(item, where, WINDOW, "a window")


def _unknown(found: Mapping[str, Any], path: Path, known: Known, owner: str) -> Iterator[Problem]:
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            fix = f"Write {near[0]}" if near else f"Use one of {', '.join(key for key in known if key != 'type')}"
            yield Problem((*path, name), f"is no setting of {owner}", fix)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "policy-settings",
        Severity.ERROR,
        "A setting that a policy of serve_runtime does not have",
        "Ray hands the settings over without a look. With a wrong one the policy decides nothing: replicas follow "
        "target_ongoing_requests, and only the controller's log says so.",
        "Correct the name; docs/serve-runtime/autoscaling.md has all of them.",
        "autoscaling_policy:\n  policy_function: serve_runtime.autoscaling.adapter:ApplicationPolicy\n"
        "  policy_kwargs: {policy: {type: each, of: {type: queue_depth, per_replca: 4}}}",
        _policies,
    ),
    Rule(
        "router-settings",
        Severity.ERROR,
        "A setting that a router of serve_runtime does not have",
        "Ray hands the settings over without a look. With a wrong one requests are routed by the power of two choices, "
        "and only the log says so.",
        "Correct the name; docs/serve-runtime/routing.md has all of them.",
        "request_router_config:\n  request_router_class: serve_runtime.routing.routers:StickyRouter\n"
        "  request_router_kwargs: {heder: x-user}",
        _routers,
    ),
)
