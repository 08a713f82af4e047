"""Who has which share while two clusters serve side by side, and how it moves. Percent, as Ray and KubeRay count.

One step at a time: the capacity of the coming cluster goes up while both together have room for it, requests follow
it, then the leaving one's capacity goes down, and so on (facts: KubeRay 3.5). Going back is the same the other way.
What is commanded is stored in ``activeServiceStatus`` and ``pendingServiceStatus`` (KubeRay's fields) before it is
done.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service.context import ACTIVE, PENDING, Context

WHOLE: Final = 100


@dataclass(frozen=True, slots=True)
class Shares:
    """Serve's ``target_capacity`` of both clusters, and the pending one's share of the requests; the rest is the
    active one's."""

    active_capacity: int
    pending_capacity: int
    pending_traffic: int

    def mirrored(self) -> Shares:
        """The same seen from the other side."""
        return Shares(self.pending_capacity, self.active_capacity, WHOLE - self.pending_traffic)


@dataclass(frozen=True, slots=True)
class Pace:
    """``clusterUpgradeOptions``: percent of capacity and of traffic moved at a time, seconds from one move of traffic
    to the next."""

    surge: int = WHOLE
    step: int = WHOLE
    interval_s: int = 0


AT_ONCE: Final = Pace()


class Move(enum.StrEnum):
    """What the next step does to the coming and the leaving cluster."""

    RAISE = "RaisingCapacity"
    TRAFFIC = "MovingTraffic"
    LOWER = "LoweringCapacity"
    DONE = "Done"


def pace_of(service: Manifest) -> Pace:
    """The pace asked for; all at once where it is not (any more)."""
    options = (service["spec"].get("upgradeStrategy") or {}).get("clusterUpgradeOptions") or {}
    surge = options.get("maxSurgePercent")
    return Pace(
        surge=WHOLE if surge is None else max(1, surge),
        step=max(1, options.get("stepSizePercent") or WHOLE),
        interval_s=options.get("intervalSeconds") or 0,
    )


def beginning(pace: Pace) -> Shares:
    """Before the first request goes to the pending cluster: it comes up at the size of the first step."""
    return Shares(WHOLE, min(WHOLE, pace.surge), 0)


def forward(now: Shares, pace: Pace) -> tuple[Move, Shares]:
    """The next step towards the pending cluster, given that the present one has been reached."""
    if now.pending_traffic < now.pending_capacity:
        traffic = min(now.pending_traffic + pace.step, now.pending_capacity)
        return Move.TRAFFIC, Shares(now.active_capacity, now.pending_capacity, traffic)
    if now.pending_traffic >= WHOLE:
        return Move.DONE, now
    if now.active_capacity + now.pending_capacity <= WHOLE:
        capacity = min(WHOLE, now.pending_capacity + pace.surge)
        return Move.RAISE, Shares(now.active_capacity, capacity, now.pending_traffic)
    # Not below the requests that it has: there are more of them than usual after a turn halfway.
    capacity = max(WHOLE - now.pending_traffic, now.active_capacity - pace.surge)
    return Move.LOWER, Shares(capacity, now.pending_capacity, now.pending_traffic)


def backward(now: Shares, pace: Pace) -> tuple[Move, Shares]:
    """The next step towards the active cluster."""
    move, shares = forward(now.mirrored(), pace)
    return move, shares.mirrored()


def stored(context: Context) -> Shares | None:
    """The shares commanded last; None while one cluster has everything."""
    active, pending = context.stored.get(ACTIVE) or {}, context.stored.get(PENDING) or {}
    match active.get("targetCapacity"), pending.get("targetCapacity"), pending.get("trafficRoutedPercent"):
        case int(active_capacity), int(pending_capacity), int(traffic):
            return Shares(active_capacity, pending_capacity, traffic)
        case _:
            return None


def moved_at(context: Context) -> float | None:
    """When requests were moved last, in epoch seconds; None while none were."""
    return from_rfc3339((context.stored.get(PENDING) or {}).get("lastTrafficMigratedTime"))


def told(context: Context, shares: Shares) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the entries of the active and the pending cluster say of them."""
    before = stored(context)
    at = moved_at(context)
    moved = before is not None and before.pending_traffic != shares.pending_traffic
    time = to_rfc3339(context.now) if moved or at is None else to_rfc3339(at)
    when: Mapping[str, Any] = {"lastTrafficMigratedTime": time} if moved or at is not None else {}
    return (
        {"targetCapacity": shares.active_capacity, "trafficRoutedPercent": WHOLE - shares.pending_traffic, **when},
        {"targetCapacity": shares.pending_capacity, "trafficRoutedPercent": shares.pending_traffic, **when},
    )
