"""One value and another for every field of Ray Serve's config, and the documents that differ in it alone.

Values of deployments are not Ray's defaults where there is a choice: setting what is so anyway changes less than the
preview, which does not see the application's code, can promise.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.serveconfig.fields import APPLICATION, DEPLOYMENT, FIELDS

POLICY: Final = "ray.serve.autoscaling_policy:default_autoscaling_policy"
OTHER_POLICY: Final = "ray.serve.autoscaling_policy:replica_queue_length_autoscaling_policy"
ROUTER: Final = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
OTHER_ROUTER: Final = "ray.serve.experimental.round_robin_router:RoundRobinRouter"
LOGGING: Final = {
    "encoding": ("TEXT", "JSON"),
    "log_level": ("INFO", "DEBUG"),
    "logs_dir": ("/tmp/a", "/tmp/b"),
    "enable_access_log": (True, False),
    "additional_log_standard_attrs": ([], ["name"]),
}
ACTOR: Final = {"name": "counter", "actor_class": "m:Counter"}
GANG: Final = {"gang_size": 1}

_DEPLOYMENT: Final[dict[str, tuple[Any, Any]]] = {
    "num_replicas": (2, 4),
    "max_ongoing_requests": (6, 7),
    "max_queued_requests": (10, 20),
    "backpressure_config": ({"status_code": 429}, {"status_code": 503, "retry_after_s": 1}),
    "backpressure_config.status_code": (503, 429),
    "backpressure_config.retry_after_s": (1, 2),
    "user_config": ({"a": 1}, {"a": 2}),
    "autoscaling_config": ({"max_replicas": 3}, {"max_replicas": 4}),
    "autoscaling_config.min_replicas": (1, 2),
    "autoscaling_config.initial_replicas": (1, 2),
    "autoscaling_config.max_replicas": (3, 4),
    "autoscaling_config.target_ongoing_requests": (2, 3),
    "autoscaling_config.metrics_interval_s": (5, 6),
    "autoscaling_config.look_back_period_s": (20, 25),
    "autoscaling_config.smoothing_factor": (1.0, 0.5),
    "autoscaling_config.upscale_smoothing_factor": (1.0, 0.5),
    "autoscaling_config.downscale_smoothing_factor": (1.0, 0.5),
    "autoscaling_config.upscaling_factor": (1.0, 0.5),
    "autoscaling_config.downscaling_factor": (1.0, 0.5),
    "autoscaling_config.downscale_delay_s": (60, 90),
    "autoscaling_config.downscale_to_zero_delay_s": (60, 90),
    "autoscaling_config.upscale_delay_s": (3, 9),
    "autoscaling_config.aggregation_function": ("mean", "max"),
    "autoscaling_config.policy": ({"policy_function": POLICY}, {"policy_function": OTHER_POLICY}),
    "autoscaling_config.policy.policy_function": (POLICY, OTHER_POLICY),
    "autoscaling_config.policy.policy_kwargs": ({}, {"a": 1}),
    "graceful_shutdown_wait_loop_s": (3, 4),
    "graceful_shutdown_timeout_s": (25, 30),
    "health_check_period_s": (11, 12),
    "health_check_timeout_s": (31, 32),
    "ray_actor_options": ({"num_cpus": 3}, {"num_cpus": 2}),
    "ray_actor_options.runtime_env": ({"env_vars": {"A": "1"}}, {"env_vars": {"A": "2"}}),
    "ray_actor_options.num_cpus": (1, 2),
    "ray_actor_options.num_gpus": (1, 2),
    "ray_actor_options.memory": (1000, 2000),
    "ray_actor_options.resources": ({"a": 1}, {"a": 2}),
    "ray_actor_options.accelerator_type": ("T4", "A100"),
    "ray_actor_options.label_selector": ({"a": "b"}, {"a": "c"}),
    "ray_actor_options.fallback_strategy": ([{"label_selector": {"a": "b"}}], [{"label_selector": {"a": "c"}}]),
    "placement_group_bundles": ([{"CPU": 1}], [{"CPU": 2}]),
    "placement_group_strategy": ("PACK", "SPREAD"),
    "placement_group_bundle_label_selector": ([{"a": "b"}], [{"a": "c"}]),
    "max_replicas_per_node": (1, 2),
    "logging_config": ({"log_level": "INFO"}, {"log_level": "DEBUG"}),
    **{f"logging_config.{key}": values for key, values in LOGGING.items()},
    "request_router_config": ({"request_router_class": ROUTER}, {"request_router_class": OTHER_ROUTER}),
    "request_router_config.request_router_class": (ROUTER, OTHER_ROUTER),
    "request_router_config.request_router_kwargs": ({}, {"a": 1}),
    "request_router_config.request_routing_stats_period_s": (10, 11),
    "request_router_config.request_routing_stats_timeout_s": (30, 31),
    "request_router_config.initial_backoff_s": (0.02, 0.03),
    "request_router_config.backoff_multiplier": (2, 3),
    "request_router_config.max_backoff_s": (0.5, 0.6),
    "gang_scheduling_config": ({"gang_size": 1}, {"gang_size": 2}),
    "gang_scheduling_config.gang_size": (1, 2),
    "gang_scheduling_config.gang_placement_strategy": ("PACK", "SPREAD"),
    "gang_scheduling_config.runtime_failure_policy": ("RESTART_GANG", "RESTART_GANG"),
    "deployment_actors": ([ACTOR], [{**ACTOR, "actor_class": "m:Other"}]),
    "deployment_actors[].name": ("counter", "other"),
    "deployment_actors[].actor_class": ("m:Counter", "m:Other"),
    "deployment_actors[].init_args": ([1], [2]),
    "deployment_actors[].init_kwargs": ({"a": 1}, {"a": 2}),
    "deployment_actors[].actor_options": ({"num_cpus": 0}, {"num_cpus": 1}),
    "rolling_update_percentage": (0.3, 0.5),
    "max_surge_percent": (10, 50),
}
_APPLICATION: Final[dict[str, tuple[Any, Any]]] = {
    "route_prefix": ("/a", "/b"),
    "import_path": ("m:one", "m:two"),
    "runtime_env": ({"env_vars": {"A": "1"}}, {"env_vars": {"A": "2"}}),
    "args": ({"a": 1}, {"a": 2}),
    "autoscaling_policy": ({"policy_function": POLICY}, {"policy_function": OTHER_POLICY}),
    "logging_config": ({"log_level": "INFO"}, {"log_level": "DEBUG"}),
    **{f"logging_config.{key}": values for key, values in LOGGING.items()},
    "external_scaler_enabled": (False, True),
}
_INSTANCE: Final[dict[str, tuple[Any, Any]]] = {
    "proxy_location": ("EveryNode", "HeadOnly"),
    "http_options": ({"port": 8000}, {"port": 8001}),
    "http_options.host": ("0.0.0.0", "127.0.0.1"),
    "http_options.port": (8000, 8001),
    "http_options.root_path": ("", "/r"),
    "http_options.request_timeout_s": (5, 6),
    "http_options.keep_alive_timeout_s": (90, 91),
    "http_options.ssl_keyfile": ("/k", "/l"),
    "http_options.ssl_certfile": ("/c", "/d"),
    "http_options.ssl_keyfile_password": ("p", "q"),
    "http_options.ssl_ca_certs": ("/e", "/f"),
    "grpc_options": ({"port": 9000}, {"port": 9001}),
    "grpc_options.port": (9000, 9001),
    "grpc_options.grpc_servicer_functions": ([], ["m:f"]),
    "grpc_options.request_timeout_s": (5, 6),
    "grpc_options.enable_reflection": (True, False),
    "controller_options": ({"runtime_env": {}}, {"runtime_env": {"env_vars": {"A": "1"}}}),
    "controller_options.runtime_env": ({"env_vars": {"A": "1"}}, {"env_vars": {"A": "2"}}),
    "logging_config": ({"log_level": "INFO"}, {"log_level": "DEBUG"}),
    **{f"logging_config.{key}": values for key, values in LOGGING.items()},
    "tracing_config": ({"enabled": False}, {"enabled": True}),
    "tracing_config.enabled": (False, True),
    "tracing_config.exporter_import_path": ("m:e", "m:f"),
    "tracing_config.sampling_ratio": (0.5, 1.0),
    "target_capacity": (50, 100),
}

VALUES: Final[dict[str, tuple[Any, Any]]] = {
    **_INSTANCE,
    **{f"{APPLICATION}{key}": values for key, values in _APPLICATION.items()},
    **{f"{DEPLOYMENT}{key}": values for key, values in _DEPLOYMENT.items()},
}

COMPANIONS: Final[dict[str, dict[str, Any]]] = {
    # What a field does not go without: required neighbours in the same mapping.
    "http_options.ssl_certfile": {"ssl_keyfile": "/k"},
    f"{DEPLOYMENT}autoscaling_config.min_replicas": {"max_replicas": 5},
    f"{DEPLOYMENT}autoscaling_config.initial_replicas": {"max_replicas": 5},
    f"{DEPLOYMENT}gang_scheduling_config.gang_placement_strategy": {"gang_size": 1},
    f"{DEPLOYMENT}gang_scheduling_config.runtime_failure_policy": {"gang_size": 1},
    f"{DEPLOYMENT}deployment_actors[].init_args": ACTOR,
    f"{DEPLOYMENT}deployment_actors[].init_kwargs": ACTOR,
    f"{DEPLOYMENT}deployment_actors[].actor_options": ACTOR,
    f"{DEPLOYMENT}deployment_actors[].name": {"actor_class": "m:Counter"},
    f"{DEPLOYMENT}deployment_actors[].actor_class": {"name": "counter"},
    f"{DEPLOYMENT}placement_group_bundle_label_selector": {"placement_group_bundles": [{"CPU": 1}]},
    f"{DEPLOYMENT}placement_group_strategy": {"placement_group_bundles": [{"CPU": 1}]},
    f"{DEPLOYMENT}gang_scheduling_config": {"num_replicas": 2},
    f"{DEPLOYMENT}autoscaling_config.policy.policy_kwargs": {"policy_function": POLICY},
}
OUTER: Final[dict[str, dict[str, Any]]] = {
    # And in the deployment around it.
    f"{DEPLOYMENT}gang_scheduling_config.gang_size": {"num_replicas": 2},
    f"{DEPLOYMENT}gang_scheduling_config.gang_placement_strategy": {"num_replicas": 2},
}
REQUIRED: Final = frozenset(
    {
        f"{APPLICATION}import_path",
        f"{DEPLOYMENT}gang_scheduling_config.gang_size",
        f"{DEPLOYMENT}deployment_actors[].name",
        f"{DEPLOYMENT}deployment_actors[].actor_class",
    }
)
"""Fields that cannot be left out where the mapping they are in is there."""

NO_VALUES: Final = frozenset(
    {
        "applications",
        f"{APPLICATION}name",
        f"{APPLICATION}deployments",
        f"{APPLICATION}host",
        f"{APPLICATION}port",
        f"{DEPLOYMENT}name",
    }
)
"""Rows about identity, or that Ray refuses: they have tests of their own."""


@dataclass(frozen=True, slots=True)
class Case:
    """Two documents of application ``a`` with the deployments ``D`` and ``E`` that differ in one field at most."""

    path: str
    what: str
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def name(self) -> str:
        """For the test's report."""
        return f"{self.what} {self.path}"


def document(deployment: dict[str, Any] | None = None, app: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """A config with these keys."""
    deployments = [{"name": "D", **(deployment or {})}, {"name": "E"}]
    return {"applications": [{"name": "a", "import_path": "m:one", **(app or {}), "deployments": deployments}], **top}


def cases() -> Iterator[Case]:
    """Each field added, changed and removed."""
    for path in FIELDS:
        if path in NO_VALUES:
            continue
        old, new = VALUES[path]
        if path not in REQUIRED:
            yield Case(path, "added", _with(path), _with(path, new))
            yield Case(path, "removed", _with(path, new), _with(path))
        if old != new:
            yield Case(path, "changed", _with(path, old), _with(path, new))


def _with(path: str, *value: Any) -> dict[str, Any]:
    """A document in which the field has this value, or is not set; what is around it is there either way."""
    made = document(copy.deepcopy(OUTER.get(path, {})))
    *parents, key = path.replace("[]", ".[]").split(".")
    here: Any = made
    for index, part in enumerate(parents):
        if part == "[]":
            if not here:
                here.append({})
            here = here[0]
        else:
            following = parents[index + 1] if index + 1 < len(parents) else ""
            here = here.setdefault(part, [] if following == "[]" else {})
    here.update(copy.deepcopy(COMPANIONS.get(path, {})))
    if value:
        here[key] = copy.deepcopy(value[0])
    return made
