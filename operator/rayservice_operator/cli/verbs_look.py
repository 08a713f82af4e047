"""Verbs that look: ``status``, ``explain``, ``history``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from rayservice_operator.cli import (
    render_explain,
    render_history,
    render_status,
    view_explain,
    view_history,
    view_status,
)
from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.fetch import Cluster, connected
from rayservice_operator.cli.options import Cli, run, verb
from rayservice_operator.cli.replicalogs import newest_errors

WATCH_S: Final = 2.0


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completion of NAME."""
    from rayservice_operator.cli.complete import services  # noqa: PLC0415  (only while completing)

    return services(ctx, incomplete)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the RayService.", autocompletion=names)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Name of a RayService; all when not given.", autocompletion=names)
]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""

    @verb(app, "status", rich_help_panel="Look")
    def status(
        cli: Cli,
        name: MaybeName = None,
        *,
        everywhere: Everywhere = False,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
        check: Annotated[
            bool, typer.Option("--check", help="Exit with 1 unless it (or each of them) is Ready.")
        ] = False,
    ) -> int:
        """Where RayServices stand: conditions, upgrade, applications, replicas, pods."""
        if name and everywhere:
            raise CliError(Exit.USAGE, "A NAME and -A do not go together.", "Name its namespace with -n.")
        return run(_status(cli, name, everywhere=everywhere, watch=watch, check=check))

    @verb(app, "explain", rich_help_panel="Look")
    def explain(
        cli: Cli,
        name: Name,
        *,
        logs: Annotated[bool, typer.Option("--logs/--no-logs", help="Look for errors in replica logs.")] = True,
    ) -> int:
        """Why a RayService is not Ready: the most likely cause first, and what to do."""
        return run(_explain(cli, name, logs=logs))

    @verb(app, "history", rich_help_panel="Look")
    def history(cli: Cli, name: Name) -> int:
        """Revisions of a RayService: when, what changed, which one is in force."""
        return run(_history(cli, name))


async def _status(cli: Cli, name: str | None, *, everywhere: bool, watch: bool, check: bool) -> int:
    async with connected(cli) as cluster:
        if watch:
            return await _watch(cli, cluster, name, everywhere=everywhere)
        view, screen, ready = await _look(cli, cluster, name, everywhere=everywhere)
        cli.show(view, screen)
        return Exit.NO if check and not ready else Exit.OK


_Looked = tuple[object, Callable[[int], RenderableType], bool]


async def _look(cli: Cli, cluster: Cluster, name: str | None, *, everywhere: bool) -> _Looked:
    if name is None:
        rows = [view_status.row(service) for service in await cluster.services(everywhere=everywhere)]
        ready = all(row.ready == "True" for row in rows)
        if not rows and not cli.json:
            where = "any namespace" if everywhere else f"namespace {cluster.namespace}"
            return rows, lambda _: Text(f"No RayServices in {where}."), ready
        return rows, lambda width: render_status.listing(rows, cli.now(), width, namespaces=everywhere), ready
    view = view_status.build(await cluster.objects(name))
    return view, lambda width: render_status.screen(view, cli.now(), width), view.ready == "True" and view.observed


async def _watch(cli: Cli, cluster: Cluster, name: str | None, *, everywhere: bool) -> int:
    console = cli.console()
    if not console.is_terminal or cli.json:  # one picture after another, each only when it differs
        last = None
        while True:
            view, screen, _ = await _look(cli, cluster, name, everywhere=everywhere)
            if view != last:
                cli.show(view, screen)
                last = view
            await asyncio.sleep(WATCH_S)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                _, screen, _ = await _look(cli, cluster, name, everywhere=everywhere)
                live.update(screen(console.width), refresh=True)
            except CliError as error:
                if error.code is not Exit.UNREACHABLE:
                    raise
                live.update(Text(error.message, style="red"), refresh=True)
            await asyncio.sleep(WATCH_S)


async def _explain(cli: Cli, name: str, *, logs: bool) -> int:
    async with connected(cli) as cluster:
        objects = await cluster.objects(name, events=True)
        found, missing = await newest_errors(cli, cluster, objects) if logs else ((), "")
        view = view_explain.build(objects, found, missing)
    cli.show(view, lambda _: render_explain.screen(view, cli.now()))
    return Exit.OK


async def _history(cli: Cli, name: str) -> int:
    async with connected(cli) as cluster:
        view = view_history.build(await cluster.objects(name, history=True))
    cli.show(view, lambda _: render_history.screen(view, cli.now()))
    return Exit.OK
