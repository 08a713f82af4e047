"""Rules about Serve's autoscaling: bounds, delays, targets, and zero replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.cluster.view import Version
from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.reading import as_count, as_map, as_number, as_text, plain
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Deployment, Subject

# Ray 2.60, AutoscalingConfig.
_UPSCALE_DELAY_S: Final = 30.0
_DOWNSCALE_DELAY_S: Final = 600.0
_DEFAULT_BOUND: Final = 1

_POLICIES_IMPORTED_SINCE: Final[Version] = (2, 60, 0)
"""2.54 leaves the policy of a deployment to the replica's environment; versions between were not looked at."""

SLOW_START_S: Final = 60
"""What it takes at least until a replica that loads a model can answer: process, weights, warm-up."""


def _scaled(subject: Subject) -> Iterator[tuple[Deployment, dict[str, object]]]:
    for deployment in subject.deployments:
        config = deployment.data.get("autoscaling_config")
        if isinstance(config, dict):
            yield deployment, config


def _bounds(subject: Subject) -> Iterator[Problem]:
    for deployment, config in _scaled(subject):
        least, most = as_count(config.get("min_replicas")), as_count(config.get("max_replicas"))
        initial = as_count(config.get("initial_replicas"))
        lower, upper = least if least is not None else _DEFAULT_BOUND, most
        if upper is None:
            upper = 100 if deployment.data.get("num_replicas") == "auto" else _DEFAULT_BOUND
        at = deployment.at("autoscaling_config")
        if lower > upper:
            path = (*at, "min_replicas") if least is not None else (*at, "max_replicas")
            said = f"is {lower}, more than max_replicas" if least is not None else f"is {upper}, less than min_replicas"
            other = upper if least is not None else lower
            default = "" if least is not None and most is not None else ", the default"
            yield Problem(path, f"{said} ({other}{default})", "Lower min_replicas or raise max_replicas")
        elif initial is not None and not lower <= initial <= upper:
            problem = f"is {initial}, not between min_replicas ({lower}) and max_replicas ({upper})"
            yield Problem((*at, "initial_replicas"), problem, "Choose a number between the two")


def _never_scales(subject: Subject) -> Iterator[Problem]:
    for deployment, config in _scaled(subject):
        least = as_count(config.get("min_replicas", _DEFAULT_BOUND))
        missing = config.get("max_replicas") is None and deployment.data.get("num_replicas") != "auto"
        if missing and least in (0, 1):
            problem = "has no max_replicas, whose default is 1: there is never more than one replica"
            yield Problem(deployment.at("autoscaling_config"), problem, "Set max_replicas")


def _oscillates(subject: Subject) -> Iterator[Problem]:
    for deployment, config in _scaled(subject):
        down = as_number(config.get("downscale_delay_s"))
        if down is None:
            continue
        up = as_number(config.get("upscale_delay_s"))
        up = _UPSCALE_DELAY_S if up is None else up
        path = deployment.at("autoscaling_config", "downscale_delay_s")
        if down < up:
            default = "" if "upscale_delay_s" in config else ", the default"
            problem = (
                f"is {plain(down)}, less than upscale_delay_s ({plain(up)}{default}): replicas go before they come"
            )
            yield Problem(path, problem, "Make it several times upscale_delay_s, so that a short lull keeps replicas")
        elif down < SLOW_START_S and deployment.workload.slow:
            problem = f"is {plain(down)} s, less than it takes to load the model again"
            yield Problem(path, problem, f"Write {SLOW_START_S} or more; Ray's default is {plain(_DOWNSCALE_DELAY_S)}")


def _target(subject: Subject) -> Iterator[Problem]:
    """Only where the file has both: the code may set either."""
    for deployment, config in _scaled(subject):
        target, limit = as_number(config.get("target_ongoing_requests")), deployment.data.get("max_ongoing_requests")
        most = as_number(limit)
        if target is not None and most is not None and target > most:
            problem = f"is {plain(target)}, but a replica takes {plain(most)} requests at a time (max_ongoing_requests)"
            fix = f"Write at most {plain(most)}, or raise max_ongoing_requests by a fifth over the target"
            yield Problem(deployment.at("autoscaling_config", "target_ongoing_requests"), problem, fix)


def _zero_keeps_pods(subject: Subject) -> Iterator[Problem]:
    """A deployment goes to zero to set pods free. Said only of GPUs, which are what costs."""
    for deployment, config in _scaled(subject):
        if config.get("min_replicas") != 0 or not deployment.workload.slow or not subject.nodes:
            continue
        path = deployment.at("autoscaling_config", "min_replicas")
        held = [node for node in subject.nodes if node.offers("GPU") and not node.group.is_head]
        if held and not subject.spec.enable_in_tree_autoscaling:
            problem = "is 0, but without Ray's autoscaler the pods with GPUs stay"
            yield Problem(path, problem, "Set enableInTreeAutoscaling: true and minReplicas: 0, or keep a replica")
            continue
        keeping = [node for node in held if getattr(node.group.spec, "min_replicas", 0) > 0]
        if keeping and len(keeping) == len(held):
            group = keeping[0]
            problem = f"is 0, but minReplicas of the group {group.name!r} keeps pods with GPUs"
            yield Problem(path, problem, "Set minReplicas of that group to 0, or keep a replica")


def _zero_times_out(subject: Subject) -> Iterator[Problem]:
    limit = as_number(as_map(as_map(subject.document).get("http_options")).get("request_timeout_s"))
    for deployment, config in _scaled(subject):
        slow = deployment.workload.slow and config.get("min_replicas") == 0
        if slow and limit is not None and 0 < limit < SLOW_START_S:
            problem = f"is 0, and the first request waits for the model, but request_timeout_s is {plain(limit)}"
            fix = f"Raise http_options.request_timeout_s to {SLOW_START_S} or more, or keep one replica"
            yield Problem(deployment.at("autoscaling_config", "min_replicas"), problem, fix)


def _zero_never_reached(subject: Subject) -> Iterator[Problem]:
    """Zero is entered by a decision of its own: the delay to it counts after everything else has gone to one."""
    for deployment, config in _scaled(subject):
        given = as_number(config.get("downscale_to_zero_delay_s"))
        least = as_count(config.get("min_replicas", _DEFAULT_BOUND))
        if given is not None and least is not None and least > 0:
            problem = f"is set, but min_replicas is {least}: the deployment never goes to zero"
            path = deployment.at("autoscaling_config", "downscale_to_zero_delay_s")
            yield Problem(path, problem, "Set min_replicas: 0, or remove the delay")


def _policy_module(subject: Subject) -> Iterator[Problem]:
    """Ray's head imports these when it reads the config (Ray 2.60 policies, routers); ``working_dir`` is not there."""
    for deployment in subject.deployments:
        if deployment.workload.llm is not None:
            continue  # read by the builder, where the application's environment is
        for path, module in _imported_by_head(deployment, subject.ray_version):
            env = as_map(deployment.app.data.get("runtime_env"))
            shipped = next((key for key in ("working_dir", "py_modules") if env.get(key)), None)
            if shipped and module and module.split(".")[0] != "ray":
                problem = f"names {module!r}, which Ray's head imports from its image; {shipped} is not there"
                fix = "Put the module into the image, set it in the code, or use autoscaling_policy of the application"
                yield Problem(path, problem, fix)


def _imported_by_head(deployment: Deployment, version: Version | None) -> Iterator[tuple[Path, str]]:
    policy = as_map(as_map(deployment.data.get("autoscaling_config")).get("policy"))
    router = as_map(deployment.data.get("request_router_config"))
    named = (
        (deployment.at("autoscaling_config", "policy", "policy_function"), policy.get("policy_function")),
        (deployment.at("request_router_config", "request_router_class"), router.get("request_router_class")),
    )
    for path, value in named:
        if "policy_function" in path and version is not None and version < _POLICIES_IMPORTED_SINCE:
            continue
        text = as_text(value)
        yield path, text.partition(":")[0] if ":" in text else text.rpartition(".")[0]


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "autoscaling-bounds",
        Severity.ERROR,
        "min_replicas, initial_replicas and max_replicas contradict each other",
        "Ray answers 200 and then fails the deployment. A max_replicas that is not set is 1.",
        "Keep min_replicas ≤ initial_replicas ≤ max_replicas.",
        "autoscaling_config: {min_replicas: 4, max_replicas: 2}",
        _bounds,
    ),
    Rule(
        "autoscaling-never-scales",
        Severity.WARNING,
        "An autoscaled deployment has no max_replicas",
        "Its default is 1, so under load requests queue before a single replica.",
        "Set max_replicas.",
        "autoscaling_config: {min_replicas: 1, target_ongoing_requests: 4}",
        _never_scales,
    ),
    Rule(
        "autoscaling-oscillates",
        Severity.WARNING,
        "Replicas go sooner than they come",
        "A lull between two bursts takes replicas away that the next burst needs; each comes back with a cold start.",
        "Make downscale_delay_s several times upscale_delay_s, and longer than a model takes to load.",
        "autoscaling_config: {max_replicas: 8, upscale_delay_s: 30, downscale_delay_s: 5}",
        _oscillates,
    ),
    Rule(
        "autoscaling-target",
        Severity.WARNING,
        "target_ongoing_requests is more than a replica takes at a time",
        "Running requests alone never reach the target; scaling begins only when requests have queued up to it.",
        "Keep max_ongoing_requests a fifth above the target.",
        "max_ongoing_requests: 5\nautoscaling_config: {max_replicas: 8, target_ongoing_requests: 20}",
        _target,
    ),
    Rule(
        "zero-keeps-pods",
        Severity.HINT,
        "A deployment on GPUs goes to zero replicas, its pods do not",
        "The GPUs stay taken, and the next request still waits for the model.",
        "Let the autoscaler remove the pods (enableInTreeAutoscaling, minReplicas: 0), or keep one replica.",
        "autoscaling_config: {min_replicas: 0, max_replicas: 4}   # and enableInTreeAutoscaling is not set",
        _zero_keeps_pods,
    ),
    Rule(
        "zero-times-out",
        Severity.WARNING,
        "The first request after zero replicas cannot be answered in time",
        "It waits until the model is loaded, which takes longer than http_options.request_timeout_s.",
        "Raise request_timeout_s, or keep one replica.",
        "http_options: {request_timeout_s: 10}   # and min_replicas: 0 on a GPU",
        _zero_times_out,
    ),
    Rule(
        "zero-never-reached",
        Severity.WARNING,
        "A delay for going to zero, where min_replicas forbids it",
        "The deployment stays at min_replicas; the delay means nothing.",
        "Set min_replicas: 0, or remove the delay.",
        "autoscaling_config: {min_replicas: 1, max_replicas: 4, downscale_to_zero_delay_s: 300}",
        _zero_never_reached,
    ),
    Rule(
        "module-not-on-head",
        Severity.WARNING,
        "A policy or router of a deployment comes with working_dir, where the head cannot import it",
        "Ray's dashboard imports it when it reads the config, outside of any runtime_env, and answers 500.",
        "Put the module into the head's image, set it in the code, or use the application's autoscaling_policy.",
        'runtime_env: {working_dir: "https://…/app.zip"}\n'
        "deployments:\n  - name: A\n    request_router_config: {request_router_class: my_app.router:Router}",
        _policy_module,
    ),
)
