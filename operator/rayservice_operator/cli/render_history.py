"""``history`` on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rayservice_operator.cli.human import age
from rayservice_operator.cli.render import heading, indented, sections
from rayservice_operator.cli.view_history import Change, History, Revision

_MARKS = {"active": "green", "spec": "cyan", "failed": "red", "good": "green"}
_WORDS = {"active": "in force", "spec": "present spec", "failed": "failed", "good": "last good config"}


def screen(history: History, now: float) -> RenderableType:
    """Revisions, newest first, with what changed in each."""
    if not history.revisions:
        return Text("No revisions yet: the operator has not accepted a spec of it.")
    return sections(
        _revision(revision, now, first=index == len(history.revisions) - 1)
        for index, revision in enumerate(history.revisions)
    )


def _revision(revision: Revision, now: float, *, first: bool) -> Group:
    marks = Text(", ").join(Text(_WORDS[mark], style=_MARKS[mark]) for mark in revision.marks)
    title = heading(f"Revision {revision.number}", marks, Text(f"{age(revision.created, now)} ago", style="dim"))
    if first and not revision.changes:
        return Group(title, indented(Text(revision.image, style="dim")))
    parts = [indented(_change(change)) for change in revision.changes]
    if revision.more_changes:
        parts.append(indented(Text(f"and {revision.more_changes} more", style="dim")))
    return Group(title, *parts)


def _change(change: Change) -> Text:
    if change.before is None:
        return Text.assemble((change.path, "cyan"), ": ", (f"{change.after}", "green"), " (added)")
    if change.after is None:
        return Text.assemble((change.path, "cyan"), ": ", (f"{change.before}", "red"), " (removed)")
    return Text.assemble((change.path, "cyan"), ": ", (change.before, "red"), " → ", (change.after, "green"))
