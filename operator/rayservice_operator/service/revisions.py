"""ControllerRevisions: every spec that was accepted, so that the last valid one outlives a bad edit.

One revision holds the whole RayService spec. Its name is ``<service>-<hash of the spec>``; the newest valid one
is what a serving service is looked after with while its present spec is refused.
"""

from __future__ import annotations

from rayservice_operator.api import names
from rayservice_operator.core.decision import Action, Apply, Delete
from rayservice_operator.core.objects import Manifest, labels_of, name_of, owner_reference, ref
from rayservice_operator.service.hashing import digest

HISTORY_LIMIT = 10
REVISION_HASH = "rayservice.ray.io/revision"

# Fields that say when or how, not what: they do not make a revision of their own.
NOT_PART_OF_A_REVISION = ("suspend", "managedBy", "upgradeStrategy", "rayClusterDeletionDelaySeconds")


CLUSTER_FIELDS_NOT_PART_OF_A_REVISION = ("suspend",)


def revised_part(spec: Manifest) -> Manifest:
    """The part of a RayService spec that a revision stands for."""
    revised = {key: value for key, value in spec.items() if key not in NOT_PART_OF_A_REVISION}
    return _with_cluster_fields(revised, {})


def _with_cluster_fields(spec: Manifest, present: Manifest) -> Manifest:
    """``spec`` with what of its ``rayClusterConfig`` belongs to no revision as it is in the ``present`` spec.

    Kueue writes ``suspend`` there with every admission and eviction: it says when, not what.
    """
    config = present.get("rayClusterConfig")
    given = config if isinstance(config, dict) else {}
    kept = {k: v for k, v in spec["rayClusterConfig"].items() if k not in CLUSTER_FIELDS_NOT_PART_OF_A_REVISION}
    taken = {k: given[k] for k in CLUSTER_FIELDS_NOT_PART_OF_A_REVISION if isinstance(given.get(k), bool)}
    return {**spec, "rayClusterConfig": {**kept, **taken}}


def spec_hash(spec: Manifest) -> str:
    """Hash of :func:`revised_part`."""
    return digest(revised_part(spec))


def build(service: Manifest, number: int) -> Manifest:
    """The ControllerRevision of the service's present spec."""
    hash_ = spec_hash(service["spec"])
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{name_of(service)}-{hash_[:10]}",
            "namespace": service["metadata"].get("namespace", ""),
            "labels": {
                names.ORIGIN_NAME: name_of(service),
                names.ORIGIN_KIND: "RayService",
                names.APP_NAME: names.APP_NAME_VALUE,
                names.CREATED_BY: names.CREATED_BY_VALUE,
                REVISION_HASH: hash_,
            },
            "ownerReferences": [owner_reference(service)],
        },
        "revision": number,
        "data": {"spec": revised_part(service["spec"])},
    }


def by_number(revisions: tuple[Manifest, ...]) -> list[Manifest]:
    """Oldest first."""
    return sorted(revisions, key=lambda revision: int(revision.get("revision") or 0))


def last_valid_spec(revisions: tuple[Manifest, ...], present: Manifest) -> Manifest | None:
    """Spec of the newest revision; only accepted specs become revisions.

    What is not part of a revision is taken from the ``present`` spec, as far as it is of the right form.
    """
    ordered = by_number(revisions)
    if not ordered:
        return None
    valid: Manifest = ordered[-1]["data"]["spec"]
    return _with_cluster_fields({**valid, "suspend": bool(present.get("suspend"))}, present)


def record(service: Manifest, revisions: tuple[Manifest, ...], keep: frozenset[str]) -> list[Action]:
    """Actions that make the present (accepted) spec the newest revision and drop the oldest beyond the limit.

    ``keep``: hashes of revisions that something still refers to.
    """
    ordered = by_number(revisions)
    present = spec_hash(service["spec"])
    newest = int(ordered[-1].get("revision") or 0) if ordered else 0
    actions: list[Action] = []
    known = next((r for r in ordered if hash_of(r) == present), None)
    if known is None or known is not ordered[-1]:
        # The same spec again after another one gets a new number, as a Deployment's rollback does.
        actions.append(Apply(build(service, newest + 1)))
    surplus = len(ordered) + (known is None) - HISTORY_LIMIT
    for revision in ordered:
        if surplus <= 0:
            break
        if hash_of(revision) not in keep | {present}:
            actions.append(Delete(ref(revision)))
            surplus -= 1
    return actions


def hash_of(revision: Manifest) -> str:
    """The spec hash that a revision stands for."""
    return labels_of(revision).get(REVISION_HASH, "")


def numbered(revisions: tuple[Manifest, ...], number: int) -> Manifest | None:
    """The revision of that number, if the history still has it."""
    return next((revision for revision in revisions if int(revision.get("revision") or 0) == number), None)


def number_of(revisions: tuple[Manifest, ...], spec: Manifest) -> int:
    """Number of the revision that holds ``spec``; 0 while none does."""
    wanted = spec_hash(spec)
    return max((int(r.get("revision") or 0) for r in revisions if hash_of(r) == wanted), default=0)


def spec_of(revision: Manifest, service: Manifest) -> Manifest:
    """The spec of ``revision``, with what belongs to no revision taken from the present one."""
    spec: Manifest = service["spec"]
    unrevised = {key: spec[key] for key in NOT_PART_OF_A_REVISION if key in spec}
    return _with_cluster_fields({**revision["data"]["spec"], **unrevised}, spec)


def config_of(revision: Manifest) -> str | None:
    """The ``serveConfigV2`` text of a revision."""
    text: str | None = revision["data"]["spec"].get("serveConfigV2")
    return text


def configs(revisions: tuple[Manifest, ...]) -> list[str | None]:
    """The ``serveConfigV2`` texts in the history, newest first."""
    return [config_of(revision) for revision in reversed(by_number(revisions))]
