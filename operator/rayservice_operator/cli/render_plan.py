"""``plan`` on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayservice_operator.cli.render import heading, plain, sections
from rayservice_operator.cli.view_plan import Plan

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def screen(plan: Plan) -> RenderableType:
    """The diff, then what applying the file does."""
    return sections(
        [
            *_state(plan),
            Group(*(_diff_line(row) for row in plan.diff)) if plan.diff and plan.exists else None,
            Group(heading("The API server refuses it"), _bullets(plan.refused, "red")) if plan.refused else None,
            Group(heading("Applying it"), _bullets(plan.does)),
            Text(plan.unasked, style="yellow") if plan.unasked else None,
        ]
    )


def _state(plan: Plan) -> list[RenderableType]:
    if not plan.exists:
        return [Text(f"RayService {plan.name} is not there; it would be created in namespace {plan.namespace}.")]
    if not plan.diff:
        return [Text(f"RayService {plan.name} is as the file says.", style="green")]
    return []


def _diff_line(row: str) -> Text:
    if row.startswith(("+++", "---")):
        return Text(row, style="bold")
    return Text(row, style=_STYLES.get(row[:1], ""), overflow="fold")


def _bullets(sentences: tuple[str, ...], style: str = "") -> Table:
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold", style=style)
    for sentence in sentences:
        made.add_row("•", plain(sentence))
    return made
