"""What runs now, as the operator's decisions see it: a Context, also where only the RayService itself is at hand.

An admission webhook has the old object with its status, a command line may have two files and nothing else. The same
functions that decide shall answer, so clusters that cannot be looked at are built again from what the status and the
history of revisions say of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.cluster.roll import Roll
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest, generation_of, metadata, name_of, uid_of
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.service import clusters, hashing, inplace, revisions, roll
from rayservice_operator.service.context import ACTIVE, Context, Target, role_name
from rayservice_operator.service.context import build as build_context
from rayservice_operator.service.roll import difference
from rayservice_operator.service.snapshot import ServiceSnapshot

ASSUMED: Final = "the running cluster"
"""In place of the name of a cluster that is only thought to be there: two files are compared."""

_UNKNOWN: Final = "unknown"
"""In place of the hash of a cluster of which nothing is known: it fits no spec."""

_ROLLING: Final = frozenset({roll.Phase.ANNOUNCED, roll.Phase.WORKERS, roll.Phase.HEAD, roll.Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of the cluster beside the RayService itself; empty where it is not looked at.

    clusters: RayClusters of the service. pods: by RayCluster name. revisions: its ControllerRevisions.
    """

    clusters: tuple[Manifest, ...] = ()
    pods: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    revisions: tuple[Manifest, ...] = ()
    observations: Mapping[str, ServeObservation] = field(default_factory=dict)
    config: OperatorConfig = field(default_factory=lambda: OperatorConfig(capacity_check=False))
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """The contexts before and after the change; ``exact``: whether the clusters are known, not made up."""

    before: Context
    after: Context
    exact: bool


def scene(before: Manifest, after: Manifest, live: Live) -> Scene:
    """Both contexts on the same clusters; ``after`` gets the identity and the status of the stored object."""
    stored = copy.deepcopy(before)
    stored.setdefault("status", {})
    exact = True
    if not uid_of(stored) and not role_name(stored["status"], ACTIVE):
        # A file, not an object: compared as if it had been applied and served.
        stored["status"] = {**stored["status"], ACTIVE: {"rayClusterName": ASSUMED}}
    seen = live
    if not live.clusters:
        made, exact = _stand_ins(stored, live, _cluster_spec(after))
        seen = replace(live, clusters=made)
    meta = metadata(stored)
    edited = {
        **after,
        "metadata": {**meta, **metadata(after), "uid": uid_of(stored), "generation": generation_of(stored) + 1},
        "status": stored["status"],
    }
    return Scene(_context(stored, seen), _context(edited, seen), exact)


def alone(after: Manifest, live: Live) -> Context:
    """The context of a RayService that is created."""
    return _context({**after, "status": {}}, replace(live, clusters=(), pods={}, observations={}))


def _context(service: Manifest, live: Live) -> Context:
    snapshot = ServiceSnapshot(
        service=service,
        config=live.config,
        clusters=live.clusters,
        pods=live.pods,
        revisions=live.revisions,
        observations=live.observations,
    )
    return build_context(snapshot, live.now)


def _stand_ins(stored: Manifest, live: Live, coming: Manifest | None) -> tuple[tuple[Manifest, ...], bool]:
    """The clusters that the status names, and whether they are known to be as they are built here.

    coming: the RayClusterSpec of after the change, which may be that of before an upgrade that is under way.
    """
    context = _context(stored, live)
    active, pending = context.active_name, context.pending_name
    spec = context.target.cluster_spec if context.target is not None else _cluster_spec(stored)
    if spec is None or not (active or pending):
        return (), True
    made: list[Manifest] = []
    exact = True
    if active:
        recorded = str((context.stored.get("applied") or {}).get("specHash") or "")
        likely = [each for each in (spec, _cluster_spec(stored), coming) if each is not None]
        own, exact = _spec_of_active(recorded, likely, live, upgrading=bool(pending))
        made.append(_cluster(context, active, own, "" if exact else recorded or _UNKNOWN))
        if _rolling(context):
            made[-1] = _rolled(made[-1], spec)
            exact = False
    if pending:
        made.append(_cluster(context, pending, spec, ""))
    return tuple(made), exact


def _spec_of_active(recorded: str, likely: list[Manifest], live: Live, *, upgrading: bool) -> tuple[Manifest, bool]:
    """The RayClusterSpec of the active cluster, found by the hash that the status has of it; the likeliest if not."""
    if not recorded:
        return likely[0], not upgrading
    history = [found["data"]["spec"]["rayClusterConfig"] for found in reversed(revisions.by_number(live.revisions))]
    found = next((each for each in (*likely, *history) if hashing.cluster_hash(each) == recorded), None)
    return (likely[0], False) if found is None else (found, True)


def _cluster(context: Context, name: str, spec: Manifest, recorded: str) -> Manifest:
    target = Target({"rayClusterConfig": spec}, None, None)
    made = clusters.build(context, target, name)
    made["metadata"]["uid"] = name
    if recorded:
        # What it is made of is not known, only that it is not this: its hash says so.
        made["metadata"]["annotations"][names.SPEC_HASH] = recorded
    return made


def _rolling(context: Context) -> bool:
    upgrade = context.stored.get("upgrade") or {}
    return upgrade.get("strategy") == UpgradeType.IN_PLACE and upgrade.get("phase") in _ROLLING


def _rolled(cluster: Manifest, spec: Manifest) -> Manifest:
    """Its pods are on their way to ``spec``: which of them are there is not known."""
    groups = difference(cluster, spec).groups
    annotations = {
        **cluster["metadata"]["annotations"],
        names.ROLL: Roll(hashing.cluster_hash(spec), "", groups).dump(),
        names.IN_PLACE_APPLIED: inplace.applied_scale(spec),
    }
    return {**cluster, "spec": spec, "metadata": {**cluster["metadata"], "annotations": annotations}}


def _cluster_spec(service: Manifest) -> Manifest | None:
    spec: Any = service.get("spec")
    own = spec.get("rayClusterConfig") if isinstance(spec, dict) else None
    return own if isinstance(own, dict) else None


def is_named(service: Manifest) -> bool:
    """Whether it has what even a refusal needs: a mapping with a name and a spec."""
    spec: Any = service.get("spec")
    return isinstance(spec, dict) and isinstance(service.get("metadata"), dict) and bool(name_of(service))
