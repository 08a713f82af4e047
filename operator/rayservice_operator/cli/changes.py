"""The verbs that act: from a RayService to the patch that does it, or to the reason why it does nothing. Pure.

Every verb writes annotations of ``metadata`` only (``api.names``); the operator reads them, and a GitOps tool that owns
the spec has nothing to fight.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cli.view import Objects, command, status_of
from rayservice_operator.cli.view_history import present_hash
from rayservice_operator.cli.view_status import Status, Upgrade, build
from rayservice_operator.core.objects import Manifest, annotations_of, name_of
from rayservice_operator.service import revisions, undo, verbs
from rayservice_operator.service.roll import Phase as RollPhase
from rayservice_operator.service.upgrade_phases import STAGES, Stage, UpgradePhase


class Outcome(enum.StrEnum):
    """``CHANGE``: the annotations are to be written. ``ALREADY``: it is so. ``NOTHING``: there is nothing to act on."""

    CHANGE = "change"
    ALREADY = "already"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Change:
    """``annotations``: to be set, None to be taken away. ``message``: what happens, or why nothing does. ``step``: what
    to do then. ``cluster``, ``revision``: what ``--wait`` waits for, where the verb names one."""

    verb: str
    outcome: Outcome
    message: str
    step: str = ""
    annotations: Mapping[str, str | None] | None = None
    cluster: str = ""
    revision: int = 0

    def patch(self) -> Manifest:
        """The merge patch of the object."""
        return {"metadata": {"annotations": dict(self.annotations or {})}}


def pause(objects: Objects) -> Change:
    """Hold upgrades where they are."""
    service = objects.service
    if verbs.paused(service):
        return Change("pause", Outcome.ALREADY, f"Upgrades of {name_of(service)} are paused already.")
    upgrade = build(objects).upgrade
    if upgrade is not None and upgrade.under_way:
        message = f"The upgrade to {upgrade.target or 'the new spec'} is held where it is ({upgrade.phase})."
    else:
        message = "No upgrade is under way; the next one will not begin until you resume."
    return Change("pause", Outcome.CHANGE, message, annotations={names.PAUSE: "true"})


def resume(objects: Objects) -> Change:
    """Let upgrades go on."""
    service = objects.service
    by_field = ((service.get("spec") or {}).get("upgradeStrategy") or {}).get("paused") is True
    by_annotation = names.PAUSE in annotations_of(service)
    if by_field:
        step = (
            "Set spec.upgradeStrategy.paused to false where the manifest is kept (this command never edits the spec)."
        )
        held = f"{name_of(service)} is paused by spec.upgradeStrategy.paused"
        return Change("resume", Outcome.NOTHING, f"{held}.", step)
    if not by_annotation:
        return Change("resume", Outcome.ALREADY, f"{name_of(service)} is not paused.")
    return Change("resume", Outcome.CHANGE, "Upgrades go on.", annotations={names.PAUSE: None})


_ON_THEIR_WAY: Final = frozenset({Stage.COMING_UP, Stage.ANALYZING, Stage.MOVING, Stage.PAUSED})


def promote(objects: Objects) -> Change:
    """Let the new cluster take over, whatever holds it back but its own health."""
    status = build(objects)
    upgrade = status.upgrade
    pending = next((c.name for c in status.clusters if c.role == "pending"), "")
    if upgrade is None or not upgrade.under_way:
        return _no_upgrade("promote", status)
    if not pending or STAGES.get(upgrade.phase) not in _ON_THEIR_WAY:
        return Change(
            "promote",
            Outcome.NOTHING,
            f"The upgrade is {upgrade.phase}: there is no new cluster that could take over.",
            command(status.namespace, "resume", status.name) if status.paused else "",
        )
    if verbs.promotion_asked(objects.service, pending):
        message = f"{pending} is to take over as soon as it is proven; that was asked for already."
        return Change("promote", Outcome.ALREADY, message, cluster=pending)
    return Change(
        "promote",
        Outcome.CHANGE,
        f"{pending} takes over as soon as it is proven: pause, analysis and steps are passed over.",
        annotations={names.PROMOTE: pending},
        cluster=pending,
    )


def abort(objects: Objects) -> Change:
    """Give the upgrade up; the old cluster serves on."""
    status = build(objects)
    upgrade = status.upgrade
    pending = next((c.name for c in status.clusters if c.role == "pending"), "")
    if upgrade is None or not upgrade.under_way:
        return _no_upgrade("abort", status)
    if upgrade.phase == UpgradePhase.GOING_BACK:
        return Change("abort", Outcome.ALREADY, f"The upgrade to {upgrade.target} is going back already.")
    if upgrade.revision:
        return _abort_rollout(objects, upgrade)
    if not pending or upgrade.first:
        none_old = "There is no older cluster to stay with: this is the first cluster of the service."
        message = none_old if pending else f"{upgrade.phase}: no new cluster is there yet."
        return Change("abort", Outcome.NOTHING, message, "Correct the spec, or delete it.")
    if verbs.abort_asked(objects.service, pending):
        return Change("abort", Outcome.ALREADY, f"{pending} is being given up already.", cluster=pending)
    return Change(
        "abort",
        Outcome.CHANGE,
        f"{pending} is given up, {upgrade.source} serves on. Not tried again until the spec changes or you retry.",
        annotations={names.ABORT: pending},
        cluster=pending,
    )


def _abort_rollout(objects: Objects, upgrade: Upgrade) -> Change:
    """Of pods that are replaced inside the cluster: the revision before is rolled out again."""
    applied = status_of(objects.service).applied
    value, former = str(upgrade.revision), applied.revision if applied else None
    if former is None:
        message = f"It is not known which revision all of {upgrade.target} ran before."
        return Change("abort", Outcome.NOTHING, message, "Turn the spec back to end the rollout.")
    if former == upgrade.revision or verbs.abort_asked(objects.service, value):
        return Change("abort", Outcome.ALREADY, f"The rollout in {upgrade.target} is going back already.")
    return Change(
        "abort",
        Outcome.CHANGE,
        f"The rollout of revision {value} in {upgrade.target} is given up, revision {former} is rolled out again. "
        "Not tried again until the spec changes or you retry.",
        annotations={names.ABORT: value},
        cluster=upgrade.target,
    )


def _no_upgrade(verb: str, status: Status) -> Change:
    return Change(verb, Outcome.NOTHING, f"No upgrade of {status.name} is under way.")


def retry(objects: Objects, token: str) -> Change:
    """Try once more what failed. ``token``: any value that was not there before."""
    status = status_of(objects.service)
    name = name_of(objects.service)
    if status.failed_update is not None:
        kind = "upgrade" if status.failed_update.cluster_hash else "serve config"
        message = f"The {kind} that failed is tried once more."
    elif status.recovery is not None and status.recovery.step == "Exhausted":
        message = "Auto-recovery counts from the start again."
    else:
        step = command(_namespace(objects), "explain", name)
        return Change("retry", Outcome.NOTHING, f"Nothing of {name} has failed and been given up.", step)
    # An abort of a rollout in place is about the revision, which is tried again.
    given_up = {names.ABORT: None} if names.ABORT in annotations_of(objects.service) else {}
    return Change("retry", Outcome.CHANGE, message, annotations={names.RETRY: token, **given_up})


def undo_to(objects: Objects, number: int | None, *, clear: bool = False) -> Change:
    """Put an earlier revision in force: that of ``number``, or the one before the one that is in force.

    clear: the present spec is in force again.
    """
    service, known = objects.service, revisions.by_number(objects.revisions)
    name = name_of(service)
    asked = undo.asked(service)
    in_force = undo.spec_in_force(service, objects.revisions)
    if clear:
        if not asked:
            return Change("undo", Outcome.ALREADY, f"The present spec of {name} is in force; nothing is undone.")
        return Change(
            "undo", Outcome.CHANGE, "The present spec is in force again.", annotations={names.UNDO: None}, revision=-1
        )
    numbers = [int(r.get("revision") or 0) for r in known]
    present = next((n for r, n in zip(known, numbers, strict=True) if _is_present(r, service)), 0)
    current = int(asked) if in_force is not None else present
    if number is None:
        earlier = [n for n in numbers if n < current]
        if not earlier:
            step = command(_namespace(objects), "history", name)
            return Change("undo", Outcome.NOTHING, f"There is no revision before the one in force ({current}).", step)
        number = earlier[-1]
    if number not in numbers:
        listed = ", ".join(map(str, numbers)) or "none yet"
        return Change("undo", Outcome.NOTHING, f"There is no revision {number}. Known are: {listed}.")
    if number == present and in_force is not None:
        return undo_to(objects, None, clear=True)
    if number == current:
        return Change("undo", Outcome.ALREADY, f"Revision {number} is in force already.", revision=number)
    return Change(
        "undo",
        Outcome.CHANGE,
        f"Revision {number} is in force in place of the present spec, until the spec changes or `undo --clear`.",
        annotations={names.UNDO: str(number)},
        revision=number,
    )


def _namespace(objects: Objects) -> str:
    return str(objects.service["metadata"].get("namespace") or "default")


def _is_present(revision: Manifest, service: Manifest) -> bool:
    return revisions.hash_of(revision) == present_hash(service)


# --- what --wait waits for


class Waited(enum.Enum):
    """Where a change that was asked for stands."""

    GOING_ON = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


def waited(change: Change, objects: Objects) -> tuple[Waited, str]:
    """Whether what was asked for has come about, and where it is in a few words."""
    return _WAITED[change.verb](change, objects, build(objects))


def _paused_now(_: Change, objects: Objects, status: Status) -> tuple[Waited, str]:
    upgrade = status.upgrade
    if upgrade is None or not upgrade.under_way:
        return Waited.DONE, "Nothing is under way; the next upgrade will wait."
    recorded = status_of(objects.service).upgrade
    if recorded is not None and recorded.paused:
        return Waited.DONE, f"Paused: {upgrade.waits}"
    return Waited.GOING_ON, f"{upgrade.phase}: {upgrade.waits}"


def _settled(change: Change, objects: Objects, status: Status) -> tuple[Waited, str]:
    """Until nothing is under way: after resume, retry, undo."""
    stored: Mapping[str, Any] = objects.service.get("status") or {}
    if change.verb == "undo" and not _undo_seen(change, stored):
        return Waited.GOING_ON, "The operator has not taken it up yet."
    if change.verb == "retry" and _retry_unseen(objects.service, stored):
        return Waited.GOING_ON, "The operator has not taken it up yet."
    if change.verb == "resume" and ((stored.get("upgrade") or {}).get("paused")):
        return Waited.GOING_ON, "The operator has not taken it up yet."
    if (failed := stored.get("failedUpdate")) and change.verb == "retry":
        return Waited.FAILED, f"It failed again: {failed.get('message') or ''}"
    if status.upgrade is not None and status.upgrade.under_way:
        return Waited.GOING_ON, f"{status.upgrade.phase} {status.upgrade.percent}%: {status.upgrade.waits}"
    if not status.observed or any(c.type == "Reconciling" and c.status == "True" for c in status.conditions):
        return Waited.GOING_ON, status.message
    if status.upgrade is not None and status.upgrade.phase == UpgradePhase.ABORTED and change.verb == "resume":
        return Waited.FAILED, f"The upgrade was aborted: {status.upgrade.waits}"
    return (Waited.DONE, status.message) if status.ready == "True" else (Waited.GOING_ON, status.message)


def _undo_seen(change: Change, stored: Mapping[str, Any]) -> bool:
    value = (stored.get("undone") or {}).get("value")
    return value is None if change.revision < 0 else value == str(change.revision)


def _retry_unseen(service: Manifest, stored: Mapping[str, Any]) -> bool:
    """The failure that is remembered was remembered under an earlier value of the annotation."""
    failed = stored.get("failedUpdate")
    return failed is not None and failed.get("retry", "") != annotations_of(service).get(names.RETRY, "")


def _promoted(change: Change, _: Objects, status: Status) -> tuple[Waited, str]:
    roles = {c.role: c.name for c in status.clusters}
    if roles.get("active") == change.cluster:
        return Waited.DONE, f"{change.cluster} is active."
    if roles.get("pending") != change.cluster:
        return Waited.FAILED, f"{change.cluster} is gone and was not promoted. {status.message}"
    upgrade = status.upgrade
    return Waited.GOING_ON, f"{upgrade.phase} {upgrade.percent}%: {upgrade.waits}" if upgrade else status.message


def _aborted(change: Change, _: Objects, status: Status) -> tuple[Waited, str]:
    roles = {c.role: c.name for c in status.clusters}
    upgrade = status.upgrade
    if upgrade is not None and upgrade.source == upgrade.target == change.cluster:
        return _rollout_aborted(upgrade)
    if roles.get("active") == change.cluster:
        return Waited.FAILED, f"{change.cluster} had been promoted already."
    if roles.get("pending") != change.cluster:
        return Waited.DONE, f"{change.cluster} was given up; {roles.get('active', 'no cluster')} serves."
    return Waited.GOING_ON, status.upgrade.waits if status.upgrade else status.message


def _rollout_aborted(upgrade: Upgrade) -> tuple[Waited, str]:
    if upgrade.phase == RollPhase.COMPLETED:
        return Waited.FAILED, f"All pods of {upgrade.target} had been replaced already."
    told = Waited.GOING_ON if upgrade.under_way else Waited.DONE
    return told, upgrade.waits


_WAITED: Final = {
    "pause": _paused_now,
    "resume": _settled,
    "retry": _settled,
    "undo": _settled,
    "promote": _promoted,
    "abort": _aborted,
}
