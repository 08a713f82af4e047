"""What the verbs that look show, at several widths, of states as the operator leaves them.

``UPDATE_GOLDEN=1 pytest tests/cli/test_golden.py`` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from rayservice_operator.cli import (
    render_explain,
    render_history,
    render_status,
    view_explain,
    view_history,
    view_status,
)
from rayservice_operator.cli.logtext import newest_error
from rayservice_operator.cli.view import Objects
from tests.cli import states

GOLDEN: Final = Path(__file__).parent / "golden"
Screen = Callable[[Objects, float, int], RenderableType]


def _status(objects: Objects, now: float, width: int) -> RenderableType:
    return render_status.screen(view_status.build(objects), now, width)


def _explain(objects: Objects, now: float, _: int) -> RenderableType:
    return render_explain.screen(view_explain.build(objects), now)


def _history(objects: Objects, now: float, _: int) -> RenderableType:
    return render_history.screen(view_history.build(objects), now)


def _list(objects: Objects, now: float, width: int) -> RenderableType:
    return render_status.listing([view_status.row(objects.service)], now, width, namespaces=False)


SCREENS: Final[dict[str, Screen]] = {"status": _status, "explain": _explain, "history": _history, "list": _list}
CASES: Final = (
    *(("status", name, 80) for name in states.MOMENTS),
    *(("status", name, width) for name in ("upgrading", "analysing", "rolled-back") for width in (40, 60, 120)),
    *(("explain", name, 80) for name in ("ready", "starting", "head-gone", "invalid", "stale", "no-room", "undone")),
    ("explain", "rolled-back", 40),
    *(("history", name, width) for name in ("promoted", "undone", "rolled-back") for width in (40, 80)),
    *(("list", "upgrading", width) for width in (40, 120)),
)


def drawn(screen: Screen, objects: Objects, now: float, width: int) -> str:
    """The text on a terminal of so many columns."""
    console = Console(width=width, highlight=False, force_terminal=False, no_color=True, file=io.StringIO())
    with console.capture() as taken:
        console.print(screen(objects, now, width))
    return "".join(f"{line.rstrip()}\n" for line in taken.get().splitlines())


def check(name: str, got: str) -> None:
    """Compare with the stored text."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(got)
    assert got == path.read_text(), f"{name} looks different; UPDATE_GOLDEN=1 writes the new one"


@pytest.mark.parametrize(("verb", "state", "width"), CASES)
def test_screen(verb: str, state: str, width: int) -> None:
    objects, now = states.reach(state)
    got = drawn(SCREENS[verb], objects, now, width)
    too_long = [line for line in got.splitlines() if cell_len(line) > width]
    assert not too_long, "wider than the terminal"
    check(f"{verb}-{state}-{width}", got)


@pytest.mark.parametrize("verb", ["status", "explain"])
def test_square_brackets_are_no_markup(verb: str) -> None:
    objects, now = states.reach("starting")
    told = "containers[ray] of [/x] and [red]this[/red]"
    objects.service["status"]["conditions"][0]["message"] = told
    app = objects.service["status"]["pendingServiceStatus"]["applicationStatuses"]["app0"]
    app["serveDeploymentStatuses"]["Main"] |= {"status": "UNHEALTHY", "message": told}
    app["status"] = "UNHEALTHY"
    assert told in drawn(SCREENS[verb], objects, now, 120)


@pytest.mark.parametrize("width", [40, 80])
def test_explain_of_a_crash_with_logs(width: int) -> None:
    objects, now = states.reach("starting")
    crash = states.waiting("CrashLoopBackOff", "back-off 40s", exitCode=1)
    states.with_pods(objects, crash, "gpu-worker")
    text = (Path(__file__).parent / "data" / "replica.log").read_text()
    block = newest_error("demo-24px8-gpu-worker-7thcb replica_app0_Main_x7k2p9q1.log", text)
    assert block is not None

    def screen(objects: Objects, now: float, _: int) -> RenderableType:
        return render_explain.screen(view_explain.build(objects, (block,)), now)

    check(f"explain-crash-{width}", drawn(screen, objects, now, width))
