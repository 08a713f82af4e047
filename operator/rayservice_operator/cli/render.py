"""What the renderers share: colours of words, tables without lines, and headings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NARROW: Final = 70
"""Below so many columns, tables leave out what matters least."""

_GOOD, _BUSY, _BAD, _QUIET = "green", "yellow", "red", "dim"

STYLES: Final[Mapping[str, str]] = {
    # Ready
    "True": _GOOD,
    "False": _BAD,
    "Unknown": _BUSY,
    # Applications and deployments, as Ray Serve writes them
    "RUNNING": _GOOD,
    "HEALTHY": _GOOD,
    "DEPLOYING": _BUSY,
    "UPDATING": _BUSY,
    "UPSCALING": _BUSY,
    "DOWNSCALING": _BUSY,
    "NOT_STARTED": _BUSY,
    "DELETING": _BUSY,
    "UNHEALTHY": _BAD,
    "DEPLOY_FAILED": _BAD,
    # Upgrades
    "Promoted": _GOOD,
    "Completed": _GOOD,
    "Aborted": _BAD,
    "RollStopped": _BAD,
    "Refused": _BAD,
    "GoingBack": _BAD,
    "Paused": "magenta",
    # Checks
    "Successful": _GOOD,
    "Failed": _BAD,
    "Inconclusive": _BUSY,
    "Pending": _BUSY,
    # Pods
    "Running": "",
    "Terminating": _QUIET,
    # Causes and events
    "Warning": _BUSY,
    "Normal": _QUIET,
}
_GOOD_NEWS: Final = frozenset({"Stalled", "Reconciling", "Suspending", "Suspended", "RollbackInProgress"})
"""Conditions of which True is no good news."""


def plain(text: str | Text) -> Text:
    """A text of somebody else's: Rich would take what is in square brackets for markup, and leave it out."""
    return text if isinstance(text, Text) else Text(text)


def word(text: str, style: str | None = None) -> Text:
    """A word of the vocabulary in its colour; an unknown one in yellow where it may be trouble."""
    return Text(text, style=STYLES.get(text, _BUSY) if style is None else style)


def condition(type_: str, status: str) -> Text:
    """Status of a condition in its colour."""
    if type_ in _GOOD_NEWS:
        return Text(status, style=_BAD if (status == "True") == (type_ == "Stalled") and status == "True" else _QUIET)
    if type_ == "UpgradeInProgress":
        return Text(status, style=_BUSY if status == "True" else _QUIET)
    return word(status)


def heading(*parts: str | Text) -> Text:
    """Bold first part, the rest beside it with two spaces between; empty ones left out."""
    shown = [part if isinstance(part, Text) else Text(part) for part in parts if part]
    if shown:
        shown[0] = Text.assemble(shown[0], style="bold")
    return Text("  ").join(shown)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()) -> Table:
    """A table in kubectl's manner. A column is shown only if a row has something in it."""
    filled = [list(row) for row in rows]
    kept = [i for i, _ in enumerate(columns) if any(str(row[i]) for row in filled)] if filled else range(len(columns))
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)
    for i in kept:
        made.add_column(columns[i], justify="right" if columns[i] in right else "left", overflow="fold")
    for row in filled:
        made.add_row(*(plain(row[i]) for i in kept))
    return made


def indented(content: RenderableType, by: int = 2) -> Padding:
    """``content`` moved to the right."""
    return Padding(content, (0, 0, 0, by), expand=False)


def sections(parts: Iterable[RenderableType | None]) -> Group:
    """Parts with an empty line between them; None left out."""
    shown: list[RenderableType] = []
    for part in parts:
        if part is not None:
            shown += [Text(), part] if shown else [part]
    return Group(*shown)


def labelled(label: str, text: str, style: str = "") -> Table:
    """``label`` and a text that wraps beside it, never under it."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold", style=style)
    made.add_row(plain(f"{label}:"), plain(text))
    return made
