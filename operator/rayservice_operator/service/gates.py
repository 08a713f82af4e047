"""What may hold back a candidate that is proven: an ordered chain of small pure gates, the first that holds speaks.

Asked before each step that takes requests to the candidate, by every strategy that has one. Whether it is able to
serve at all (``strategies.base.proven``) is no gate: nobody can pass that over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ServiceReason as Reason
from rayservice_operator.service import analysis, verbs
from rayservice_operator.service.context import ClusterView, Context
from rayservice_operator.service.upgrade_phases import UpgradePhase


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an upgrade does not go on: ``reason`` of UpgradeInProgress, ``message`` with what ends it.

    phase: of ``status.upgrade``.
    """

    reason: Reason
    message: str
    phase: UpgradePhase = UpgradePhase.PAUSED


Gate = Callable[[Context, ClusterView], Hold | None]


def paused(context: Context) -> Hold | None:
    """A paused upgrade; also asked before an upgrade is begun."""
    if verbs.paused(context.service):
        return PAUSED
    suspended = context.target is not None and context.target.cluster_spec.get("suspend")
    return SUSPENDED if suspended else None


PAUSED: Final = Hold(
    Reason.UPGRADE_PAUSED,
    f"Paused. Take upgradeStrategy.paused and the annotation {names.PAUSE} away to go on.",
)
SUSPENDED: Final = Hold(
    Reason.RAY_CLUSTER_SUSPENDED, "rayClusterConfig.suspend is true: nothing is begun until it is false again."
)


def _paused(context: Context, candidate: ClusterView) -> Hold | None:
    held = paused(context)
    if held is None:
        return None
    return Hold(held.reason, f"{held.message} Or set {names.PROMOTE} to {candidate.name} to let it take over now.")


def _analysed(context: Context, candidate: ClusterView) -> Hold | None:
    """``upgradeStrategy.analysis``: nothing but a pass that is stored lets the candidate go on."""
    target = context.target
    if target is None or analysis.passed(context, target, candidate):
        return None
    so_far = analysis.verdict(context, target, candidate)
    message = so_far or f"RayCluster {candidate.name} is analysed before it takes over; see status.upgrade.analysis."
    besides = f"Set {names.PROMOTE} to {candidate.name} to let it take over now."
    return Hold(Reason.ANALYZING, f"{message} {besides}", UpgradePhase.ANALYZING)


GATES: Final[tuple[Gate, ...]] = (_paused, _analysed)


def hold(context: Context, candidate: ClusterView) -> Hold | None:
    """What holds ``candidate`` back; None when it may take requests. ``ray.io/promote`` passes all gates over."""
    if verbs.promotion_asked(context.service, candidate.name):
        return None
    return next((held for gate in GATES if (held := gate(context, candidate)) is not None), None)
