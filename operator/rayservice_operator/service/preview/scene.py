"""What runs now, as the operator's decisions see it: a Context, also where only the RayService itself is at hand.

An admission webhook has the old object with its status, a command line may have two files and nothing else. The same
functions that decide shall answer, so clusters that cannot be looked at are built again from what the status and the
history of revisions say of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.cluster.roll import Roll
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest, generation_of, metadata, name_of, uid_of
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.service import clusters, hashing, inplace, revisions, roll
from rayservice_operator.service.context import ACTIVE, Context, Target, known_config, load_config, refusals, role_name
from rayservice_operator.service.context import build as build_context
from rayservice_operator.service.failed import FAILED
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
    if not uid_of(stored) and not role_name(stored["status"], ACTIVE):
        # A file, not an object: compared as if it had been applied and served.
        stored["status"] = {**stored["status"], ACTIVE: _served(stored)}
    seen = live if live.revisions else replace(live, revisions=_revisions(stored))
    exact = _knows_configs(stored, seen)
    if not live.clusters:
        made, known = _stand_ins(stored, seen, _usable(after))
        seen, exact = replace(seen, clusters=made), exact and known
    edited = {**after, "metadata": _metadata(stored, after), "status": stored["status"]}
    return Scene(_context(stored, seen), _context(edited, seen), exact)


def _served(service: Manifest) -> Manifest:
    """``activeServiceStatus`` of a service that has what it declares."""
    config = None if refusals(service) else load_config(service["spec"].get("serveConfigV2"))
    return {"rayClusterName": ASSUMED, "appliedConfigHash": config.hash if config else ""}


def _revisions(stored: Manifest) -> tuple[Manifest, ...]:
    """The history as far as the object itself tells: each spec that was accepted is in it."""
    if refusals(stored):
        return ()
    number = (stored["status"].get("applied") or {}).get("revision")
    return (revisions.build({**stored, "metadata": {"uid": "", **metadata(stored)}}, number or 1),)


def _knows_configs(stored: Manifest, seen: Live) -> bool:
    """Whether the serve configs are known that the status has hashes of."""
    status = stored["status"]
    hashes = (
        (status.get(ACTIVE) or {}).get("appliedConfigHash"),
        (status.get(FAILED) or {}).get("rolledBackTo"),
    )
    return all(not each or known_config(seen.revisions, each) is not None for each in hashes)


def _metadata(stored: Manifest, after: Manifest) -> Manifest:
    """Of the stored object, with the labels and annotations of ``after``.

    A file says nothing of those that somebody else has set, so they stay; an object has all of them.
    """
    told = dict(metadata(after))
    if not uid_of(after):
        for key in ("labels", "annotations"):
            told[key] = {**(metadata(stored).get(key) or {}), **(told.get(key) or {})}
    return {**metadata(stored), **told, "uid": uid_of(stored), "generation": generation_of(stored) + 1}


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
    in_force = context.target.cluster_spec if context.target is not None else None
    known = [each for each in (in_force, _usable(stored), *_history(live)) if each is not None]
    guess = known[0] if known else coming
    if not (active or pending) or guess is None:
        return (), not (active or pending)
    made: list[Manifest] = []
    exact = bool(known)
    if active:
        recorded = str((context.stored.get("applied") or {}).get("specHash") or "")
        own, exact = _spec_of_active(recorded, known, coming, bool(pending)) if known else (guess, False)
        fits = hashing.cluster_hash(own) == recorded
        made.append(_cluster(context, active, own, "" if exact or fits else recorded or _UNKNOWN))
        if _rolling(context):
            made[-1] = _rolled(made[-1], guess)
            exact = False
    if pending:
        made.append(_cluster(context, pending, guess, "" if in_force is not None else _UNKNOWN))
    return tuple(made), exact


def _spec_of_active(
    recorded: str, known: Sequence[Manifest], coming: Manifest | None, upgrading: bool
) -> tuple[Manifest, bool]:
    """The RayClusterSpec of the active cluster, found by the hash that the status has of it, and whether it is known.

    known: where to look, the likeliest first. The one that is ``coming`` may be it too, but for what changes in place:
    that is no part of the hash.
    """
    if not recorded:
        return known[0], not upgrading
    if found := next((each for each in known if hashing.cluster_hash(each) == recorded), None):
        return found, True
    fits = coming is not None and hashing.cluster_hash(coming) == recorded
    return (coming if fits and coming is not None else known[0]), False


def _history(live: Live) -> list[Manifest]:
    """RayClusterSpecs of the revisions, newest first."""
    return [found["data"]["spec"]["rayClusterConfig"] for found in reversed(revisions.by_number(live.revisions))]


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


def _usable(service: Manifest) -> Manifest | None:
    """Its RayClusterSpec; None where the operator refuses the spec, so that no cluster was ever built of it."""
    spec: Manifest = service["spec"].get("rayClusterConfig")
    return None if refusals(service) else spec


def is_readable(service: Manifest) -> bool:
    """Whether it has the shape of a RayService, be it that its rules are broken."""
    try:
        parse_rayservice(service)
    except SpecError:
        return False
    return True


def is_named(service: Any) -> bool:
    """Whether it has what even a refusal needs: a mapping with a name and a spec."""
    if not isinstance(service, dict) or not isinstance(service.get("metadata"), dict):
        return False
    return isinstance(service.get("spec"), dict) and bool(name_of(service))
