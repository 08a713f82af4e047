"""Whether Ray Serve still has what was declared: applications gone, or deployed from another config.

Ray 2.60 echoes in ``deployed_app_config`` what was PUT, measured on a live head: fields that were not set stay
absent; numbers come back in the field's type (``5`` as ``5.0``, ``"20"`` as ``20.0``, ``7.0`` as ``7``); keys that
its schema lacks are dropped from applications, deployments and ``ray_actor_options``, but kept inside
``autoscaling_config``; ``user_config`` and ``args`` come back unchanged; an application without a name is listed
as ``default`` and its echo has no name. So only keys that are declared are compared, by meaning. A false alarm
would deploy the same config for ever; a missed one is mended by the next edit. Replica counts of an application with an
external scaler are the scaler's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.serveconfig.canonical import ServeConfig
from rayservice_operator.serveconfig.scaling import without_targets

_VERBATIM: Final = frozenset({"user_config", "args"})
"""The user's own data: Ray hands them through, so every key of them counts."""

_ECHOED: Final = frozenset(
    {"name", "import_path", "route_prefix", "args", "deployments", "user_config", "num_replicas"}
)
"""Keys that every Ray version with this API echoes when set: their absence is a difference. The absence of any
other key may just mean that this Ray version does not know it."""

CASELESS: Final = frozenset({"aggregation_function", "encoding", "log_level", "placement_group_strategy"})
"""Enumerations that Ray takes in any case and may write in its own."""

_REDACTED: Final = "<redacted>"
"""What the dashboard puts in place of environment variables (``RAY_DASHBOARD_REDACT_RUNTIME_ENV``)."""


def missing_apps(config: ServeConfig, observation: ServeObservation) -> tuple[str, ...]:
    """Declared applications that Serve does not have or is deleting, in the order of the file.

    ``observation`` must be of a Serve instance that was seen (``seen_at`` set); otherwise nothing is known and
    nothing is missing.
    """
    if observation.seen_at is None:
        return ()
    present = {name for name, app in observation.applications.items() if app.status != "DELETING"}
    return tuple(name for name in config.app_names if name not in present)


def drifted_apps(config: ServeConfig, observation: ServeObservation) -> tuple[str, ...]:
    """Declared applications that are there but deployed from another config (or from code, without one)."""
    if observation.seen_at is None:
        return ()
    missing = set(missing_apps(config, observation))
    return tuple(
        name
        for name, declared in config.applications()
        if name not in missing and not _same_app(declared, observation.applications[name].config)
    )


def _same_app(declared: Mapping[str, Any], echoed: Mapping[str, Any]) -> bool:
    if not echoed:
        return False
    # The name was the key of the look-up; an echo of an unnamed application has none.
    plain = without_targets(declared)
    return _same_mapping({key: value for key, value in plain.items() if key != "name"}, echoed)


def _same_mapping(declared: Mapping[str, Any], echoed: Mapping[str, Any]) -> bool:
    return all(_same_entry(key, value, echoed) for key, value in declared.items())


def _same_entry(key: str, declared: Any, echoed: Mapping[str, Any]) -> bool:
    if key not in echoed:
        return declared is None or key not in _ECHOED or declared in ({}, [])
    other = echoed[key]
    if key in _VERBATIM:
        return _equal(declared, other)
    if key == "deployments" and _are_named(declared) and _are_named(other):
        return _same_deployments(declared, other)
    if key in CASELESS and isinstance(declared, str) and isinstance(other, str):
        return declared.casefold() == other.casefold()
    return _same_value(declared, other)


def _same_deployments(declared: Sequence[Mapping[str, Any]], echoed: Sequence[Mapping[str, Any]]) -> bool:
    """By name: the order alone changes nothing that runs."""
    by_name = {deployment["name"]: deployment for deployment in echoed}
    return all(
        deployment["name"] in by_name and _same_mapping(deployment, by_name[deployment["name"]])
        for deployment in declared
    )


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in value
    )


def _same_value(declared: Any, echoed: Any) -> bool:
    if isinstance(declared, Mapping) and isinstance(echoed, Mapping):
        return _same_mapping(declared, echoed)
    if isinstance(declared, list) and isinstance(echoed, list):
        return len(declared) == len(echoed) and all(map(_same_value, declared, echoed))
    return echoed == _REDACTED or same_scalar(declared, echoed)


def same_scalar(declared: Any, echoed: Any) -> bool:
    """Equal, or equal once Ray's model turned it into the field's type (text to number and number to text)."""
    if _equal(declared, echoed):
        return True
    if isinstance(declared, Mapping | list) or isinstance(echoed, Mapping | list):
        return False
    left, right = _as_number(declared), _as_number(echoed)
    return left is not None and left == right


def _equal(left: Any, right: Any) -> bool:
    """JSON equality: True is not 1, but 1 is 1.0."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


_WORDS: Final[Mapping[str, float]] = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "on": 1.0, "off": 0.0}


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        return float(value)
    except ValueError:
        return _WORDS.get(value.casefold())
