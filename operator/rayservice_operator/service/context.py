"""One RayService's snapshot, made convenient: what is in force, which clusters play which role."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ClusterCondition
from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import validate_rayservice
from rayservice_operator.api.validation.serve_config import read
from rayservice_operator.core.conditions import is_true
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Delete
from rayservice_operator.core.memo import Memo
from rayservice_operator.core.objects import (
    Manifest,
    annotations_of,
    generation_of,
    is_terminating,
    labels_of,
    name_of,
    ref,
    uid_of,
)
from rayservice_operator.core.observation import ServeObservation
from rayservice_operator.core.violations import Violation
from rayservice_operator.serveconfig.canonical import ServeConfig, ServeConfigError, canonical_json, config_hash
from rayservice_operator.service import failed, hashing, messages, revisions, undo
from rayservice_operator.service.snapshot import ServiceSnapshot

ACTIVE = "activeServiceStatus"
PENDING = "pendingServiceStatus"


@dataclass(frozen=True, slots=True)
class Config:
    """A serve config ready to be pushed: its hash, Ray's JSON body and the parsed form."""

    hash: str
    payload: str
    parsed: ServeConfig

    def payload_at(self, capacity: int | None) -> str:
        """The body with another ``target_capacity`` in percent; None: as it is."""
        if capacity is None:
            return self.payload
        document = {**self.parsed.document, "target_capacity": capacity}
        return canonical_json(ServeConfig(document, self.parsed.app_names))

    def capacity_shown(self, capacity: int | None) -> float | None:
        """What Ray tells once it has taken that body."""
        own = self.parsed.document.get("target_capacity")
        return capacity if capacity is not None else own if isinstance(own, (int, float)) else None


@functools.lru_cache(maxsize=512)
def load_config(text: str | None) -> Config | None:
    """The config of a ``serveConfigV2`` text; None for an empty one.

    Raises:
        ServeConfigError: the text is no serve config (validation says so before this is reached).
    """
    parsed = read(text or "")
    if isinstance(parsed, ServeConfigError):
        raise parsed.with_traceback(None)  # it is remembered, and must not grow with each time that it is raised
    return None if parsed is None else Config(config_hash(parsed), canonical_json(parsed), parsed)


@dataclass(frozen=True, slots=True)
class Target:
    """The spec in force: the present one, or the last valid one while the present one is refused.

    declared: its serve config. config: the serve config in force: that, or the last good one once that has failed.
    failed: whether this spec is remembered as one that failed; given_up: and its upgrade was aborted.
    undone: whether somebody asked for an earlier revision in place of the present spec (``undo``).
    """

    spec: Manifest
    declared: Config | None
    config: Config | None
    failed: bool = False
    given_up: bool = False
    undone: bool = False

    @property
    def cluster_spec(self) -> Manifest:
        """``spec.rayClusterConfig``."""
        result: Manifest = self.spec["rayClusterConfig"]
        return result


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One RayCluster of the service with all that is known of it. ``entry`` is its part of the stored status."""

    manifest: Manifest
    pods: tuple[Manifest, ...]
    observation: ServeObservation | None
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the RayCluster."""
        return name_of(self.manifest)

    @property
    def live(self) -> bool:
        """Not being deleted."""
        return not is_terminating(self.manifest)

    @property
    def suspended(self) -> bool:
        """It shall have no pods (``spec.suspend``), or is not through with that yet."""
        if self.manifest["spec"].get("suspend"):
            return True
        conditions = (self.manifest.get("status") or {}).get("conditions") or ()
        return is_true(conditions, ClusterCondition.SUSPENDING) or is_true(conditions, ClusterCondition.SUSPENDED)

    def deletion(self) -> Delete:
        """Delete it, and let the object stay until its pods have gone.

        Otherwise it would vanish at once, and a successor of the same name would share labels and head service
        with pods that still run. With the finalizer that cleans up Redis it stays as long by itself, and in the
        foreground the garbage collector would take the Job that does it away.
        """
        cleans_up = names.REDIS_CLEANUP_FINALIZER in (self.manifest["metadata"].get("finalizers") or ())
        return Delete(ref(self.manifest), propagation="Background" if cleans_up else "Foreground")

    @property
    def delete_after(self) -> str | None:
        """RFC 3339 time after which this former active cluster goes."""
        return annotations_of(self.manifest).get(names.DELETE_AFTER)

    @property
    def head(self) -> Manifest | None:
        """The head pod that is not being deleted."""
        heads = (p for p in self.pods if labels_of(p).get(names.NODE_TYPE) == names.HEAD and not is_terminating(p))
        return next(heads, None)

    @property
    def head_ip(self) -> str:
        """Address of the head pod, empty before it has one."""
        head = self.head
        return str(((head or {}).get("status") or {}).get("podIP") or "")

    @property
    def applied_hash(self) -> str:
        """Hash of the serve config that this cluster's Serve accepted last."""
        push = self.observation.push if self.observation else None
        if push is not None and push.state == "accepted":
            return push.config_hash
        return str(self.entry.get("appliedConfigHash") or "")


@dataclass(frozen=True, slots=True)
class Context:
    """What the planners of one decision share."""

    snapshot: ServiceSnapshot
    now: float
    violations: tuple[Violation, ...]
    target: Target | None
    clusters: Mapping[str, ClusterView]

    @property
    def service(self) -> Manifest:
        """The RayService as stored."""
        return self.snapshot.service

    @property
    def config(self) -> OperatorConfig:
        """The operator's settings."""
        return self.snapshot.config

    @property
    def name(self) -> str:
        """Name of the RayService."""
        return name_of(self.service)

    @property
    def namespace(self) -> str:
        """Namespace of the RayService."""
        return str(self.service["metadata"].get("namespace", ""))

    @property
    def generation(self) -> int:
        """``metadata.generation``."""
        return generation_of(self.service)

    @property
    def edited(self) -> bool:
        """Whether the spec is another than that which the stored status tells of."""
        return bool(self.stored.get("observedGeneration") != self.generation)

    @property
    def stored(self) -> Mapping[str, Any]:
        """The status as stored."""
        return self.service.get("status") or {}

    @property
    def stored_conditions(self) -> list[Mapping[str, Any]]:
        """Conditions as stored."""
        return list(self.stored.get("conditions") or ())

    @property
    def active_name(self) -> str:
        """Name of the RayCluster that the status says is active; empty when there is none."""
        return role_name(self.stored, ACTIVE)

    @property
    def pending_name(self) -> str:
        """Name of the RayCluster that the status says is coming up; it may not have been created yet."""
        return role_name(self.stored, PENDING)

    def live(self, name: str) -> ClusterView | None:
        """The cluster of that name if it exists and is not being deleted."""
        view = self.clusters.get(name)
        return view if view is not None and view.live else None

    @property
    def active(self) -> ClusterView | None:
        """The active cluster while it lives."""
        return self.live(self.active_name)

    @property
    def pending(self) -> ClusterView | None:
        """The pending cluster while it lives."""
        return self.live(self.pending_name)

    @property
    def pending_vanished(self) -> bool:
        """Whether the pending cluster was there once and somebody deleted it: the status or its pods tell of it."""
        entry = self.stored.get(PENDING) or {}
        there_once = "rayClusterStatus" in entry or bool(self.snapshot.pods.get(self.pending_name))
        return self.pending_name not in self.clusters and there_once

    @property
    def good_config(self) -> Config | None:
        """The serve config under which everything ran last, if the history still has it."""
        return _good_config(self.snapshot)

    @property
    def former_good_config(self) -> Config | None:
        """The one before :attr:`good_config` on this cluster, if the history still has it."""
        applied = self.stored.get("applied") or {}
        return known_config(self.snapshot.revisions, str(applied.get("formerGoodConfigHash") or ""))

    @property
    def pending_unbuilt(self) -> bool:
        """Whether the pending cluster has only been named so far."""
        return bool(self.pending_name) and self.pending_name not in self.clusters and not self.pending_vanished

    @property
    def pending_lost(self) -> bool:
        """Whether the pending cluster was built once, and somebody deleted it or is deleting it."""
        return bool(self.pending_name) and self.pending is None and not self.pending_unbuilt

    def suspend_wanted(self) -> bool:
        """``spec.suspend``."""
        return bool(self.service["spec"].get("suspend"))


def role_name(status: Mapping[str, Any], role: str) -> str:
    """``status.<role>.rayClusterName`` or empty."""
    return str((status.get(role) or {}).get("rayClusterName") or "")


def build(snapshot: ServiceSnapshot, now: float) -> Context:
    """The context of one decision."""
    service = snapshot.service
    violations = (*refusals(service), *undo.violations(service, snapshot.revisions))
    status = service.get("status") or {}
    entries = {role_name(status, role): status.get(role) or {} for role in (PENDING, ACTIVE)}
    clusters = {
        name_of(cluster): ClusterView(
            manifest=cluster,
            pods=snapshot.pods.get(name_of(cluster), ()),
            observation=_observation(snapshot, cluster, entries.get(name_of(cluster), {})),
            entry=entries.get(name_of(cluster), {}),
        )
        for cluster in snapshot.clusters
    }
    return Context(snapshot, now, violations, _target(snapshot, violations), clusters)


_refusals: Final[Memo[tuple[Violation, ...]]] = Memo(4096)


def refusals(service: Manifest) -> tuple[Violation, ...]:
    """Everything that is wrong with the present spec: what is asked each time, and changes with an edit only."""
    declared: Manifest = {
        "metadata": {"name": name_of(service), "annotations": annotations_of(service)},
        "spec": service["spec"],
    }
    return _refusals.get(declared, lambda: _violations(declared))


def _violations(declared: Manifest) -> tuple[Violation, ...]:
    try:
        parsed = parse_rayservice(declared)
    except SpecError as error:
        return tuple(error.violations)
    return tuple(validate_rayservice(declared, parsed))


def _target(snapshot: ServiceSnapshot, violations: tuple[Violation, ...]) -> Target | None:
    spec: Manifest = snapshot.service["spec"]
    if violations:
        valid = revisions.last_valid_spec(snapshot.revisions, spec)
        if valid is None:
            return None
        spec = valid
    elif earlier := undo.spec_in_force(snapshot.service, snapshot.revisions):
        spec = earlier
    undone = not violations and spec is not snapshot.service["spec"]
    declared = load_config(spec.get("serveConfigV2"))
    known = (snapshot.service.get("status") or {}).get(failed.FAILED)
    hashes = (declared.hash if declared else "", hashing.cluster_hash(spec["rayClusterConfig"]))
    if not known or not failed.still_holds(known, snapshot.service, *hashes, valid=not violations):
        return Target(spec, declared, declared, undone=undone)
    former = _former_revision(snapshot, known)
    if former is not None:  # its cluster is gone: all of it is brought back, not only its serve config
        spec = revisions.spec_of(former, snapshot.service)
        in_force = load_config(spec.get("serveConfigV2"))
    else:
        in_force = (
            known_config(snapshot.revisions, str(known.get("rolledBackTo") or "")) or _good_config(snapshot) or declared
        )
    return Target(spec, declared, in_force, failed=True, given_up=bool(known.get("clusterHash")), undone=undone)


def _former_revision(snapshot: ServiceSnapshot, known: Mapping[str, Any]) -> Manifest | None:
    """The revision to be built again, because an upgrade away from it was given up and its cluster is gone.

    By the upgrade itself (Recreate says so beside the failure), or meanwhile: by a suspension, or somebody's hand.
    """
    if number := int(known.get("revision") or 0):
        return revisions.numbered(snapshot.revisions, number)
    status = snapshot.service.get("status") or {}
    active = role_name(status, ACTIVE)
    if not known.get("clusterHash") or any(name_of(c) == active and not is_terminating(c) for c in snapshot.clusters):
        return None
    return revisions.numbered(snapshot.revisions, int((status.get("applied") or {}).get("revision") or 0))


def _good_config(snapshot: ServiceSnapshot) -> Config | None:
    applied = (snapshot.service.get("status") or {}).get("applied") or {}
    return known_config(snapshot.revisions, str(applied.get("goodConfigHash") or ""))


def known_config(history: tuple[Manifest, ...], hash_: str) -> Config | None:
    """The serve config with that hash in the history of revisions."""
    known = (load_config(text) for text in revisions.configs(history))
    return next((config for config in known if config and config.hash == hash_), None)


def _observation(snapshot: ServiceSnapshot, cluster: Manifest, entry: Mapping[str, Any]) -> ServeObservation | None:
    """The observation of this cluster's present head; one of a former head says nothing."""
    seen = snapshot.observations.get(name_of(cluster))
    if seen is None:
        return None
    heads = {
        uid_of(pod)
        for pod in snapshot.pods.get(name_of(cluster), ())
        if labels_of(pod).get(names.NODE_TYPE) == names.HEAD
    }
    return messages.steady(seen, entry.get("applicationStatuses") or {}) if seen.head_uid in heads else None
