"""The verbs through which everything else speaks to Kubernetes; the simulation implements them too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from rayservice_operator.core.objects import Manifest, Ref

WatchType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
Propagation: TypeAlias = Literal["Background", "Foreground"]


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent list: every object carries ``apiVersion`` and ``kind``. ``more`` asks for the page after this."""

    items: tuple[Manifest, ...]
    resource_version: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. Errors are raised, never yielded."""

    type: WatchType
    obj: Manifest


class KubeApi(Protocol):
    """Dict-level Kubernetes. Every method raises a ``kube.errors.ApiError``.

    A ``uid`` in a Ref is a precondition: when the object of that name has another UID, ``delete`` raises NotFound
    and the patches raise Conflict.
    """

    async def get(self, ref: Ref) -> Manifest:
        """The object."""

    async def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> Listing:
        """All objects of ``kind`` in one namespace, or in all; ``labels`` is a label selector."""

    async def page(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "", more: str = ""
    ) -> Listing:
        """One page of a list, for what is too much to be held as a whole. Raises Gone when ``more`` is too old."""

    def watch(
        self, kind: str, namespace: str | None = None, *, labels: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes after ``resource_version``, until the server ends the stream. Raises Gone when that is too old."""

    async def create(self, obj: Manifest) -> Manifest:
        """POST; returns the stored object. Raises AlreadyExists."""

    async def apply(self, obj: Manifest) -> Manifest:
        """Server-side apply with our field manager, forced; creates what is not there."""

    async def json_patch(self, ref: Ref, operations: Sequence[dict[str, Any]]) -> Manifest:
        """RFC 6902. A failing ``test`` raises Conflict."""

    async def merge_patch(self, ref: Ref, patch: Manifest) -> Manifest:
        """RFC 7386. A ``metadata.resourceVersion`` in the patch makes it conditional."""

    async def patch_status(self, ref: Ref, patch: Manifest) -> Manifest:
        """RFC 7386 patch of the status subresource; ``patch`` is the change of ``.status`` itself."""

    async def delete(
        self,
        ref: Ref,
        *,
        grace_seconds: int | None = None,
        propagation: Propagation = "Background",
        resource_version: str = "",
    ) -> Manifest | None:
        """The terminating object, or None when it is gone at once. Raises NotFound, and Conflict where a
        ``resource_version`` is given and the object has another.
        """

    async def dry_run(self, obj: Manifest) -> None:
        """Server-side dry run of a create with strict field validation; returns if it would be taken."""
