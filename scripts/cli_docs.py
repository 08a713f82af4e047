"""Writes what docs/cli.md takes from the code: the options of each verb, examples, pictures; ``--check`` only compares.

Examples are of states that the operator reaches in the simulation, so they change when the operator does.
"""

from __future__ import annotations

import copy
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console, RenderableType

from rayservice_operator.api import names
from rayservice_operator.cli import (
    merge,
    render_explain,
    render_history,
    render_plan,
    render_status,
    view_explain,
    view_history,
    view_plan,
    view_status,
)
from rayservice_operator.cli.app import build
from rayservice_operator.cli.logtext import newest_error
from rayservice_operator.cli.options import SHARED
from rayservice_operator.core.objects import Manifest, labels_of
from rayservice_operator.service.preview import Live
from scripts.generated import ROOT, run
from tests.cli import states

PAGE: Final = ROOT / "docs" / "cli.md"
PICTURES: Final = ROOT / "docs" / "images"
LOG: Final = ROOT / "tests" / "cli" / "data" / "replica.log"
_FONT: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono"
_PART: Final = re.compile(r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)

Screen = Callable[[int], RenderableType]


# --- screens


def _status(state: str) -> Screen:
    objects, now = states.reach(state)
    view = view_status.build(objects)
    return lambda width: render_status.screen(view, now, width)


def _crash() -> Screen:
    objects, now = states.reach("starting")
    states.with_pods(objects, states.waiting("CrashLoopBackOff", "back-off 40s", exitCode=1), "gpu-worker")
    block = newest_error("demo-24px8-gpu-worker-7thcb replica_app0_Main_x7k2p9q1.log", LOG.read_text(encoding="utf-8"))
    assert block is not None
    view = view_explain.build(objects, (block,))
    return lambda _: render_explain.screen(view, now)


def _history() -> Screen:
    objects, now = states.reach("promoted")
    view = view_history.build(objects)
    return lambda _: render_history.screen(view, now)


def _plan() -> Screen:
    objects, now = states.reach("ready")
    wanted: Manifest = copy.deepcopy(objects.service)
    wanted["spec"]["serveConfigV2"] = wanted["spec"]["serveConfigV2"].replace("num_replicas: 2", "num_replicas: 3")
    pods: dict[str, tuple[Any, ...]] = {}
    for pod in objects.pods:
        cluster = labels_of(pod)[names.CLUSTER]
        pods[cluster] = (*pods.get(cluster, ()), pod)
    seen = Live(clusters=objects.clusters, pods=pods, revisions=objects.revisions, now=now)
    view = view_plan.build(objects.service, merge.applied(objects.service, wanted), seen)
    return lambda _: render_plan.screen(view)


EXAMPLES: Final[dict[str, tuple[str, Callable[[], Screen]]]] = {
    "status": ("kubectl rayservice status demo", lambda: _status("upgrading")),
    "explain": ("kubectl rayservice explain demo", _crash),
    "history": ("kubectl rayservice history demo", _history),
    "plan": ("kubectl rayservice plan demo.yaml", _plan),
}
"""By name: the command and its screen, at 80 columns."""

SHOTS: Final[dict[str, tuple[str, int, Callable[[], Screen]]]] = {
    "cli-status": ("kubectl rayservice status demo", 100, lambda: _status("analysing")),
    "cli-status-narrow": ("60 columns", 60, lambda: _status("analysing")),
    "cli-explain": ("kubectl rayservice explain demo", 100, _crash),
    "cli-explain-narrow": ("60 columns", 60, _crash),
    "cli-plan": ("kubectl rayservice plan demo.yaml", 100, _plan),
}
"""Pictures: title and columns."""


def _text(screen: Screen, width: int = 80) -> str:
    console = Console(width=width, highlight=False, no_color=True, file=io.StringIO())
    with console.capture() as taken:
        console.print(screen(width))
    return "".join(f"{row.rstrip()}\n" for row in taken.get().splitlines())


def picture(name: str) -> str:
    """The SVG of one of SHOTS."""
    title, width, screen = SHOTS[name]
    console = Console(
        record=True, width=width, highlight=False, force_terminal=True, file=io.StringIO(), color_system="truecolor"
    )
    console.print(screen()(width))
    svg = console.export_svg(title=title, unique_id=name)
    # Rich loads its font from the web; a picture in a repository should need nothing but itself.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", _FONT)
    return "".join(f"{row.rstrip()}\n" for row in svg.splitlines())


# --- options


def _verbs() -> Iterator[str]:
    """A table of each verb's own options, from the command line itself."""
    shared = {parameter.name for parameter in SHARED}
    group: Any = typer.main.get_command(build())
    for name, command in group.commands.items():
        own = [p for p in command.params if p.name not in shared and p.name != "help"]
        if name in {"run", "version"}:
            continue
        usage = " ".join([name, *(p.metavar or "" for p in own if p.param_type_name == "argument")])
        yield f"**`{usage.replace('{', '').replace('}', '')}`** {_sentence(command.help)}"
        yield ""
        options = [p for p in own if p.param_type_name == "option"]
        if options:
            yield "| option | |"
            yield "|---|---|"
            yield from (_row(option) for option in options)
            yield ""


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _row(option: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    value = f" `{option.metavar}`".replace("|", "\\|") if option.metavar and not option.is_flag else ""
    default = option.default
    told = "" if option.is_flag or default is None or default == "" else f" Default `{default}`."
    return f"| {flags}{value} | {_sentence(option.help)}{told} |"


# --- the page


def part(name: str) -> str:
    """The generated part of that name."""
    if name == "verbs":
        return "\n".join(_verbs())
    command, screen = EXAMPLES[name]
    return f"```\n$ {command}\n{_text(screen())}```\n"


def page(text: str) -> str:
    """The page with all parts as they are now."""
    return _PART.sub(lambda match: f"{match[1]}{part(match[2])}{match[4]}", text)


def files() -> dict[Path, str]:
    """The page and the pictures."""
    pictures = {PICTURES / f"{name}.svg": picture(name) for name in SHOTS}
    return {PAGE: page(PAGE.read_text(encoding="utf-8")), **pictures}


if __name__ == "__main__":
    sys.exit(run(files()))
