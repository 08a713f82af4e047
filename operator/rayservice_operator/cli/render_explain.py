"""``explain`` on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rayservice_operator.cli.human import age, line
from rayservice_operator.cli.logtext import ErrorBlock
from rayservice_operator.cli.render import heading, indented, labelled, sections, word
from rayservice_operator.cli.view_explain import Cause, Event, Explanation

_DETAIL = 700
_READY = {
    "True": ("is Ready", "green"),
    "False": ("is not Ready", "red"),
    "Unknown": ("may be Ready or not: nobody knows now", "yellow"),
}


def screen(explanation: Explanation, now: float) -> RenderableType:
    """Causes, then what events and logs say."""
    return sections(
        [
            _head(explanation),
            *(_cause(number, cause, now) for number, cause in enumerate(explanation.causes, 1)),
            *(_log(block) for block in explanation.logs),
            Text(explanation.logs_missing, style="dim") if explanation.logs_missing else None,
            _events(explanation.events, now) if explanation.events else None,
        ]
    )


def _head(explanation: Explanation) -> Group:
    ready = explanation.ready == "True"
    told, style = _READY.get(explanation.ready, _READY["False"])
    words = Text(told, style=style)
    lines: list[RenderableType] = [Text.assemble((explanation.name, "bold"), " ", words)]
    if ready and not explanation.causes:
        lines.append(Text(f"{explanation.message} Nothing stands in its way."))
    elif ready:
        lines.append(Text("It serves. What is not as it should be:"))
    elif explanation.causes:
        lines.append(Text("The most likely cause comes first.", style="dim"))
    return Group(*lines)


def _cause(number: int, cause: Cause, now: float) -> Group:
    since = f"for {age(cause.since, now)}" if cause.since else ""
    parts: list[RenderableType] = [
        heading(f"{number}. {cause.title}", Text(since, style="dim")),
        indented(labelled("where", cause.where), 3),
    ]
    if cause.detail:
        parts.append(indented(labelled("why", line(cause.detail, _DETAIL)), 3))
    if cause.step:
        parts.append(indented(labelled("next", cause.step, "cyan"), 3))
    return Group(*parts)


def _log(block: ErrorBlock) -> Group:
    lines = [Text(entry, overflow="fold") for entry in block.lines]
    return Group(heading("Newest error", Text(block.source, style="dim")), *(indented(entry) for entry in lines))


def _events(events: tuple[Event, ...], now: float) -> Group:
    parts: list[RenderableType] = [heading("Events")]
    for event in events:
        times = f" ({event.count} times)" if event.count > 1 else ""
        shown = Text.assemble(
            (f"{age(event.time, now) or '?':>6}  ", "dim"), word(event.type), f" {event.reason} ", (event.about, "dim")
        )
        parts += [shown, indented(Text(f"{event.message}{times}"), 8)]
    return Group(*parts)
