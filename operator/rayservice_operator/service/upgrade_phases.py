"""The phases of ``status.upgrade.phase``, and what leads from one to another: the diagram in docs/upgrades.md.

The words of a cluster that comes up (``apps.Phase``) are one stage here, since a head that dies leads from any of them
to any other. The simulation checks that no upgrade in any of its scenarios goes another way.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from rayservice_operator.service import roll
from rayservice_operator.service.apps import Phase


class UpgradePhase(enum.StrEnum):
    """Phases that are neither a cluster's (``apps.Phase``) nor those of a rollout in place (``roll.Phase``)."""

    WAITING = "Waiting"
    REMOVING = "Removing"
    PAUSED = "Paused"
    ANALYZING = "Analyzing"
    MOVING_TRAFFIC = "MovingTraffic"
    GOING_BACK = "GoingBack"
    PROMOTED = "Promoted"
    ABORTED = "Aborted"


class Stage(enum.Enum):
    """Phases that are told apart in the diagram; the value is what they are called there."""

    NONE = "no upgrade"
    WAITING = "Waiting"
    REMOVING = "Removing"
    COMING_UP = "CreatingCluster … Serving"
    ANALYZING = "Analyzing"
    MOVING = "MovingTraffic"
    BACK = "GoingBack"
    PAUSED = "Paused"
    PROMOTED = "Promoted"
    ABORTED = "Aborted"
    ANNOUNCED = "Announced"
    ROLLING = "ReplacingWorkers, ReplacingHead"
    STOPPED = "RollStopped"
    HELD = "Held"
    REFUSED = "Refused"
    COMPLETED = "Completed"


STAGES: Final[Mapping[str, Stage]] = {
    "": Stage.NONE,
    **{str(phase): Stage.COMING_UP for phase in Phase},
    UpgradePhase.WAITING: Stage.WAITING,
    UpgradePhase.REMOVING: Stage.REMOVING,
    UpgradePhase.PAUSED: Stage.PAUSED,
    UpgradePhase.ANALYZING: Stage.ANALYZING,
    UpgradePhase.MOVING_TRAFFIC: Stage.MOVING,
    UpgradePhase.GOING_BACK: Stage.BACK,
    UpgradePhase.PROMOTED: Stage.PROMOTED,
    UpgradePhase.ABORTED: Stage.ABORTED,
    roll.Phase.ANNOUNCED: Stage.ANNOUNCED,
    roll.Phase.WORKERS: Stage.ROLLING,
    roll.Phase.HEAD: Stage.ROLLING,
    roll.Phase.STOPPED: Stage.STOPPED,
    roll.Phase.HELD: Stage.HELD,
    roll.Phase.REFUSED: Stage.REFUSED,
    roll.Phase.COMPLETED: Stage.COMPLETED,
}
"""The stage of each phase."""

BEGINNINGS: Final[Mapping[Stage, str]] = {
    Stage.NONE: "suspended, or the spec is that of the active cluster again",
    Stage.COMING_UP: "the spec needs a new cluster (NewCluster, in steps)",
    Stage.WAITING: "a former cluster has to go first",
    Stage.REMOVING: "the spec needs a new cluster (Recreate)",
    Stage.ANNOUNCED: "the spec needs new pods (InPlace)",
    Stage.REFUSED: "a running cluster cannot take the change (InPlace)",
    Stage.PAUSED: "paused",
}
"""Where a change of the spec, the strategy, a pause or a suspension leads, from every stage; with the reason."""

TRANSITIONS: Final[Mapping[Stage, Mapping[Stage, str]]] = {
    Stage.COMING_UP: {
        Stage.PROMOTED: "proven",
        Stage.ANALYZING: "proven, with an analysis",
        Stage.MOVING: "proven, in steps",
        Stage.BACK: "a limit reached, aborted, or the spec turned back (in steps)",
        Stage.ABORTED: "a limit reached, or aborted",
    },
    Stage.ANALYZING: {
        Stage.PROMOTED: "the analysis has passed",
        Stage.MOVING: "the analysis has passed, in steps",
        Stage.BACK: "the analysis has failed, a limit reached, aborted, or the spec turned back (in steps)",
        Stage.ABORTED: "the analysis has failed, a limit reached, or aborted",
        Stage.COMING_UP: "the new cluster does not serve any more",
    },
    Stage.MOVING: {
        Stage.PROMOTED: "the last step",
        Stage.ANALYZING: "requests have moved, with an analysis",
        Stage.BACK: "a limit reached, aborted, or the spec turned back",
        Stage.ABORTED: "aborted before it had requests",
        Stage.COMING_UP: "the new cluster does not serve any more",
    },
    Stage.BACK: {
        Stage.ABORTED: "the old cluster has everything again",
        Stage.MOVING: "the spec is wanted again",
        Stage.ANALYZING: "the spec is wanted again, with an analysis",
    },
    Stage.PAUSED: {
        Stage.PROMOTED: "promoted by hand, or resumed",
        Stage.MOVING: "resumed",
        Stage.ANALYZING: "resumed, with an analysis",
        Stage.BACK: "aborted, or the spec turned back",
        Stage.ROLLING: "resumed",
        Stage.STOPPED: "a pod does not come up",
        Stage.COMPLETED: "the last pod was ready",
        Stage.HELD: "strategy None",
        Stage.ABORTED: "aborted",
    },
    Stage.WAITING: {Stage.ABORTED: "aborted", Stage.ROLLING: "a rollout that was under way goes on"},
    Stage.REMOVING: {Stage.ABORTED: "the former revision is wanted again"},
    Stage.PROMOTED: {Stage.ABORTED: "the former revision was built again (Recreate)"},
    Stage.ANNOUNCED: {
        Stage.ROLLING: "the RayCluster has the new spec",
        Stage.STOPPED: "no pod can be done without",
        Stage.HELD: "strategy None",
        Stage.ABORTED: "aborted",
    },
    Stage.ROLLING: {
        Stage.COMPLETED: "all pods are new",
        Stage.STOPPED: "a pod does not come up",
        Stage.HELD: "strategy None",
        Stage.ABORTED: "aborted, and all pods are of the former revision again",
    },
    Stage.STOPPED: {
        Stage.ROLLING: "it has come up, or the spec was corrected, or aborted",
        Stage.COMPLETED: "all pods are new",
        Stage.HELD: "strategy None",
    },
    Stage.ABORTED: {Stage.ROLLING: "the cluster that stays is in the middle of a rollout"},
    Stage.HELD: {Stage.ROLLING: "strategy InPlace again", Stage.COMPLETED: "all pods are new"},
    Stage.REFUSED: {Stage.ROLLING: "the spec was corrected in the middle", Stage.HELD: "strategy None"},
    Stage.NONE: {Stage.ROLLING: "resumed in the middle"},
}
"""Where an upgrade goes by itself or because somebody asks for it, with what leads there."""


def allowed(before: str, after: str) -> bool:
    """Whether ``status.upgrade.phase`` may change like that."""
    old, new = STAGES[before], STAGES[after]
    return old is new or new in BEGINNINGS or new in TRANSITIONS.get(old, {})


def diagram() -> str:
    """The table as a Mermaid state diagram. What may follow from every stage is drawn as its beginning."""
    lines = ["stateDiagram-v2", *_names(stage for stage in Stage if stage is not Stage.NONE)]
    lines += [f"    [*] --> {_id(to)} : {why}" for to, why in BEGINNINGS.items() if to is not Stage.NONE]
    for stage, ways in TRANSITIONS.items():
        lines += [f"    {_id(stage)} --> {_id(to)} : {why}" for to, why in ways.items() if stage is not Stage.NONE]
    lines += [f"    {_id(stage)} --> [*]" for stage in (Stage.PROMOTED, Stage.COMPLETED, Stage.ABORTED)]
    return "\n".join(lines) + "\n"


def _names(stages: Iterable[Stage]) -> list[str]:
    return [f'    state "{stage.value}" as {_id(stage)}' for stage in stages]


def _id(stage: Stage) -> str:
    return stage.name.title().replace("_", "")
