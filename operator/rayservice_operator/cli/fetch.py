"""The cluster as the verbs see it: objects of a RayService fetched together, and annotations written."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.cli import kubeconfig
from rayservice_operator.cli.errors import CliError, Exit, from_api
from rayservice_operator.cli.options import Cli
from rayservice_operator.cli.view import Objects, cluster_names
from rayservice_operator.core.objects import Manifest, name_of, uid_of
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError, Forbidden, NotFound
from rayservice_operator.kube.resources import reference

CALL_TIMEOUT_S: Final = 15.0
MANAGER: Final = "kubectl-rayservice"
"""Field manager of what people write with this command."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connected API server and the namespace that is meant when none is given."""

    client: KubeClient
    namespace: str
    access: kubeconfig.Access

    async def services(self, *, everywhere: bool = False) -> list[Manifest]:
        """All RayServices of the namespace, or of all."""
        where = None if everywhere else self.namespace
        with translated("list RayServices", "" if everywhere else self.namespace):
            found = await self.client.list("RayService", where)
        return sorted(found.items, key=lambda o: (o["metadata"].get("namespace", ""), name_of(o)))

    async def service(self, name: str) -> Manifest:
        """One RayService. A name that is not there is answered with those that are."""
        with translated(f"get RayService {name}", self.namespace):
            try:
                return await self.client.get(reference("RayService", self.namespace, name))
            except NotFound as error:
                if "could not find the requested resource" in error.message:
                    raise
        others = [name_of(service) for service in await self.services()]
        near = difflib.get_close_matches(name, others, 1)
        step = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(others)}." if others else _ELSEWHERE
        raise CliError(Exit.MISSING, f"There is no RayService {name!r} in namespace {self.namespace}.", step)

    async def objects(self, name: str, *, events: bool = False, history: bool = False) -> Objects:
        """A RayService with its clusters and pods, and if asked for its events and revisions."""
        service = await self.service(name)
        mine = f"{names.ORIGIN_NAME}={name}"
        clusters, revisions = await asyncio.gather(
            self._list("RayCluster", mine), self._list("ControllerRevision", mine) if history else _none()
        )
        clusters = [c for c in clusters if _owned(c, service)]
        wanted = {*(name_of(c) for c in clusters), *(n for _, n in cluster_names(service))}
        selector = f"{names.CLUSTER} in ({','.join(sorted(wanted))})"
        pods, said = await asyncio.gather(
            self._list("Pod", selector) if wanted else _none(), self._list("Event", "") if events else _none()
        )
        about = {name, *wanted, *(name_of(p) for p in pods)}
        said = [e for e in said if (e.get("regarding") or {}).get("name") in about]
        revisions = [r for r in revisions if _owned(r, service)]
        return Objects(service, tuple(clusters), tuple(pods), tuple(said), tuple(revisions))

    async def _list(self, kind: str, labels: str) -> list[Manifest]:
        with translated(f"list {kind}s", self.namespace):
            try:
                return list((await self.client.list(kind, self.namespace, labels=labels)).items)
            except Forbidden:
                if kind == "Event":  # a view without events is better than none
                    return []
                raise

    async def patch(self, service: Manifest, patch: Manifest, *, dry_run: bool) -> Manifest:
        """Merge a patch into the very object that was looked at."""
        name = name_of(service)
        with translated(f"patch RayService {name}", self.namespace):
            target = reference("RayService", self.namespace, name, uid_of(service))
            return await self.client.merge_patch(target, patch, dry_run=dry_run)


_ELSEWHERE: Final = "There are none in it; `kubectl rayservice status -A` looks in all namespaces."


async def _none() -> list[Manifest]:
    return []


def _owned(obj: Manifest, service: Manifest) -> bool:
    """By the UID of the owner: a former RayService of the name may have left something behind."""
    owners = (obj.get("metadata") or {}).get("ownerReferences") or ()
    return any(owner.get("uid") == uid_of(service) for owner in owners)


@contextlib.contextmanager
def translated(doing: str, namespace: str = "") -> Iterator[None]:
    """API errors inside the block as what the command line says."""
    try:
        yield
    except ApiError as error:
        raise from_api(error, doing, namespace) from None


@contextlib.asynccontextmanager
async def connected(cli: Cli, *, timeout_s: float = CALL_TIMEOUT_S) -> AsyncIterator[Cluster]:
    """The cluster that the options choose."""
    options = cli.options
    access = kubeconfig.find(options.kubeconfig or "", options.context or "", os.environ)
    client = KubeClient(access.login, call_timeout_s=timeout_s, manager=MANAGER, headers=access.headers)
    async with client:
        yield Cluster(client, options.namespace or access.namespace, access)
