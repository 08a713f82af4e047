"""Log files of Ray Serve replicas: found in the pods, read with kubectl."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.cli import kubectl as kubectls
from rayservice_operator.cli import view
from rayservice_operator.cli.errors import CliError
from rayservice_operator.cli.fetch import Cluster
from rayservice_operator.cli.kubectl import Kubectl
from rayservice_operator.cli.logtext import ErrorBlock, LogFile, folder, log_files, newest_error
from rayservice_operator.cli.options import Cli
from rayservice_operator.cli.view import Objects
from rayservice_operator.cli.view_status import Status, build
from rayservice_operator.core.objects import Manifest, labels_of, name_of

MAX_FILES: Final = 6
MAX_BLOCKS: Final = 3
_TAIL: Final = "200"


@dataclass(frozen=True, slots=True)
class Where:
    """A replica's log: in which pod, container and folder."""

    pod: str
    container: str
    folder: str
    file: LogFile

    @property
    def path(self) -> str:
        """Path in the container."""
        return f"{self.folder}/{self.file.name}"


async def find(
    tool: Kubectl, objects: Objects, clusters: Collection[str], app: str, deployment: str
) -> tuple[list[Where], list[CliError]]:
    """The replica logs in the pods of these clusters, and what could not be asked."""
    folders = {name_of(cluster): folder(cluster) for cluster in objects.clusters}
    asked = [
        (pod, folders.get(name, folder({})))
        for pod in objects.pods
        if (name := labels_of(pod).get(names.CLUSTER, "")) in clusters
        and (pod.get("status") or {}).get("phase") == "Running"
    ]
    answers = await asyncio.gather(*(_listed(tool, pod, where) for pod, where in asked))
    found, errors = [], []
    for (pod, where), answer in zip(asked, answers, strict=True):
        if isinstance(answer, CliError):
            errors.append(answer)
        else:
            found += [Where(name_of(pod), container(pod), where, f) for f in log_files(answer, app, deployment)]
    return found, errors


def container(pod: Manifest) -> str:
    """The container that runs Ray: the first, as Ray's autoscaler has it too."""
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    return str(containers[0].get("name") or "")


async def _listed(tool: Kubectl, pod: Manifest, where: str) -> str | CliError:
    """Newest first. A folder that is not there (no replica has been on the pod) is an empty one."""
    script = f"ls -1t {shlex.quote(where)} 2>/dev/null || true"
    try:
        return await tool.output("exec", name_of(pod), "-c", container(pod), "--", "sh", "-c", script)
    except CliError as error:
        return error


async def newest_errors(cli: Cli, cluster: Cluster, objects: Objects) -> tuple[tuple[ErrorBlock, ...], str]:
    """The newest errors of replicas and containers that are not well, and why there are none if that is not known."""
    if not any(_crashed(pod) for pod in objects.pods) and not _unwell(build(objects)):
        return (), ""
    try:
        tool = kubectls.find(cli.options, cluster.namespace)
    except CliError as error:
        return (), f"Logs were not read: {error.message}"
    return await of(tool, objects)


async def of(tool: Kubectl, objects: Objects) -> tuple[tuple[ErrorBlock, ...], str]:
    """The same, with kubectl at hand."""
    crashed = [pod for pod in objects.pods if _crashed(pod)]
    tasks = [_of_container(tool, pod) for pod in crashed[:MAX_BLOCKS]]
    unwell = _unwell(build(objects))
    tasks += [_of_deployment(tool, objects, name, app, deployment) for name, app, deployment in unwell[:MAX_BLOCKS]]
    answers = await asyncio.gather(*tasks)
    found = [answer for answer in answers if isinstance(answer, ErrorBlock)]
    # Replicas of one deployment fail alike; one of each text is enough.
    blocks = list({block.lines: block for block in reversed(found)}.values())[::-1]
    errors = [answer for answer in answers if isinstance(answer, CliError)]
    missing = f"Logs were not read: {errors[0].message}" if errors and not blocks else ""
    return tuple(blocks[:MAX_BLOCKS]), missing


def _crashed(pod: Manifest) -> bool:
    seen = view.pod(pod)
    return not seen.ready and seen.restarts > 0 and bool(seen.reason)


def _unwell(status: Status) -> list[tuple[str, str, str]]:
    """Cluster, application and deployment of what does not go well."""
    return [
        (cluster.name, app.name, d.name)
        for cluster in status.clusters
        for app in cluster.applications
        for d in app.deployments
        if d.fails or (app.status == "DEPLOY_FAILED" and d.status != "HEALTHY")
    ]


async def _of_container(tool: Kubectl, pod: Manifest) -> ErrorBlock | CliError | None:
    args = ("logs", name_of(pod), "-c", container(pod), "--previous", f"--tail={_TAIL}")
    try:
        text = await tool.output(*args)
    except CliError as error:
        return error
    source = f"{name_of(pod)}, before its restart"
    last = tuple(entry for entry in text.strip().splitlines()[-4:])
    return newest_error(source, text) or (ErrorBlock(source, last) if last else None)


async def _of_deployment(
    tool: Kubectl, objects: Objects, cluster: str, app: str, deployment: str
) -> ErrorBlock | CliError | None:
    found, errors = await find(tool, objects, {cluster}, app, deployment)
    for where in found[:MAX_FILES]:
        try:
            text = await tool.output("exec", where.pod, "-c", where.container, "--", "tail", "-n", _TAIL, where.path)
        except CliError as error:
            errors.append(error)
            continue
        if block := newest_error(f"{where.pod} {where.file.name}", text):
            return block
    return errors[0] if errors else None
