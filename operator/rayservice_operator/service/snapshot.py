"""Everything observed about one RayService at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import DryRunResult, Failure
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.core.room import RoomAnswer


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """``service`` is the RayService as stored.

    clusters: RayClusters controlled by its UID, terminating ones too.
    pods: pods of those clusters by RayCluster name; also what a pending cluster that is gone has left.
    children: Services and others controlled by it; endpoint_slices: those of its Services.
    revisions: ControllerRevisions controlled by it, oldest first.
    observations: what the observers saw, by RayCluster name.
    dry_runs: answers to ``DryRun`` actions by key.
    rooms: answers to ``AskRoom`` actions by key.
    failure: what the last pass about this object could not do; None when all went well.
    """

    service: Manifest
    config: OperatorConfig
    clusters: tuple[Manifest, ...] = ()
    pods: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    children: tuple[Manifest, ...] = ()
    endpoint_slices: tuple[Manifest, ...] = ()
    revisions: tuple[Manifest, ...] = ()
    observations: Mapping[str, ServeObservation] = field(default_factory=dict)
    dry_runs: Mapping[str, DryRunResult] = field(default_factory=dict)
    rooms: Mapping[str, RoomAnswer] = field(default_factory=dict)
    failure: Failure | None = None
