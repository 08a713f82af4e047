"""What lint and the preview have to say of a spec as it is taken up: the webhook's words, where it was not asked.

Told once for each spec, with the write that makes it a revision. What a new cluster costs is announced by the strategy
itself; here it is what a change does to the applications of the cluster that serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator import lint
from rayservice_operator.api import names
from rayservice_operator.core.decision import Level, Note
from rayservice_operator.core.findings import Severity
from rayservice_operator.core.objects import Manifest, annotations_of, name_of
from rayservice_operator.service import revisions
from rayservice_operator.service.context import Context
from rayservice_operator.service.preview import Kind, Live, preview

MAX_TOLD: Final = 10
"""Findings that become events; the rest is counted."""

_REASONS: Final = {Severity.ERROR: "LintError", Severity.WARNING: "LintWarning"}
_TOLD_BY_PREVIEW: Final = frozenset({Kind.HOT_UPDATE, Kind.IN_PLACE})


def notes(context: Context) -> list[Note]:
    """Findings of the present spec, and what it changes; empty where there is nothing to say."""
    return [*_findings(context), *_effect(context)]


def _findings(context: Context) -> Iterator[Note]:
    service = context.service
    declared: Manifest = {
        "apiVersion": names.API_VERSION,
        "kind": "RayService",
        "metadata": {"name": name_of(service), "annotations": annotations_of(service)},
        "spec": service["spec"],
    }
    found = lint.faults(declared)
    for finding in found[:MAX_TOLD]:
        yield Note(_REASONS[finding.severity], lint.told(finding), Level.WARNING)
    if len(found) > MAX_TOLD:
        words = f"and {len(found) - MAX_TOLD} more: `kubectl rayservice lint FILE` shows all of them."
        yield Note(_REASONS[Severity.WARNING], words, Level.WARNING)


def _effect(context: Context) -> Iterator[Note]:
    """What the change from the newest revision does, where it does something to applications that serve."""
    history = revisions.by_number(context.snapshot.revisions)
    if not history or not context.active_name:
        return
    former = {**context.service, "spec": revisions.spec_of(history[-1], context.service)}
    snapshot = context.snapshot
    live = Live(
        clusters=snapshot.clusters,
        pods=snapshot.pods,
        revisions=snapshot.revisions,
        observations=snapshot.observations,
        config=context.config,
        now=context.now,
    )
    told = preview(former, context.service, live=live)
    if told.kind in _TOLD_BY_PREVIEW and told.changes_anything:
        yield Note("ChangePreview", " ".join(told.lines()))
