"""Every field of Ray Serve's config and what a change of it does: one table, read by the preview and docs/changes.md.

Sources, all Ray 2.60: ``_private/deploy_utils.get_app_code_version`` (what rebuilds an application),
``_private/version.py`` (what restarts or reconfigures replicas), the ``update_type`` of each field in
``_private/config.py``, ``application_state.override_deployment_info``, ``DeploymentState.deploy`` (what is ignored) and
``controller.apply_config``; each kind of change was applied to a running Ray and compared (``tests/ray``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Reach(enum.StrEnum):
    """How far a change gets, the mildest first.

    ``CONTROLLER``: only Serve's controller goes by it; replicas do not notice. ``REPLICA``: the controller's record of
    each replica is changed; the process does not notice. ``RECONFIGURE``: ``reconfigure()`` of each replica's actor is
    called, a few at a time, and no requests are sent to it meanwhile. ``RESTART``: replicas of that deployment are
    replaced, a few at a time. ``REBUILD``: the application is imported and built again, and the replicas of all its
    deployments are replaced. ``REFUSED``: Ray answers HTTP 400 and changes nothing at all.
    """

    NONE = "unchanged"
    IGNORED = "ignored by Ray"
    CONTROLLER = "controller only"
    REPLICA = "replica object updated"
    RECONFIGURE = "reconfigure() called"
    DELETED = "deleted"
    NEW = "new application"
    RESTART = "rolling restart"
    REBUILD = "application rebuilt"
    REFUSED = "refused by Ray"

    @property
    def rank(self) -> int:
        """Place in the order of severity, from 0."""
        return _ORDER[self]


_ORDER: Final[Mapping[Reach, int]] = {reach: place for place, reach in enumerate(Reach)}


@dataclass(frozen=True, slots=True)
class Field:
    """What a change of one field does. ``why`` is a sentence for people.

    once: only adding it has ``reach``; another value, once one is set, is ignored until the deployment changes in
        something else. hashed: part of the application's code version, compared as JSON text.
    whole: what is inside is hashed as it is written: keys that Ray does not know count too.
    """

    reach: Reach
    why: str
    once: bool = False
    hashed: bool = False
    whole: bool = False


def _all(prefix: str, names: str, field: Field) -> dict[str, Field]:
    return {f"{prefix}{name}": field for name in names.split()}


DEFAULTS: Final[Mapping[str, object]] = {
    "proxy_location": "EveryNode",
    "http_options.host": "0.0.0.0",
    "http_options.port": 8000,
    "http_options.root_path": "",
    "http_options.request_timeout_s": None,
    "http_options.keep_alive_timeout_s": 90,
    "http_options.ssl_keyfile": None,
    "http_options.ssl_certfile": None,
    "http_options.ssl_keyfile_password": None,
    "http_options.ssl_ca_certs": None,
    "grpc_options.port": 9000,
    "grpc_options.grpc_servicer_functions": [],
    "grpc_options.request_timeout_s": None,
    "grpc_options.enable_reflection": True,
    "target_capacity": None,
    "logging_config": None,
    "tracing_config": None,
    "controller_options": None,
    "applications[].logging_config": None,
    "applications[].external_scaler_enabled": False,
    "applications[].autoscaling_policy": None,
    "applications[].args": {},
    "applications[].runtime_env": {},
    "applications[].deployments[].backpressure_config.status_code": 503,
    "applications[].deployments[].backpressure_config.retry_after_s": None,
    "applications[].deployments[].autoscaling_config.metrics_interval_s": 10,
    "applications[].deployments[].autoscaling_config.look_back_period_s": 30,
    "applications[].deployments[].gang_scheduling_config.gang_placement_strategy": "PACK",
    "applications[].deployments[].gang_scheduling_config.runtime_failure_policy": "RESTART_GANG",
}
"""What Ray's schema puts in the place of a field that is not set, where that is not left to the application's code."""


_AT_START: Final = Field(
    Reach.IGNORED, "Serve reads it when it starts and never again: it takes a new cluster (or a restart of Serve)."
)
_GLOBAL_LOGGING: Final = Field(
    Reach.RECONFIGURE, "The controller and the proxies take it, and replicas without a logging config of their own."
)
_APP_LOGGING: Final = Field(Reach.RECONFIGURE, "Replicas without a logging config of their own take it.")
_LOGGING: Final = Field(Reach.RECONFIGURE, "Replicas take the logging config.")
_TRACING: Final = Field(
    Reach.CONTROLLER, "Only replicas and proxies that start later take it; removing it changes nothing."
)
_HOSTED: Final = Field(Reach.REFUSED, "Ray refuses it in an application: it belongs to http_options.")
_CODE: Final = Field(
    Reach.REBUILD, "It is part of the application's code version, so all its deployments restart.", hashed=True
)
_ACTOR: Final = Field(Reach.RESTART, "A replica's actor options are fixed when it starts.")
_SCALING: Final = Field(Reach.CONTROLLER, "Only the controller's autoscaler goes by it.")
_DEPRECATED_FACTOR: Final = Field(Reach.CONTROLLER, "Only the controller's autoscaler goes by it; deprecated.")
_METRICS: Final = Field(Reach.RECONFIGURE, "Replicas go by it when they report their load.")
_POLICY: Final = Field(
    Reach.REBUILD,
    "A deployment's autoscaling policy is part of the application's code version, so all its deployments restart.",
    hashed=True,
    whole=True,
)
_BLOCK: Final = Field(
    Reach.REBUILD,
    "The code version counts the deployments with an autoscaling_config, so adding or removing one restarts all "
    "deployments of the application.",
    hashed=True,
)
_ROUTER: Final = Field(
    Reach.REBUILD,
    "The request router is part of the application's code version, so all its deployments restart.",
    hashed=True,
    whole=True,
)
_ACTORS: Final = Field(
    Reach.REBUILD,
    "Deployment actors are part of the application's code version, so all its deployments restart.",
    hashed=True,
    whole=True,
)
_GANG: Final = Field(
    Reach.RESTART, "Replicas are placed in gangs when they start; whole gangs are stopped at once, without draining."
)
_PLACED: Final = Field(
    Reach.RESTART, "It decides where replicas are placed. Ray overlooks another value once one is set.", once=True
)
_SHUTDOWN: Final = Field(Reach.REPLICA, "The controller goes by it for each replica.")
_BACKPRESSURE: Final = Field(Reach.RECONFIGURE, "Proxies and replicas take it.")

APPLICATION: Final = "applications[]."
DEPLOYMENT: Final = "applications[].deployments[]."

FIELDS: Final[Mapping[str, Field]] = {
    "proxy_location": _AT_START,
    **_all("", "http_options grpc_options controller_options", _AT_START),
    **_all(
        "http_options.",
        "host port root_path request_timeout_s keep_alive_timeout_s ssl_keyfile ssl_certfile ssl_keyfile_password "
        "ssl_ca_certs",
        _AT_START,
    ),
    **_all("grpc_options.", "port grpc_servicer_functions request_timeout_s enable_reflection", _AT_START),
    "controller_options.runtime_env": _AT_START,
    "logging_config": _GLOBAL_LOGGING,
    **_all(
        "logging_config.",
        "encoding log_level logs_dir enable_access_log additional_log_standard_attrs",
        _GLOBAL_LOGGING,
    ),
    "tracing_config": _TRACING,
    **_all("tracing_config.", "enabled exporter_import_path sampling_ratio", _TRACING),
    "target_capacity": Field(
        Reach.CONTROLLER, "The replica counts of all deployments become that percentage of what they would be."
    ),
    "applications": Field(Reach.NEW, "Applications are told apart by name; one that is not listed is deleted."),
    f"{APPLICATION}name": Field(Reach.NEW, "An application of another name is a new one; the old one is deleted."),
    f"{APPLICATION}route_prefix": Field(
        Reach.RECONFIGURE, "The ingress deployment takes it. Requests to the old route get 404 at once."
    ),
    **_all(APPLICATION, "import_path runtime_env args autoscaling_policy", _CODE),
    **_all(APPLICATION, "host port", _HOSTED),
    f"{APPLICATION}logging_config": _APP_LOGGING,
    **_all(
        f"{APPLICATION}logging_config.",
        "encoding log_level logs_dir enable_access_log additional_log_standard_attrs",
        _APP_LOGGING,
    ),
    f"{APPLICATION}external_scaler_enabled": Field(
        Reach.CONTROLLER, "The controller allows or forbids an external scaler to set replica counts."
    ),
    f"{APPLICATION}deployments": Field(
        Reach.NONE,
        "Deployments are told apart by name; their order counts only for policies, routers and actors.",
    ),
    f"{DEPLOYMENT}name": Field(
        Reach.NONE, "It says which deployment of the code the entry is about: it must be one that the code has."
    ),
    f"{DEPLOYMENT}num_replicas": Field(Reach.CONTROLLER, "The controller starts or stops replicas."),
    f"{DEPLOYMENT}max_ongoing_requests": Field(Reach.RECONFIGURE, "Replicas and those who send to them take it."),
    f"{DEPLOYMENT}max_queued_requests": Field(Reach.CONTROLLER, "Proxies and handles take it from the controller."),
    f"{DEPLOYMENT}backpressure_config": _BACKPRESSURE,
    **_all(f"{DEPLOYMENT}backpressure_config.", "status_code retry_after_s", _BACKPRESSURE),
    f"{DEPLOYMENT}user_config": Field(
        Reach.RECONFIGURE, "Each replica's own reconfigure() is called with it; removing it does not call it."
    ),
    f"{DEPLOYMENT}autoscaling_config": _BLOCK,
    **_all(
        f"{DEPLOYMENT}autoscaling_config.",
        "min_replicas initial_replicas max_replicas target_ongoing_requests upscaling_factor downscaling_factor "
        "downscale_delay_s downscale_to_zero_delay_s upscale_delay_s aggregation_function",
        _SCALING,
    ),
    **_all(
        f"{DEPLOYMENT}autoscaling_config.",
        "smoothing_factor upscale_smoothing_factor downscale_smoothing_factor",
        _DEPRECATED_FACTOR,
    ),
    **_all(f"{DEPLOYMENT}autoscaling_config.", "metrics_interval_s look_back_period_s", _METRICS),
    f"{DEPLOYMENT}autoscaling_config.policy": _POLICY,
    **_all(f"{DEPLOYMENT}autoscaling_config.policy.", "policy_function policy_kwargs", _POLICY),
    f"{DEPLOYMENT}graceful_shutdown_wait_loop_s": Field(Reach.RECONFIGURE, "Replicas go by it when they stop."),
    **_all(DEPLOYMENT, "graceful_shutdown_timeout_s health_check_period_s health_check_timeout_s", _SHUTDOWN),
    f"{DEPLOYMENT}ray_actor_options": _ACTOR,
    **_all(
        f"{DEPLOYMENT}ray_actor_options.",
        "runtime_env num_cpus num_gpus memory resources accelerator_type label_selector fallback_strategy",
        _ACTOR,
    ),
    **_all(
        DEPLOYMENT,
        "placement_group_bundles placement_group_strategy placement_group_bundle_label_selector max_replicas_per_node",
        _PLACED,
    ),
    f"{DEPLOYMENT}logging_config": _LOGGING,
    **_all(
        f"{DEPLOYMENT}logging_config.",
        "encoding log_level logs_dir enable_access_log additional_log_standard_attrs",
        _LOGGING,
    ),
    f"{DEPLOYMENT}request_router_config": _ROUTER,
    **_all(
        f"{DEPLOYMENT}request_router_config.",
        "request_router_class request_router_kwargs request_routing_stats_period_s request_routing_stats_timeout_s "
        "initial_backoff_s backoff_multiplier max_backoff_s",
        _ROUTER,
    ),
    f"{DEPLOYMENT}gang_scheduling_config": _GANG,
    **_all(f"{DEPLOYMENT}gang_scheduling_config.", "gang_size gang_placement_strategy runtime_failure_policy", _GANG),
    f"{DEPLOYMENT}deployment_actors": _ACTORS,
    **_all(f"{DEPLOYMENT}deployment_actors[].", "name actor_class init_args init_kwargs actor_options", _ACTORS),
    f"{DEPLOYMENT}rolling_update_percentage": Field(Reach.CONTROLLER, "It is the pace of the next restart."),
    f"{DEPLOYMENT}max_surge_percent": Field(Reach.CONTROLLER, "It is the room of the next restart."),
}
"""Path of each field in Ray 2.60's ``ServeDeploySchema`` to what its change does; ``[]`` is an entry of a list."""


def subtree(prefix: str) -> bool:
    """Whether the field of that path is a mapping with fields of its own in the table."""
    return prefix in _SECTIONS


_SECTIONS: Final = frozenset(path.rpartition(".")[0] for path in FIELDS if "." in path)
