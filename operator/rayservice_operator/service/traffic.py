"""Which pods the requests of a split go to, where no gateway has weights: a share of the endpoints for each cluster.

Every endpoint gets as many new connections as any other, so k of n endpoints are k/n of the requests. A proxy hands
requests to any replica of its cluster, so leaving endpoints out takes no capacity away. What the endpoints do not
allow exactly is rounded down: the new cluster never gets more than its share.
"""

from __future__ import annotations

from rayservice_operator.core.objects import Manifest, is_terminating, name_of, uid_of
from rayservice_operator.service import routes
from rayservice_operator.service.apps import fresh, gets_requests, is_ready
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.endpoints import able_pods, endpoint_pods, kept_out
from rayservice_operator.service.shares import WHOLE, Shares


def split(old: int, new: int, share: int) -> tuple[int, int]:
    """How many of ``old`` and ``new`` endpoints take requests so that the new ones have at most ``share`` percent.

    As much of the share as can be had, with as many endpoints as can be had. All of one side where the other has none,
    but none of the new side for no share.
    """
    if share <= 0:
        return old, 0
    if share >= WHOLE or old == 0:
        return (0, new) if new else (old, 0)
    best, found = (0.0, old), (old, 0)
    for some in range(1, new + 1):
        rest = -(-some * (WHOLE - share) // share)  # rounded up
        if rest > old:
            break
        # More of the old ones only make the share smaller.
        rank = (some / (some + rest), some + rest)
        if rank > best:
            best, found = rank, (rest, some)
    return found


def chosen(context: Context, target: Target, shares: Shares) -> dict[str, set[str]]:
    """By cluster, the UIDs of the pods that requests shall go to."""
    able = {view.name: _able(context, target, view) for view in (context.active, context.pending) if view is not None}
    old, new = able.get(context.active_name, []), able.get(context.pending_name, [])
    some_old, some_new = split(len(old), len(new), shares.pending_traffic)
    return {
        context.active_name: {uid_of(pod) for pod in old[:some_old]},
        context.pending_name: {uid_of(pod) for pod in new[:some_new]},
    }


def arrived(context: Context, target: Target, shares: Shares) -> bool:
    """Whether the cluster's network has followed: the gateway's weights, or the endpoints of the serve service."""
    if routes.gateway_class(context.service):
        return routes.arrived(context, shares)
    wanted = chosen(context, target, shares)
    return all(endpoint_pods(context, cluster) == pods for cluster, pods in wanted.items())


def _able(context: Context, target: Target, view: ClusterView) -> list[Manifest]:
    """Ready pods whose proxy answers; those in use already first, so that a choice stays what it was.

    While nobody can tell what the proxies answer, those in use.
    """
    observation = view.observation
    known = observation is not None and observation.error is None
    if known and fresh(observation, context.now, context.config.stale_after_s):
        able = able_pods(view, target)
    else:
        in_use = (pod for pod in view.pods if gets_requests(pod) and is_ready(pod) and not is_terminating(pod))
        able = [pod for pod in in_use if not kept_out(pod, target)]
    return sorted(able, key=lambda pod: (not gets_requests(pod), name_of(pod)))
