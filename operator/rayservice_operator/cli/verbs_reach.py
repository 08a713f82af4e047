"""Verbs that reach into the cluster: ``logs`` and ``open``."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.text import Text

from rayservice_operator.api import names
from rayservice_operator.cli import kubectl as kubectls
from rayservice_operator.cli import replicalogs
from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.fetch import Cluster, connected, translated
from rayservice_operator.cli.human import clean
from rayservice_operator.cli.kubectl import Kubectl
from rayservice_operator.cli.options import Cli, run, verb
from rayservice_operator.cli.replicalogs import Where
from rayservice_operator.cli.verbs_look import Name
from rayservice_operator.cli.view import Objects, cluster_names, command
from rayservice_operator.kube.errors import NotFound
from rayservice_operator.kube.resources import reference

_PANEL: Final = "Reach into the cluster"


def register(app: typer.Typer) -> None:
    """Add the verbs."""

    @verb(app, "logs", rich_help_panel=_PANEL)
    def logs(
        cli: Cli,
        name: Name,
        *,
        application: Annotated[str, typer.Option("--app", "-a", metavar="NAME", help="Of this application only.")] = "",
        deployment: Annotated[
            str, typer.Option("--deployment", "-d", metavar="NAME", help="Of this deployment only.")
        ] = "",
        follow: Annotated[
            bool, typer.Option("--follow", "-f", help="Go on with what is written until Ctrl-C.")
        ] = False,
        tail: Annotated[int, typer.Option("--tail", metavar="LINES", min=0, help="Newest lines of each replica.")] = 20,
    ) -> int:
        """Logs of the replicas of a deployment (Ray Serve writes them to files in the pods)."""
        return run(_logs(cli, name, application, deployment, follow=follow, tail=tail))

    @verb(app, "open", rich_help_panel=_PANEL)
    def open_(
        cli: Cli,
        name: Name,
        *,
        dashboard: Annotated[bool, typer.Option("--dashboard", help="Ray's dashboard (default).")] = False,
        serve: Annotated[bool, typer.Option("--serve", help="The service that answers requests.")] = False,
        port: Annotated[
            int, typer.Option("--port", "-p", min=0, max=65535, help="Local port; 0: the same, or a free one.")
        ] = 0,
        browser: Annotated[bool, typer.Option("--browser", help="Open the URL in a browser as well.")] = False,
    ) -> int:
        """Forward a local port to the dashboard or the service until Ctrl-C, and print the URL."""
        if dashboard and serve:
            raise CliError(Exit.USAGE, "Choose --dashboard or --serve.")
        return run(_open(cli, name, serve=serve, port=port, browser=browser))


# --- logs


@dataclass(frozen=True, slots=True)
class LogLines:
    """What ``-o json`` prints for each log."""

    pod: str
    replica: str
    file: str
    lines: tuple[str, ...]


async def _logs(cli: Cli, name: str, app: str, deployment: str, *, follow: bool, tail: int) -> int:
    if follow and cli.json:
        raise CliError(Exit.USAGE, "--follow has no JSON form.", "Leave -o json or -f away.")
    async with connected(cli) as cluster:
        objects = await cluster.objects(name)
        tool = kubectls.find(cli.options, cluster.namespace)
    _check_names(objects, app, deployment)
    clusters = {cluster_name for _, cluster_name in cluster_names(objects.service)}
    found, errors = await replicalogs.find(tool, objects, clusters, app, deployment)
    for error in errors:
        cli.note(error.message, "yellow")
    if not found:
        what = f"deployment {deployment}" if deployment else f"application {app}" if app else name
        step = command(cluster.namespace, "explain", name) if objects.pods else "It has no pods."
        raise CliError(errors[0].code if errors else Exit.MISSING, f"No replica of {what} has written a log yet.", step)
    if follow:

        async def look() -> list[Where]:
            async with connected(cli) as again:
                now = await again.objects(name)
            wanted = {cluster_name for _, cluster_name in cluster_names(now.service)}
            return (await replicalogs.find(tool, now, wanted, app, deployment))[0]

        await _follow(cli, tool, found, tail, look)
        return Exit.OK
    texts = await asyncio.gather(*(_tail(tool, where, tail) for where in found))
    if cli.json:
        cli.show(
            [
                LogLines(w.pod, w.file.replica, w.file.name, tuple(clean(t).splitlines()))
                for w, t in zip(found, texts, strict=True)
            ],
            lambda _: "",
        )
        return Exit.OK
    for where, text in zip(found, texts, strict=True):
        for entry in text.splitlines():
            _print(cli, where, entry, several=len(found) > 1)
    return Exit.OK


def _check_names(objects: Objects, app: str, deployment: str) -> None:
    """A name that the status does not know is a typing mistake, unless nothing is known yet."""
    status = objects.service.get("status") or {}
    known: dict[str, set[str]] = {}
    for role, _ in cluster_names(objects.service):
        for name, entry in ((status.get(f"{role}ServiceStatus") or {}).get("applicationStatuses") or {}).items():
            known.setdefault(name, set()).update(entry.get("serveDeploymentStatuses") or {})
    if not known:
        return
    if app and app not in known:
        raise CliError(Exit.MISSING, f"There is no application {app!r}.", f"There are: {', '.join(sorted(known))}.")
    deployments = known[app] if app else set().union(*known.values())
    if deployment and deployments and deployment not in deployments:
        step = f"There are: {', '.join(sorted(deployments))}."
        raise CliError(Exit.MISSING, f"There is no deployment {deployment!r}.", step)


async def _tail(tool: Kubectl, where: Where, lines: int) -> str:
    return await tool.output("exec", where.pod, "-c", where.container, "--", "tail", "-n", str(lines), where.path)


RESCAN_S: Final = 5.0
"""So soon a replica that has started meanwhile is followed, too."""


async def _follow(
    cli: Cli, tool: Kubectl, found: list[Where], tail: int, look: Callable[[], Awaitable[list[Where]]]
) -> None:
    """All logs at once and those that come, until Ctrl-C or until none is left."""
    known: set[Where] = set()
    reading: set[asyncio.Task[None]] = set()
    lines = str(tail)
    try:
        while True:
            new = [where for where in found if where not in known]
            known.update(new)
            several = len(known) > 1
            reading |= {asyncio.create_task(_read(cli, tool, where, lines, several=several)) for where in new}
            done, reading = await asyncio.wait(reading, timeout=RESCAN_S)
            for task in done:
                task.result()
            if not reading:
                return
            found, lines = await look(), "+1"  # of a replica that is new, all is news
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(cli: Cli, tool: Kubectl, where: Where, lines: str, *, several: bool) -> None:
    args = ("exec", where.pod, "-c", where.container, "--", "tail", "-n", lines, "-F", where.path)
    async with tool.running(*args) as process:
        assert process.stdout is not None
        async for raw in process.stdout:
            _print(cli, where, raw.decode(errors="replace").rstrip("\n"), several=several)
    cli.note(f"{where.pod}: the log of replica {where.file.replica} has ended.", "dim")


_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue")


def _print(cli: Cli, where: Where, entry: str, *, several: bool) -> None:
    """One line, behind the replica's id where there are several."""
    text = Text(clean(entry))
    if several:
        colour = _COLOURS[sum(where.file.replica.encode()) % len(_COLOURS)]
        text = Text.assemble((f"{where.pod} {where.file.replica} ", colour), text)
    cli.console().print(text, soft_wrap=True)
    sys.stdout.flush()


# --- open


_FORWARDING: Final = re.compile(r"Forwarding from (?:127\.0\.0\.1|localhost):(\d+)")


@dataclass(frozen=True, slots=True)
class Opened:
    """What ``-o json`` prints once, when the port answers."""

    url: str
    service: str
    port: int


async def _open(cli: Cli, name: str, *, serve: bool, port: int, browser: bool) -> int:
    async with connected(cli) as cluster:
        service, remote = await _service(cluster, name, serve=serve)
        tool = kubectls.find(cli.options, cluster.namespace)
    local = port or (remote if _free(remote) else 0)
    async with tool.running("port-forward", f"service/{service}", f"{local or ''}:{remote}") as process:
        assert process.stdout is not None
        told = ""
        async for raw in process.stdout:
            text = raw.decode(errors="replace").strip()
            if (at := _FORWARDING.search(text)) and not told.startswith("http"):
                told = f"http://localhost:{at[1]}/"
                _opened(cli, Opened(told, service, int(at[1])), serve=serve, browser=browser)
            elif not text.startswith(("Forwarding from", "Handling connection")):
                told = told if told.startswith("http") else text
                if told.startswith("http"):
                    cli.note(text, "yellow")
    if not told.startswith("http"):
        raise CliError(
            Exit.REFUSED, f"The port could not be forwarded: {told}", command(cluster.namespace, "explain", name)
        )
    raise CliError(Exit.UNREACHABLE, "The connection to the pod was lost.", "Run it again.")


def _opened(cli: Cli, opened: Opened, *, serve: bool, browser: bool) -> None:
    if cli.json:
        cli.show(opened, lambda _: "")
    else:
        cli.say(f"{'Service' if serve else 'Dashboard'}: {opened.url}", "bold")
        cli.say("Ctrl-C ends it.", "dim")
    sys.stdout.flush()
    if browser:
        typer.launch(opened.url)


async def _service(cluster: Cluster, name: str, *, serve: bool) -> tuple[str, int]:
    """The Kubernetes service and its port."""
    service = names.serve_service_name(name) if serve else names.head_service_name(name)
    wanted = "serve" if serve else "dashboard"
    await cluster.service(name)
    with translated(f"get Service {service}", cluster.namespace):
        try:
            found = await cluster.client.get(reference("Service", cluster.namespace, service))
        except NotFound:
            step = f"It comes with the first cluster; see {command(cluster.namespace, 'status', name)}"
            raise CliError(Exit.MISSING, f"There is no service {service} yet.", step) from None
    ports = (found.get("spec") or {}).get("ports") or ()
    port = next((p.get("port") for p in ports if p.get("name") == wanted), names.DEFAULT_HEAD_PORTS[wanted])
    return service, int(port)


def _free(port: int) -> bool:
    """Whether nothing listens there on this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
