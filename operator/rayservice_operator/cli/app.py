"""``kubectl rayservice``: one Typer application, its verbs in modules by group."""

from __future__ import annotations

import inspect
import io
import os
import sys
from typing import Any, Final

import typer

from rayservice_operator.cli import verbs_act, verbs_look, verbs_reach, verbs_write
from rayservice_operator.cli.environment import operator_version
from rayservice_operator.cli.options import SHARED, Options

HELP = """See, explain and steer RayServices.

Exit codes: 0 done, 1 no (not Ready with --check, differences in plan, nothing to act on), 2 wrong usage, 3 no cluster,
4 not found, 5 not permitted, 6 refused, 7 --wait ran out of time."""


_OPERATOR: Final = "The operator"
PROGRAM: Final = "kubectl-rayservice"
COMPLETE_VARIABLE: Final = "_KUBECTL_RAYSERVICE_COMPLETE"
"""By which the script that --install-completion writes for :data:`PROGRAM` asks for offers."""

_COMPLETION: Final = frozenset({"--install-completion", "--show-completion"})


def build() -> typer.Typer:
    """The application with all verbs."""
    app = typer.Typer(
        name="kubectl rayservice",
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_shared())
    for group in (verbs_look, verbs_act, verbs_write, verbs_reach):
        group.register(app)
    app.command("version", help="Print the version.", rich_help_panel=_OPERATOR)(_version)
    app.command("run", help="Run the operator until it is told to stop.", rich_help_panel=_OPERATOR)(_run)
    return app


def _version() -> None:
    typer.echo(operator_version())


def _run() -> None:
    from rayservice_operator.cli.main import run  # noqa: PLC0415  (main imports this module)

    raise typer.Exit(run(os.environ))


def _shared() -> Any:
    """The options before the verb."""

    def shared(ctx: typer.Context, **given: Any) -> None:
        ctx.obj = Options(**given)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    signature = inspect.Signature([context, *SHARED])
    shared.__signature__ = signature  # type: ignore[attr-defined]
    shared.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return shared


def main(argv: list[str]) -> int:
    """Run a command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no reason to say nothing
            stream.reconfigure(errors="replace")
    # In help the command is called what people type; completion goes by the name of the program.
    about_completion = COMPLETE_VARIABLE in os.environ or bool(_COMPLETION & set(argv))
    try:
        code = build()(args=argv, prog_name=PROGRAM if about_completion else PROGRAM.replace("-", " "))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return int(code or 0)
