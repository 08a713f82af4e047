"""Options that every verb has, before or behind it, and what a verb works with."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console, RenderableType

from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.view import to_json

T = TypeVar("T")
_PANEL: Final = "Which cluster, and how it is shown"
PIPE_WIDTH: Final = 200
"""Columns where the output is no terminal and COLUMNS says nothing: lines are for programs then, not for the eye."""


class Output(enum.StrEnum):
    """Forms of ``-o``."""

    TEXT = "text"
    JSON = "json"


@dataclass(slots=True)
class Options:
    """The shared options as given; None where they were not."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    output: Output | None = None
    no_color: bool | None = None


def _param(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    from rayservice_operator.cli.complete import namespaces  # noqa: PLC0415  (only while completing)

    return namespaces(ctx, incomplete)


def _contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    from rayservice_operator.cli.complete import contexts  # noqa: PLC0415

    return contexts(ctx, incomplete)


SHARED: Final = (
    _param(
        "namespace",
        Annotated[
            str | None,
            typer.Option(
                "--namespace",
                "-n",
                metavar="NAME",
                help="Namespace; that of the context when not given.",
                rich_help_panel=_PANEL,
                autocompletion=_namespaces,
            ),
        ],
    ),
    _param(
        "context",
        Annotated[
            str | None,
            typer.Option(
                "--context",
                metavar="NAME",
                help="Context of the kubeconfig.",
                rich_help_panel=_PANEL,
                autocompletion=_contexts,
            ),
        ],
    ),
    _param(
        "kubeconfig",
        Annotated[
            str | None,
            typer.Option(
                "--kubeconfig",
                metavar="FILE",
                help="Kubeconfig; else KUBECONFIG, ~/.kube/config, the pod's service account.",
                rich_help_panel=_PANEL,
            ),
        ],
    ),
    _param(
        "output",
        Annotated[
            Output | None,
            typer.Option("--output", "-o", metavar="|".join(Output), help="text by default.", rich_help_panel=_PANEL),
        ],
    ),
    _param(
        "no_color",
        Annotated[
            bool | None,
            typer.Option("--no-color", help="No colours; NO_COLOR does the same.", rich_help_panel=_PANEL),
        ],
    ),
)


@dataclass(slots=True)
class Cli:
    """What a verb works with: its options, the two streams, and the clock."""

    options: Options = field(default_factory=Options)
    now: Callable[[], float] = time.time

    @property
    def json(self) -> bool:
        """Whether JSON is wanted."""
        return self.options.output is Output.JSON

    def console(self, *, stderr: bool = False) -> Console:
        """A stream as Rich sees it: colours on a terminal only, its width, or a wide one in a pipe."""
        stream = sys.stderr if stderr else sys.stdout
        wide = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
        plain = True if self.options.no_color else None  # None: as NO_COLOR says
        return Console(stderr=stderr, width=wide, no_color=plain, highlight=False, soft_wrap=False)

    def say(self, text: str, style: str = "") -> None:
        """One line on stdout; nothing with ``-o json``, where only the view is printed."""
        if not self.json:
            self.console().print(text, style=style, markup=False, soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """One line on stderr."""
        self.console(stderr=True).print(text, style=style, markup=False, soft_wrap=True)

    def show(self, view: Any, screen: Callable[[int], RenderableType]) -> None:
        """A view, as JSON or as what ``screen`` makes of it at a width in columns."""
        if self.json:
            sys.stdout.write(json.dumps(to_json(view), indent=2, ensure_ascii=False) + "\n")
            return
        made = self.console()
        if made.is_terminal:
            made.print(screen(made.width))
            return
        with made.capture() as taken:
            made.print(screen(made.width))
        # Tables fill their last column with spaces, which only a terminal hides.
        sys.stdout.write("".join(f"{row.rstrip()}\n" for row in taken.get().splitlines()))


def run(work: Coroutine[Any, Any, T]) -> T:
    """The one place where a verb's I/O is run."""
    return asyncio.run(work)


def verb(app: typer.Typer, name: str, **more: Any) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a function a verb: it gets a :class:`Cli` first, and what it returns is the exit code (None: 0).

    The shared options are added to its own, so that they may stand before or behind the verb; behind wins.
    """

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True)
        _, *rest = own.parameters.values()

        @functools.wraps(function)
        def called(ctx: typer.Context, **given: Any) -> None:
            options = merged(ctx.obj, {f.name: given.pop(f.name) for f in fields(Options)})
            code = guarded(lambda cli: function(cli, **given), Cli(options))
            if code:
                raise typer.Exit(int(code))

        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        signature = inspect.Signature([context, *rest, *SHARED])
        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        del called.__wrapped__  # or its signature would count
        app.command(name, **more)(called)
        return called

    return register


def merged(before: Options | None, behind: dict[str, Any]) -> Options:
    """The options before the verb, with those behind it in their place."""
    result = Options() if before is None else Options(**{f.name: getattr(before, f.name) for f in fields(Options)})
    for name, value in behind.items():
        if value is not None:
            setattr(result, name, value)
    return result


def guarded(work: Callable[[Cli], int | None], cli: Cli) -> int:
    """The exit code of ``work``; what cannot be done is told in one line and the next step."""
    try:
        return int(work(cli) or Exit.OK)
    except CliError as error:
        cli.note(f"Error: {error.message}", "red")
        if error.step:
            cli.note(error.step)
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
