"""NewClusterWithIncrementalUpgrade: capacity and requests move to a second cluster in steps (``service.shares``).

With a gateway by the weights of an HTTPRoute, without one by the share of ready endpoints behind the serve service
(``service.traffic``). Each step waits until the one before it has come true and nothing holds it back. What fails, or
is not wanted any more, goes back the same way; a new cluster that does not serve loses its requests at once.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from rayservice_operator.core.decision import Note
from rayservice_operator.service import gates, hashing, routes, shares, traffic, verbs
from rayservice_operator.service.apps import Phase, standing
from rayservice_operator.service.context import ClusterView, Config, Context, Target, known_config
from rayservice_operator.service.endpoints import able_pods
from rayservice_operator.service.shares import WHOLE, Move, Shares
from rayservice_operator.service.strategies.base import Plan, first_cluster, keep, never_served, second_cluster

NAME: Final = "NewClusterWithIncrementalUpgrade"


_ANSWERING: Final = frozenset({Phase.SERVING, Phase.PUSHING, Phase.DEPLOYING})
"""Phases in which a cluster that has requests answers them, be it that its capacity is being changed."""


def going_on(context: Context) -> bool:
    """Whether shares are being moved: such an upgrade ends the way it began, whatever the strategy is meanwhile."""
    return shares.stored(context) is not None and context.active is not None


def plan(context: Context, target: Target) -> Plan:
    """Roles and shares for the present spec."""
    active, pending = context.active, context.pending
    if active is None:
        return first_cluster(context, target)
    now = shares.stored(context)
    back = target.given_up or hashing.matches(active.manifest, target.cluster_spec)
    fits = pending is not None and hashing.matches(pending.manifest, target.cluster_spec)
    if now is not None and pending is not None:
        move = _towards if fits and not back else _back
        return move(context, target, active, pending, now)
    if hashing.matches(active.manifest, target.cluster_spec):
        return keep(target, active, pending)
    if target.given_up:
        return Plan(active.name, "", superseded=never_served(pending), given_up=True)
    pace = shares.pace_of(context.service)
    begun = Plan(active.name, context.pending_name) if fits else second_cluster(context, target, active, _announced)
    return dataclasses.replace(begun, shares=now or shares.beginning(pace)) if begun.pending else begun


def _announced(old: str, new: str, needs: str) -> str:
    return (
        f"RayCluster {new} comes up beside {old} and takes over capacity and requests in steps. At its largest it "
        f"needs {needs} beside what {old} has then."
    )


def _towards(context: Context, target: Target, active: ClusterView, pending: ClusterView, now: Shares) -> Plan:
    here = Plan(active.name, pending.name, shares=now)
    if not _serves(context, pending, target.config, now.pending_capacity) or not able_pods(pending, target):
        return here
    if not _follows(active, now.active_capacity) or not traffic.arrived(context, target, now):
        return here
    if not routes.reaches(context, pending):
        return here
    if held := gates.hold(context, pending):
        return dataclasses.replace(here, hold=held)
    asked = verbs.promotion_asked(context.service, pending.name)
    pace = shares.AT_ONCE if asked else shares.pace_of(context.service)
    move, after = shares.forward(now, pace)
    if move is Move.DONE:
        note = Note("Promoted", f"RayCluster {pending.name} is active now, {active.name} before it.")
        return Plan(pending.name, "", notes=(note,))
    return _moved(context, here, move, after, pace.interval_s)


def _back(context: Context, target: Target, active: ClusterView, pending: ClusterView, now: Shares) -> Plan:
    here = Plan(active.name, pending.name, shares=now, back=True)
    if now.pending_traffic == 0 and now.active_capacity == WHOLE:
        if not traffic.arrived(context, target, now):
            return here
        note = Note("WentBack", f"RayCluster {active.name} has all requests again; {pending.name} goes.")
        # One that had requests stays for a while like a former active one: they may still be on their way.
        superseded = never_served(pending) if shares.moved_at(context) is None else ()
        return Plan(active.name, "", superseded=superseded, notes=(note,), given_up=target.given_up)
    own, former = (known_config(context.snapshot.revisions, view.applied_hash) for view in (pending, active))
    if _phase(context, pending, own, now.pending_capacity) not in _ANSWERING:
        return _moved(context, here, Move.TRAFFIC, Shares(WHOLE, now.pending_capacity, 0), 0)
    # What takes the requests back has to have the capacity for them.
    if not _serves(context, active, former, now.active_capacity) or not traffic.arrived(context, target, now):
        return here
    pace = shares.pace_of(context.service)
    move, after = shares.backward(now, pace)
    if move is Move.DONE:  # all requests are here again, and so shall the capacity be
        after = dataclasses.replace(now, active_capacity=WHOLE, pending_traffic=0)
    return _moved(context, here, move, after, pace.interval_s)


def _moved(context: Context, here: Plan, move: Move, after: Shares, interval_s: int) -> Plan:
    """``here`` after the step, or waiting for its time: only requests have a pace in seconds."""
    due = (shares.moved_at(context) or 0.0) + interval_s
    if move is Move.TRAFFIC and context.now < due:
        return dataclasses.replace(here, wake_at=due)
    reason = "MovedTraffic" if move is Move.TRAFFIC else "UpdatedServeTargetCapacity"
    return dataclasses.replace(here, shares=after, notes=(Note(reason, describe(here.active, here.pending, after)),))


def describe(active: str, pending: str, now: Shares) -> str:
    """The shares in words."""
    return (
        f"RayCluster {pending}: {now.pending_traffic} % of the requests, {now.pending_capacity} % capacity; "
        f"{active}: {WHOLE - now.pending_traffic} % and {now.active_capacity} %."
    )


def _serves(context: Context, view: ClusterView, config: Config | None, capacity: int) -> bool:
    return _phase(context, view, config, capacity) is Phase.SERVING


def _phase(context: Context, view: ClusterView, config: Config | None, capacity: int) -> Phase:
    return standing(view, config, context.now, context.config.stale_after_s, capacity).phase


def _follows(active: ClusterView, capacity: int) -> bool:
    """Whether the active cluster has been brought to its capacity; one that cannot say so holds nothing up."""
    observation = active.observation
    if observation is None or observation.error is not None or observation.seen_at is None:
        return True
    return observation.push_seen and observation.target_capacity == capacity
