"""Going back to an earlier revision without editing the spec: ``ray.io/undo: "<number>"``.

The operator never writes a user's spec (a GitOps tool would fight it), so an undone spec stays as it is and the
revision asked for is in force in its place, until the annotation goes or the spec changes. Which spec was undone is
remembered in the status: an annotation that was left behind does not undo the next spec too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.specerror import field_path
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.core.violations import Violation
from rayservice_operator.service import revisions

UNDONE: Final = "undone"
"""Field of the status: which spec was undone, by which annotation."""


def asked(service: Manifest) -> str:
    """Value of ``ray.io/undo``; empty without one."""
    return annotations_of(service).get(names.UNDO, "").strip()


def violations(service: Manifest, history: tuple[Manifest, ...]) -> tuple[Violation, ...]:
    """A revision that is not there cannot be gone back to."""
    number = asked(service)
    if not number or _revision(history, number) is not None:
        return ()
    if not _holds(service):
        return ()  # left behind by an earlier spec
    known = ", ".join(str(revision.get("revision")) for revision in revisions.by_number(history)) or "none yet"
    path = field_path(("metadata", "annotations", names.UNDO))
    return (Violation(path, f"there is no revision {number!r}", f"Known are: {known}"),)


def spec_in_force(service: Manifest, history: tuple[Manifest, ...]) -> Manifest | None:
    """The spec of the revision asked for, with what belongs to no revision taken from the present one; else None."""
    number = asked(service)
    revision = _revision(history, number) if number else None
    if revision is None or not _holds(service):
        return None
    return revisions.spec_of(revision, service)


def memory(service: Manifest, now: float) -> dict[str, Any]:
    """What the status shall remember; empty without an annotation."""
    if not asked(service):
        return {}
    if stored := _stored(service):
        return dict(stored)
    return {"value": asked(service), "specHash": revisions.spec_hash(service["spec"]), "time": to_rfc3339(now)}


def referred(service: Manifest, history: tuple[Manifest, ...]) -> str:
    """Hash of the revision asked for, which must outlive the history's limit."""
    revision = _revision(history, asked(service))
    return revisions.hash_of(revision) if revision else ""


def _holds(service: Manifest) -> bool:
    """Whether it is asked of the present spec: asked for just now, or remembered for this very spec."""
    stored = _stored(service)
    return not stored or stored.get("specHash") == revisions.spec_hash(service["spec"])


def _stored(service: Manifest) -> Mapping[str, Any]:
    """What is remembered of the present annotation; empty while nothing is."""
    stored: Mapping[str, Any] = (service.get("status") or {}).get(UNDONE) or {}
    return stored if stored.get("value") == asked(service) else {}


def _revision(history: tuple[Manifest, ...], number: str) -> Manifest | None:
    return revisions.numbered(history, int(number)) if number.isdecimal() else None
