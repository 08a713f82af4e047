"""Verbs about manifests, before anything is applied: ``init``, ``lint``, ``plan``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from rayservice_operator.api import names
from rayservice_operator.cli import lint as linting
from rayservice_operator.cli import manifests, merge, render_plan, view_plan
from rayservice_operator.cli.errors import CliError, Exit
from rayservice_operator.cli.fetch import Cluster, connected
from rayservice_operator.cli.human import line
from rayservice_operator.cli.manifests import Kind, Wishes
from rayservice_operator.cli.options import Cli, run, verb
from rayservice_operator.cli.view import Objects
from rayservice_operator.cli.view_plan import Plan
from rayservice_operator.core.objects import Manifest, labels_of, metadata, name_of
from rayservice_operator.kube.errors import ApiError, Forbidden, Invalid, NotFound
from rayservice_operator.serveconfig.source import SourceError, load_manifests
from rayservice_operator.service.preview import Live

_PANEL: Final = "Before you apply"
STDIN: Final = "-"


def register(app: typer.Typer) -> None:
    """Add the verbs."""

    @verb(app, "init", rich_help_panel=_PANEL)
    def init(
        cli: Cli,
        name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new RayService.")],
        *,
        template: Annotated[
            Kind, typer.Option("--template", "-t", metavar="|".join(Kind), help="What it is to serve.")
        ] = Kind.MODEL,
        model: Annotated[
            str, typer.Option("--model", metavar="ID", help="Model of an LLM (Hugging Face id or path).")
        ] = "",
        import_path: Annotated[
            str, typer.Option("--import-path", metavar="MODULE:VAR", help="Your application (model, async).")
        ] = "",
        gpus: Annotated[int | None, typer.Option("--gpus", min=0, metavar="N", help="GPUs of one replica.")] = None,
        accelerator: Annotated[str, typer.Option("--accelerator", metavar="TYPE", help="GPU type of an LLM.")] = "L4",
        replicas: Annotated[int | None, typer.Option("--replicas", min=1, metavar="N", help="Replicas.")] = None,
        image: Annotated[str, typer.Option("--image", metavar="IMAGE", help="Image of all Ray pods.")] = "",
        file: Annotated[
            str, typer.Option("--file", "-f", metavar="FILE", help="Where to; NAME.yaml by default, - for stdout.")
        ] = "",
        force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    ) -> int:
        """Write a manifest to start from."""
        target = file or f"{name}.yaml"
        text = manifests.manifest(
            Wishes(
                name,
                template,
                model,
                import_path,
                gpus,
                replicas,
                image,
                accelerator,
                "FILE" if target == STDIN else target,
            )
        )
        return _write(cli, target, text, force=force)

    @verb(app, "lint", rich_help_panel=_PANEL)
    def lint(
        cli: Cli,
        files: Annotated[
            list[str], typer.Argument(metavar="FILE…", help="Files, directories, patterns, or - for what is piped in.")
        ],
        *,
        form: Annotated[
            linting.Format | None,
            typer.Option(
                "--format", "-f", metavar="|".join(linting.Format), help="text by default; -o json is the same as json."
            ),
        ] = None,
        ignore: Annotated[
            list[str] | None, typer.Option("--ignore", "-i", metavar="RULE", help="Rules to leave out.")
        ] = None,
        fail_on: Annotated[
            linting.FailOn,
            typer.Option("--fail-on", metavar="|".join(linting.FailOn), help="The least severity that exits with 1."),
        ] = linting.FailOn.ERROR,
    ) -> int:
        """Check manifests without a cluster: what cannot work, what will surprise, what to do."""
        if cli.options.no_color:
            os.environ["NO_COLOR"] = "1"  # what draws the findings goes by it
        chosen = form or (linting.Format.JSON if cli.json else linting.Format.TEXT)
        return linting.run_lint(files, chosen, ignore or (), fail_on)

    @verb(app, "plan", rich_help_panel=_PANEL)
    def plan(
        cli: Cli,
        file: Annotated[str, typer.Argument(metavar="FILE", help="The manifest, or - for what is piped in.")],
        name: Annotated[
            str | None, typer.Argument(metavar="[NAME]", help="Which RayService, if the file has several.")
        ] = None,
    ) -> int:
        """What applying a file would do: the difference, what restarts, which pods and GPUs it takes.

        Exits with 0 when nothing differs, 1 when something does, 6 when the API server refuses it.
        """
        return run(_plan(cli, read(file, name)))


# --- init


def _write(cli: Cli, target: str, text: str, *, force: bool) -> int:
    if target == STDIN:
        sys.stdout.write(text)
        return Exit.OK
    try:
        with Path(target).open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise CliError(Exit.USAGE, f"{target} is there already.", "Give another --file, or --force.") from None
    except OSError as error:
        raise CliError(Exit.USAGE, f"{target} cannot be written: {error.strerror}.") from None
    cli.say(f"{target} is written. Next: kubectl rayservice lint {target}")
    return Exit.OK


# --- plan


def read(file: str, name: str | None) -> Manifest:
    """The RayService in a file. Raises CliError with the place of what is wrong."""
    try:
        content = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise CliError(Exit.USAGE, f"{file} cannot be read: {error.strerror}.") from None
    try:
        documents = load_manifests(content, file)
    except SourceError as error:
        first = error.findings[0]
        place = f":{first.position.line}:{first.position.column}" if first.position else ""
        raise CliError(Exit.USAGE, f"{file}{place}: {first.problem}.", f"{first.fix}.") from None
    found = [d.manifest for d in documents if d.manifest.get("kind") == "RayService"]
    if name is not None:
        found = [m for m in found if name_of(m) == name]
    if not found:
        what = f"RayService {name!r}" if name else "RayService"
        raise CliError(Exit.USAGE, f"{file} has no {what}.")
    if len(found) > 1:
        listed = ", ".join(name_of(m) for m in found)
        raise CliError(Exit.USAGE, f"{file} has {len(found)} RayServices.", f"Name one of them: {listed}.")
    wanted = found[0]
    if wanted.get("apiVersion") != names.API_VERSION or not name_of(wanted) or not isinstance(wanted.get("spec"), dict):
        step = f"kubectl rayservice lint {file}"
        raise CliError(Exit.USAGE, f"{file}: the RayService has no apiVersion {names.API_VERSION}, name or spec.", step)
    return wanted


async def _plan(cli: Cli, wanted: Manifest) -> int:
    async with connected(cli) as found:
        cluster = Cluster(found.client, _namespace(cli, found, wanted), found.access)
        view = await _of(cli, cluster, wanted)
    cli.show(view, lambda _: render_plan.screen(view))
    if view.refused:
        return Exit.REFUSED
    return Exit.NO if view.changes else Exit.OK


def _namespace(cli: Cli, cluster: Cluster, wanted: Manifest) -> str:
    """The manifest's own, as with kubectl; another one with -n is a mistake."""
    own = str(metadata(wanted).get("namespace") or "")
    asked = cli.options.namespace
    if own and asked and own != asked:
        raise CliError(Exit.USAGE, f"The file says namespace {own}, -n says {asked}.", "Leave one of them away.")
    return own or cluster.namespace


async def _of(cli: Cli, cluster: Cluster, wanted: Manifest) -> Plan:
    objects = await _live(cluster, name_of(wanted))
    if objects is None:
        return await _new(cli, cluster, wanted)
    after = merge.applied(objects.service, wanted)
    change = merge.patch(_written(objects.service), _written(after))
    refused: tuple[str, ...] = ()
    unasked = ""
    if change:
        after, refused, unasked = await _asked(cluster, objects.service, after, change)
    return view_plan.build(objects.service, after, _seen(cli, objects), refused=refused, unasked=unasked)


async def _asked(
    cluster: Cluster, live: Manifest, after: Manifest, change: Manifest
) -> tuple[Manifest, tuple[str, ...], str]:
    """The object as the API server would store it, or why it would not."""
    try:
        return await cluster.patch(live, change, dry_run=True), (), ""
    except CliError as error:
        if error.code is Exit.REFUSED:
            return after, (error.message.partition(": ")[2] or error.message,), ""
        if error.code is Exit.FORBIDDEN:
            return after, (), f"Whether the API server takes it was not asked. {error.message}"
        raise


async def _new(cli: Cli, cluster: Cluster, wanted: Manifest) -> Plan:
    after = {**wanted, "metadata": {**metadata(wanted), "namespace": cluster.namespace}}
    refused: tuple[str, ...] = ()
    unasked = ""
    try:
        await cluster.client.dry_run(after)
    except Forbidden as error:
        unasked = f"Whether the API server takes it was not asked. {line(error.message)}"
    except (Invalid, NotFound) as error:
        refused = (line(error.message),)
    except ApiError as error:
        raise CliError(Exit.REFUSED, line(error.message)) from None
    return view_plan.build(None, after, Live(now=cli.now()), refused=refused, unasked=unasked)


async def _live(cluster: Cluster, name: str) -> Objects | None:
    try:
        return await cluster.objects(name, history=True)
    except CliError as error:
        if error.code is Exit.MISSING and "RayService (ray.io/v1)" not in error.message:
            return None
        raise


def _written(obj: Manifest) -> Manifest:
    """What ``kubectl apply`` writes of an object."""
    meta = {key: dict(value) for key in ("labels", "annotations") if (value := metadata(obj).get(key))}
    return {"metadata": meta, "spec": obj.get("spec") or {}}


def _seen(cli: Cli, objects: Objects) -> Live:
    pods: dict[str, list[Manifest]] = {}
    for pod in objects.pods:
        pods.setdefault(labels_of(pod).get(names.CLUSTER, ""), []).append(pod)
    by_cluster = {name: tuple(found) for name, found in pods.items()}
    return Live(clusters=objects.clusters, pods=by_cluster, revisions=objects.revisions, now=cli.now())
