"""Verbs that act on upgrades: ``pause``, ``resume``, ``promote``, ``abort``, ``retry``, ``undo``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.text import Text

from rayservice_operator.cli import changes
from rayservice_operator.cli.changes import Change, Outcome, Waited
from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.fetch import Cluster, connected
from rayservice_operator.cli.human import line
from rayservice_operator.cli.options import Cli, run, verb
from rayservice_operator.cli.verbs_look import Name
from rayservice_operator.cli.view import Objects
from rayservice_operator.core.timestamps import to_rfc3339

POLL_S: Final = 1.0
_PANEL: Final = "Act on upgrades"

Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has come about, and show where it is.")]
Timeout = Annotated[int, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest time for --wait.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only ask the API server whether it would be taken.")]
DEFAULT_TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb did, as ``-o json`` tells it. ``waited``: done or failed with ``--wait``, else empty."""

    verb: str
    namespace: str
    name: str
    outcome: Outcome
    message: str
    next: str
    annotations: dict[str, str | None]
    dry_run: bool
    waited: str = ""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    simple: dict[str, tuple[Callable[[Objects], Change], str]] = {
        "pause": (changes.pause, "Hold the upgrade where it is, or keep one from beginning."),
        "resume": (changes.resume, "Let a paused upgrade go on."),
        "promote": (changes.promote, "Let a proven new cluster take over now, whatever holds it back."),
        "abort": (changes.abort, "Give the upgrade up; the old cluster serves on."),
    }
    for word, (decide, text) in simple.items():
        _simple(app, word, decide, text)

    @verb(app, "retry", rich_help_panel=_PANEL)
    def retry(
        cli: Cli,
        name: Name,
        *,
        wait: Wait = False,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        dry_run: DryRun = False,
    ) -> int:
        """Try once more what failed and was given up."""
        token = to_rfc3339(cli.now())
        work = _act(cli, name, lambda o: changes.retry(o, token), wait=wait, limit_s=timeout, dry_run=dry_run)
        return run(work)

    @verb(app, "undo", rich_help_panel=_PANEL)
    def undo(
        cli: Cli,
        name: Name,
        *,
        to_revision: Annotated[
            int | None,
            typer.Option("--to-revision", metavar="N", min=1, help="Number in `history`; else the one before."),
        ] = None,
        clear: Annotated[bool, typer.Option("--clear", help="Take an undo back: the spec is in force again.")] = False,
        wait: Wait = False,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        dry_run: DryRun = False,
    ) -> int:
        """Put an earlier revision in force without editing the spec."""
        if clear and to_revision is not None:
            raise CliError(Exit.USAGE, "--clear and --to-revision do not go together.")
        return run(
            _act(
                cli,
                name,
                lambda o: changes.undo_to(o, to_revision, clear=clear),
                wait=wait,
                limit_s=timeout,
                dry_run=dry_run,
            )
        )


def _simple(app: typer.Typer, word: str, decide: Callable[[Objects], Change], text: str) -> None:
    @verb(app, word, rich_help_panel=_PANEL, help=text)
    def act(
        cli: Cli,
        name: Name,
        *,
        wait: Wait = False,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
        dry_run: DryRun = False,
    ) -> int:
        return run(_act(cli, name, decide, wait=wait, limit_s=timeout, dry_run=dry_run))


async def _act(
    cli: Cli, name: str, decide: Callable[[Objects], Change], *, wait: bool, limit_s: float, dry_run: bool
) -> int:
    async with connected(cli) as cluster:
        objects = await cluster.objects(name, history=True)
        change = decide(objects)
        if change.outcome is Outcome.CHANGE:
            await cluster.patch(objects.service, change.patch(), dry_run=dry_run)
        _tell(cli, change, dry_run=dry_run)
        waited = ""
        if wait and not dry_run and change.outcome is not Outcome.NOTHING:
            waited = await _wait(cli, cluster, name, change, limit_s)
        meta = objects.service["metadata"]
        if cli.json:
            result = Result(
                change.verb,
                meta.get("namespace", ""),
                name,
                change.outcome,
                change.message,
                change.step,
                dict(change.annotations or {}),
                dry_run,
                waited,
            )
            cli.show(result, lambda _: "")
    return Exit.NO if change.outcome is Outcome.NOTHING or waited == "failed" else Exit.OK


def _tell(cli: Cli, change: Change, *, dry_run: bool) -> None:
    if change.outcome is Outcome.NOTHING:
        cli.note(change.message, "yellow")
        if change.step:
            cli.note(change.step)
        return
    would = "Would be done: " if dry_run and change.outcome is Outcome.CHANGE else ""
    cli.say(f"{would}{change.message}")


async def _wait(cli: Cli, cluster: Cluster, name: str, change: Change, limit_s: float) -> str:
    """``done`` or ``failed``. Progress goes to stderr: on a terminal as one line that changes, else as lines."""
    console = cli.console(stderr=True)
    last = ""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    with console.status("…") as spinner:
        while True:
            state, where = changes.waited(change, await cluster.objects(name, history=True))
            if state is not Waited.GOING_ON:
                break
            if where != last:
                last = where
                if console.is_terminal:
                    spinner.update(Text(line(where, max(20, console.width - 4))))
                else:
                    cli.note(where)
            if loop.time() > until:
                step = "It goes on; look with `kubectl rayservice status`, or wait longer with --timeout."
                raise CliError(Exit.TIMEOUT, f"Not done after {limit_s:.0f} s. {where}", step)
            await asyncio.sleep(POLL_S)
    if state is Waited.FAILED:
        cli.note(where, "red")
        return "failed"
    cli.say(where, "green")
    return "done"
