"""What a strategy decides: which clusters play which role next. Carrying it out is common to all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from rayservice_operator.api import names
from rayservice_operator.core.decision import Note
from rayservice_operator.core.objects import uid_of
from rayservice_operator.service import gates, hashing
from rayservice_operator.service.apps import Phase, standing
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.endpoints import able_pods, all_healthy_proxies_routed, endpoint_pods
from rayservice_operator.service.gates import Hold
from rayservice_operator.service.roll import Rolling
from rayservice_operator.service.shares import Shares
from rayservice_operator.service.strategies.needs import Needs, of_second_cluster


@dataclass(frozen=True, slots=True)
class Plan:
    """Roles as they shall be.

    active, pending: names of RayClusters, empty for none. A pending name may not exist yet: it is stored in the
        status first and built then, so that a restart in between builds that very cluster.
    superseded: clusters that go at once: they never served, or the strategy lets them go first.
    replaces: the cluster that went, or goes, before the pending one is built; the service is down meanwhile.
    held_back: what a frozen spec keeps from being applied, for a condition.
    waiting: why the next cluster is not begun yet, for ``status.upgrade.message``.
    shares: of capacity and requests while both clusters serve; None where one has everything.
    back: the pending cluster is on its way out again, step by step.
    wake_at: epoch seconds at which the next step is due.
    hold: what holds the upgrade back, before its cluster is begun (no pending then) or once that is proven.
    given_up: whether the upgrade to the present spec was aborted: the active cluster keeps its own.
    roll: pods of the active cluster are being replaced inside it (no pending then).
    refused: why the strategy cannot apply the present spec, and what to do: the active cluster keeps its own.
    begins: what an upgrade that begins with this very plan needs beside what runs: it is looked first for the room.
    """

    active: str
    pending: str
    superseded: tuple[ClusterView, ...] = ()
    notes: tuple[Note, ...] = ()
    held_back: str = ""
    waiting: str = ""
    replaces: str = ""
    shares: Shares | None = None
    back: bool = False
    wake_at: float | None = None
    hold: Hold | None = None
    given_up: bool = False
    roll: Rolling | None = None
    refused: str = ""
    begins: Needs | None = None

    @property
    def to_come(self) -> str:
        """Why an upgrade of the active cluster has not begun though it shall; empty where none is to come.

        Until then that cluster keeps its serve config as well: the new one may need the new image.
        """
        if not self.active or self.pending or self.roll:
            return ""
        return self.hold.message if self.hold else self.waiting


LOST_IN_A_ROW: Final = 16
SLOTS: Final = 4
"""How far :func:`planned_for` follows names; beyond, another name is chosen, which is no harm but a delay."""

Strategy: TypeAlias = Callable[[Context, Target], Plan]


def new_name(context: Context, target: Target) -> str:
    """A name for the next RayCluster: the same answer to the same question, never one that is taken.

    Nor that of a cluster that somebody deleted, in this generation or an earlier one: its pods may still run, and
    would be behind the new head service. So the name follows from that of the cluster before it.
    """
    previous = context.pending_name if context.pending_lost else context.active_name
    return next(name for name in _candidates(context, target, previous) if name not in context.clusters)


def _candidates(context: Context, target: Target, previous: str) -> Iterator[str]:
    """Names for a cluster of this spec after ``previous``, best first, without end."""
    seed = (uid_of(context.service), str(context.generation), hashing.cluster_hash(target.cluster_spec), previous)
    return (f"{context.name}-{names.short_hash(*seed, str(slot))}" for slot in itertools.count())


def planned_for(context: Context, target: Target) -> bool:
    """Whether the pending cluster that the status names, and that is not built yet, was named for this very spec.

    Its name follows from that of the cluster before it: the active one, or one that was pending and got lost, whose
    name is not known any more, but follows from the one before that.
    """
    if not context.pending_unbuilt:
        return False
    previous = context.active_name
    for _ in range(LOST_IN_A_ROW):
        possible = list(itertools.islice(_candidates(context, target, previous), SLOTS))
        if context.pending_name in possible:
            return True
        previous = possible[0]
    return False


def proven(context: Context, view: ClusterView, target: Target) -> bool:
    """Whether requests may be sent to this cluster: config applied, applications running, endpoints behind it."""
    stands = standing(view, target.config, context.now, context.config.stale_after_s)
    able = bool(able_pods(view, target))
    return stands.phase is Phase.SERVING and able and all_healthy_proxies_routed(view, target)


def never_served(pending: ClusterView | None) -> tuple[ClusterView, ...]:
    """The pending cluster, to go at once when it is superseded, unless it was active before.

    A former active cluster that was taken back keeps its deadline until it is active again: clients may still
    have connections to it.
    """
    return () if pending is None or pending.delete_after else (pending,)


def first_cluster(context: Context, target: Target) -> Plan:
    """The way to the first active cluster, common to all strategies."""
    pending = context.pending
    if pending is None:
        adopted = _adoptable(context, target)
        if context.pending_unbuilt and adopted is None:
            return Plan("", context.pending_name)  # named in the status, to be built now
        return Plan("", adopted.name if adopted else new_name(context, target))
    if not hashing.matches(pending.manifest, target.cluster_spec):
        return Plan("", new_name(context, target), superseded=never_served(pending))
    # The services point to the first cluster from the start: it is active when requests get through to it.
    if proven(context, pending, target) and endpoint_pods(context, pending.name):
        return Plan(pending.name, "", notes=(Note("Promoted", f"RayCluster {pending.name} serves and is now active."),))
    return Plan("", pending.name)


def _adoptable(context: Context, target: Target) -> ClusterView | None:
    """A live cluster of the right spec that no role refers to, say after a lost status."""
    fitting = [
        view for view in context.clusters.values() if view.live and hashing.matches(view.manifest, target.cluster_spec)
    ]
    return min(fitting, key=lambda view: view.name, default=None)


def second_cluster(
    context: Context, target: Target, active: ClusterView, announce: Callable[[str, str, str], str]
) -> Plan:
    """The way to a pending cluster beside the active one, which does not fit the spec; nor does the pending one.

    Never more than two live clusters: a former one that is still waiting for its deletion is taken back when
    the spec returns to it, and a third spec waits until it has gone.
    announce: from the names of both and what the new one needs to the words of the event.
    """
    pending = context.pending
    superseded = never_served(pending)
    if held := gates.paused(context):
        return Plan(active.name, "", superseded=superseded, hold=held)
    if planned_for(context, target):
        return Plan(active.name, context.pending_name)  # named in the status, to be built now
    going = {active.name, *(view.name for view in superseded)}
    retiring = [view for view in context.clusters.values() if view.live and view.name not in going]
    # Taken back only once its deadline is written on it, so that it is still known when a third spec comes.
    former = next((v for v in retiring if v.delete_after and hashing.matches(v.manifest, target.cluster_spec)), None)
    if former is not None:
        note = Note(
            "Readopted", f"RayCluster {former.name} fits the spec and is taken back instead of building a new one."
        )
        return Plan(active.name, former.name, superseded=superseded, notes=(note,))
    if retiring:
        waiting = ", ".join(view.name for view in retiring)
        return Plan(
            active.name,
            "",
            superseded=superseded,
            waiting=f"Waiting for the former cluster {waiting} to go before another one is built.",
        )
    name = new_name(context, target)
    needs = of_second_cluster(context, target)
    announced = Note("UpgradeStarted", announce(active.name, name, str(needs)))
    return Plan(active.name, name, superseded=superseded, notes=(announced,), begins=needs)


def keep(target: Target, active: ClusterView, pending: ClusterView | None) -> Plan:
    """The active cluster fits; one that was coming up beside it is not wanted any more."""
    if pending is None:
        return Plan(active.name, "", given_up=target.given_up)
    note = Note(
        "UpgradeCancelled", f"The spec is that of the active RayCluster {active.name} again; {pending.name} is deleted."
    )
    return Plan(active.name, "", superseded=never_served(pending), notes=(note,), given_up=target.given_up)
