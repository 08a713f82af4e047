"""The Kubernetes API over aiohttp: dictionaries in, dictionaries out.

Generated clients cost three times the CPU and twice the memory for the same calls and drop fields they do not
know; what is needed here is a handful of verbs.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, Ref, metadata, name_of, uid_of
from rayservice_operator.kube.api import Listing, Propagation, WatchEvent
from rayservice_operator.kube.errors import Conflict, Gone, Invalid, NotFound, from_status
from rayservice_operator.kube.ratelimit import TokenBucket
from rayservice_operator.kube.resources import resource
from rayservice_operator.kube.transport import CALL_TIMEOUT_S, Login, OnRequest, Request, Transport

PAGE = 500
"""Objects per page of a list."""

WATCH_SERVER_S = (240, 300)
"""A watch is asked to end by itself after a random time in this range, so that reconnects spread out."""

WATCH_SILENCE_S = 90.0
"""A watch without even a bookmark (one a minute) for that long is dead, whatever TCP thinks."""

_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_OTHER_UID = re.compile(r"UID in (the )?precondition")


class KubeClient:
    """``kube.api.KubeApi`` against a real API server. An async context manager, or call :meth:`close`.

    ``login`` is asked again about once a minute, because tokens rotate. ``on_request`` is told of every call.
    ``manager``: name under which the server books the fields that are written. ``headers``: sent with each request.
    """

    def __init__(
        self,
        login: Login,
        *,
        limit: TokenBucket | None = None,
        on_request: OnRequest | None = None,
        call_timeout_s: float = CALL_TIMEOUT_S,
        watch_silence_s: float = WATCH_SILENCE_S,
        page: int = PAGE,
        manager: str = names.FIELD_MANAGER,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._http = Transport(
            login, limit=limit, on_request=on_request, call_timeout_s=call_timeout_s, headers=headers
        )
        self._silence = watch_silence_s
        self._page = page
        self._manager: Mapping[str, str] = {"fieldManager": manager}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        await self._http.close()

    async def get(self, ref: Ref) -> Manifest:
        """The object."""
        return await self._http.call(Request("GET", "get", ref.kind, _path(ref)))

    async def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> Listing:
        """A consistent list, fetched in pages; begun again, once, when it took so long that its snapshot expired."""
        try:
            return await self._list(kind, namespace, labels)
        except Gone:
            return await self._list(kind, namespace, labels)

    async def _list(self, kind: str, namespace: str | None, labels: str) -> Listing:
        items: list[Manifest] = []
        more = ""
        while True:
            page = await self.page(kind, namespace, labels=labels, more=more)
            items += page.items
            more = page.more
            if not more:
                return Listing(tuple(items), page.resource_version)

    async def page(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "", more: str = ""
    ) -> Listing:
        """Up to ``page`` objects, and how to ask for the next ones."""
        known = resource(kind)
        wishes = {"labelSelector": labels, "fieldSelector": fields, "continue": more}
        params = {"limit": str(self._page)} | {key: value for key, value in wishes.items() if value}
        page = await self._http.call(Request("GET", "list", kind, known.path(namespace), params))
        meta = metadata(page)
        # Items of a list come without their type.
        items = ({"apiVersion": known.api_version, "kind": kind, **item} for item in page.get("items") or ())
        return Listing(tuple(items), str(meta.get("resourceVersion", "")), str(meta.get("continue") or ""))

    async def watch(
        self, kind: str, namespace: str | None = None, *, labels: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes as they happen. Close the iterator (``contextlib.aclosing``) when leaving it early."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SERVER_S)),
        }
        params |= {"labelSelector": labels} if labels else {}
        params |= {"resourceVersion": resource_version} if resource_version else {}
        request = Request("GET", "watch", kind, resource(kind).path(namespace), params)
        async with self._http.stream(request, self._silence) as stream:
            async for line in _lines(stream):
                yield _watch_event(json.loads(line))

    async def create(self, obj: Manifest) -> Manifest:
        """The object as stored."""
        return await self._http.call(Request("POST", "create", obj["kind"], _collection(obj), self._manager, obj))

    async def apply(self, obj: Manifest) -> Manifest:
        """Server-side apply, forced."""
        path = resource(obj["kind"]).path(metadata(obj).get("namespace"), name_of(obj))
        params = {**self._manager, "force": "true"}
        return await self._http.call(Request("PATCH", "apply", obj["kind"], path, params, obj, _APPLY))

    async def json_patch(self, ref: Ref, operations: Sequence[dict[str, Any]]) -> Manifest:
        """RFC 6902; a failing ``test`` raises Conflict."""
        body = list(operations)
        if ref.uid:
            body.insert(0, {"op": "test", "path": "/metadata/uid", "value": ref.uid})
        try:
            request = Request("PATCH", "patch", ref.kind, _path(ref), self._manager, body, _JSON_PATCH)
            return await self._http.call(request)
        except Invalid as error:
            # A failing «test» and an object that the server will not take are both 422; only the latter has causes.
            if any(op["op"] == "test" for op in body) and not error.causes:
                raise Conflict(409, "Conflict", f"{ref} is not as expected any more: {error.message}") from error
            raise

    async def merge_patch(self, ref: Ref, patch: Manifest, *, dry_run: bool = False) -> Manifest:
        """RFC 7386. ``dry_run``: the object as it would be, strictly validated; nothing is stored."""
        params = {**self._manager, **({"dryRun": "All", "fieldValidation": "Strict"} if dry_run else {})}
        request = Request("PATCH", "patch", ref.kind, _path(ref), params, _with_uid(ref, patch), _MERGE)
        try:
            return await self._http.call(request)
        except Invalid as error:
            # For most kinds a UID that differs is not a conflict to the server, but an attempt to change the UID.
            if any(cause.field == "metadata.uid" for cause in error.causes):
                raise Conflict(409, "Conflict", f"{request}: another object has the name now") from error
            raise

    async def patch_status(self, ref: Ref, patch: Manifest) -> Manifest:
        """RFC 7386, of ``.status``.

        The server has no UID precondition for this call, so a successor that took the name within the last
        milliseconds is noticed only by the answer. Its own reconcile, which is due anyway, puts its status right.
        """
        path, body = _path(ref, "status"), {"status": patch}
        request = Request("PATCH", "patch_status", ref.kind, path, self._manager, body, _MERGE)
        answer = await self._http.call(request)
        if ref.uid and uid_of(answer) != ref.uid:
            raise Conflict(409, "Conflict", f"{request}: another object has the name now")
        return answer

    async def delete(
        self,
        ref: Ref,
        *,
        grace_seconds: int | None = None,
        propagation: Propagation = "Background",
        resource_version: str = "",
    ) -> Manifest | None:
        """The terminating object, or None when it went at once."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        expected = {"uid": ref.uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in expected.items() if value}:
            options["preconditions"] = preconditions
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            answer = await self._http.call(Request("DELETE", "delete", ref.kind, _path(ref), {}, options))
        except Conflict as error:
            if _OTHER_UID.search(error.message):
                raise NotFound(404, "NotFound", f"{ref} of uid {ref.uid} is gone; another has its name") from error
            raise
        return answer if _still_there(answer) else None

    async def dry_run(self, obj: Manifest) -> None:
        """Returns when a create would be taken."""
        params = {**self._manager, "dryRun": "All", "fieldValidation": "Strict"}
        await self._http.call(Request("POST", "dry_run", obj["kind"], _collection(obj), params, obj))


def _path(ref: Ref, subresource: str | None = None) -> str:
    return resource(ref.kind).path(ref.namespace, ref.name, subresource)


def _collection(obj: Manifest) -> str:
    return resource(obj["kind"]).path(metadata(obj).get("namespace"))


def _with_uid(ref: Ref, patch: Manifest) -> Manifest:
    """``patch`` with the UID in it: the server refuses with 409 when the object has another."""
    if not ref.uid:
        return patch
    return {**patch, "metadata": {**(patch.get("metadata") or {}), "uid": ref.uid}}


def _still_there(answer: Manifest) -> bool:
    """Whether what DELETE returned still exists: it terminates, and something (grace, a finalizer) holds it.

    The server answers with a Status or, for some kinds, with the object even where it is gone.
    """
    meta = metadata(answer)
    if answer.get("kind") == "Status" or not meta.get("deletionTimestamp"):
        return False
    return bool(meta.get("finalizers")) or meta.get("deletionGracePeriodSeconds") != 0


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's ``readline`` gives up long before the largest object."""
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            if joined := b"".join(parts):
                yield joined
            parts.clear()
        if rest:
            parts.append(rest)


def _watch_event(line: Mapping[str, Any]) -> WatchEvent:
    obj = line["object"]
    if line["type"] == "ERROR":
        raise from_status(int(obj.get("code") or 500), obj)
    return WatchEvent(line["type"], obj)
