"""What the shell offers while a command line is typed. Never an error: no cluster, no offers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import typer

from rayservice_operator.cli import kubeconfig
from rayservice_operator.cli.errors import CliError
from rayservice_operator.cli.fetch import connected
from rayservice_operator.cli.options import Cli, Options, merged
from rayservice_operator.core.objects import name_of
from rayservice_operator.kube.errors import ApiError

T = TypeVar("T")
TIMEOUT_S: Final = 3.0
"""Nobody waits longer for a Tab."""


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of RayServices in the namespace typed so far."""

    async def look(cli: Cli) -> list[str]:
        async with connected(cli, timeout_s=TIMEOUT_S) as cluster:
            return [name_of(service) for service in await cluster.services()]

    return _offered(look(_cli(ctx)), incomplete)


def namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Namespaces that have RayServices."""

    async def look(cli: Cli) -> list[str]:
        async with connected(cli, timeout_s=TIMEOUT_S) as cluster:
            return [str(o["metadata"].get("namespace")) for o in await cluster.services(everywhere=True)]

    return _offered(look(_cli(ctx)), incomplete)


def contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Contexts of the kubeconfig."""
    try:
        found = kubeconfig.contexts(_cli(ctx).options.kubeconfig or "", os.environ)
    except CliError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def _cli(ctx: typer.Context) -> Cli:
    given = {key: value for key, value in ctx.params.items() if key in Options.__dataclass_fields__}
    before = ctx.parent.params if ctx.parent is not None else {}
    shared = {key: value for key, value in before.items() if key in Options.__dataclass_fields__}
    return Cli(merged(merged(None, shared), given))


def _offered(look: Coroutine[Any, Any, list[str]], incomplete: str) -> list[str]:
    try:
        found = asyncio.run(asyncio.wait_for(look, TIMEOUT_S))
    except (CliError, ApiError, TimeoutError, OSError):
        return []
    return sorted({name for name in found if name.startswith(incomplete)})
