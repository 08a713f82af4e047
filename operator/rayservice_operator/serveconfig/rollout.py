"""How many replicas a change touches, stops and starts, by the rules of Ray's rolling update.

Ray 2.60 ``DeploymentState._rollout_size``, ``_surge_replicas_to_start``, ``get_capacity_adjusted_num_replicas``.
Numbers that only the application's code knows count as Ray's defaults, or are None where there is no telling.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.serveconfig.fields import Reach

DEFAULT_PACE: Final = 0.2
"""``rolling_update_percentage`` where it is not set."""

AUTO_MAX_REPLICAS: Final = 100
"""``max_replicas`` of ``num_replicas: auto``."""


class Requests(enum.StrEnum):
    """What becomes of requests meanwhile, the mildest first."""

    SERVED = "served"
    WAIT = "wait"
    FAIL = "fail"

    @property
    def rank(self) -> int:
        """Place in the order of severity, from 0."""
        return list(Requests).index(self)


@dataclass(frozen=True, slots=True)
class Replicas:
    """Of one deployment. None: only the application's code knows.

    before, after: its target. touched: replicas that are replaced, reconfigured, started or stopped.
    away: how many of them are missing at a time. extra: started beyond those that run now, at most.
    gpus: of one replica.
    """

    before: int | None = None
    after: int | None = None
    touched: int | None = 0
    away: int = 0
    extra: int = 0
    gpus: float | None = None

    @property
    def extra_gpus(self) -> float:
        """GPUs of the extra replicas, as far as the config tells."""
        return self.extra * (self.gpus or 0)

    @property
    def touched_gpus(self) -> float:
        """GPUs of the touched replicas, as far as the config tells."""
        return (self.touched or 0) * (self.gpus or 0)


NO_REPLICAS: Final = Replicas()

Declaration = Mapping[str, Any]
"""An entry of ``deployments``; empty for a deployment that only the code and the status name."""


def of_new(declared: Declaration, capacity: float | None) -> Replicas:
    """A deployment that comes with its application. An autoscaler may raise it further: ``extra`` is the most."""
    most = declared_target(declared, None, capacity)
    scaling = declared.get("autoscaling_config")
    start = most
    if isinstance(scaling, Mapping) or declared.get("num_replicas") == "auto":
        bounds = scaling if isinstance(scaling, Mapping) else {}
        start = _adjusted(_number(bounds.get("initial_replicas"), _number(bounds.get("min_replicas"), 1)), capacity)
    return Replicas(0, start, start, 0, most or 0, gpus_of(declared))


def of_deleted(declared: Declaration, seen: int | None, capacity: float | None) -> Replicas:
    """A deployment that goes with its application."""
    target = seen if seen is not None else declared_target(declared, None, capacity)
    return Replicas(target, 0, target, 0, 0, gpus_of(declared))


def of_changed(
    reach: Reach,
    before: Declaration,
    after: Declaration,
    seen: int | None,
    capacities: tuple[float | None, float | None] = (None, None),
) -> Replicas:
    """What a change of that ``reach`` means for a deployment whose target is now ``seen``, if that is known.

    capacities: ``target_capacity`` before and after, in percent.
    """
    old = seen if seen is not None else declared_target(before, None, capacities[0])
    same_count = capacities[0] == capacities[1] and all(before.get(key) == after.get(key) for key in _COUNTS)
    new = old if same_count else declared_target(after, seen, capacities[1])
    gpus = gpus_of(after)
    if old is None or new is None:
        return Replicas(old, new, None if reach.rank >= Reach.REPLICA.rank else 0, gpus=gpus)
    more, fewer = max(0, new - old), max(0, old - new)
    if reach in (Reach.RESTART, Reach.REBUILD):
        away, surge = pace(after, new)
        return Replicas(old, new, max(old, new), min(away, old), max(0, new + surge - old), gpus)
    if reach is Reach.RECONFIGURE:
        return Replicas(old, new, max(old, new), batch(after, min(old, new)), more, gpus)
    touched = max(old, new) if reach is Reach.REPLICA else max(more, fewer)
    return Replicas(old, new, touched, 0, more, gpus)


_COUNTS: Final = ("num_replicas", "autoscaling_config")


def declared_target(declared: Declaration, seen: int | None, capacity: float | None) -> int | None:
    """The number of replicas that a declaration asks for: at most, where an autoscaler chooses and nothing is seen."""
    number, scaling = declared.get("num_replicas"), declared.get("autoscaling_config")
    if isinstance(scaling, Mapping) or number == "auto":
        bounds = scaling if isinstance(scaling, Mapping) else {}
        lowest = _number(bounds.get("min_replicas"), 1)
        highest = _number(bounds.get("max_replicas"), AUTO_MAX_REPLICAS if number == "auto" else 1)
        return _adjusted(
            highest if seen is None else min(max(seen, lowest), highest), capacity if seen is None else None
        )
    if isinstance(number, int) and not isinstance(number, bool):
        return _adjusted(number, capacity)
    return seen


def _number(value: Any, default: int) -> int:
    number = _as_number(value)
    return default if number is None else int(number)


def _adjusted(number: int, capacity: float | None) -> int:
    """Rounded half up, and never to none unless that is what is asked for."""
    if capacity is None or capacity == 100 or number == 0:
        return number
    return max(1, math.floor(number * capacity / 100 + 0.5)) if capacity else 0


def batch(declared: Declaration, target: int) -> int:
    """How many replicas Ray updates at a time."""
    share = _as_number(declared.get("rolling_update_percentage"))
    size = int((DEFAULT_PACE if share is None else share) * target)
    return min(_gangs(declared, max(size, 1)), target)


def pace(declared: Declaration, target: int) -> tuple[int, int]:
    """Of a rolling restart: how many replicas are away at a time, and how many there are beyond the target."""
    surge = _as_number(declared.get("max_surge_percent")) or 0.0
    if surge > 0 and target:
        return 0, min(_gangs(declared, math.ceil(surge * target / 100)), _gangs(declared, target))
    return batch(declared, target), 0


def gang_size(declared: Declaration) -> int:
    """Replicas that start and stop together; 1 without gangs."""
    config = declared.get("gang_scheduling_config")
    size = config.get("gang_size") if isinstance(config, Mapping) else None
    return size if isinstance(size, int) and size > 0 else 1


def _gangs(declared: Declaration, number: int) -> int:
    size = gang_size(declared)
    return math.ceil(max(number, size) / size) * size


def gpus_of(declared: Declaration) -> float | None:
    """GPUs of one replica, as far as the config tells: of its placement group, else of its actor."""
    bundles = declared.get("placement_group_bundles")
    if isinstance(bundles, list):
        return sum(_as_number(bundle.get("GPU")) or 0.0 for bundle in bundles if isinstance(bundle, Mapping))
    options = declared.get("ray_actor_options")
    if not isinstance(options, Mapping):
        return None
    return _as_number(options.get("num_gpus")) or 0.0


def _as_number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
