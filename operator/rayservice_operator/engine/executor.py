"""Carries a decision out: actions in their order (pods in batches), then the status, then the notes.

Each answer goes into the store, so that the next decision sees what this one did.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from rayservice_operator.core.decision import (
    Action,
    Apply,
    AskRoom,
    Create,
    Decision,
    Delete,
    DryRun,
    DryRunResult,
    EnsureSecret,
    JsonPatch,
    Level,
    MergePatch,
)
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, Ref, controller_uid, metadata, ref, uid_of
from rayservice_operator.engine.batches import batches
from rayservice_operator.engine.clock import Clock
from rayservice_operator.engine.describing import describe, kind_of
from rayservice_operator.engine.dry_runs import DryRunCache
from rayservice_operator.engine.merge import merge_diff, without_nulls
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    Unreachable,
)
from rayservice_operator.kube.events import EventRecorder
from rayservice_operator.kube.reflector import CHILD_KINDS
from rayservice_operator.kube.resources import resource
from rayservice_operator.kube.store import Change, Store

log = logging.getLogger(__name__)

SECRET_CHECK_S: Final = 60.0
"""A Secret that was there is believed to be there for that long."""

MAX_SECRETS: Final = 10_000
TOKEN_BYTES: Final = 32

_Answer = TypeVar("_Answer")


class ActionFailed(Exception):  # noqa: N818
    """``what`` could not be done to an object of ``kind``, because of ``error``. Later batches were not tried."""

    def __init__(self, what: str, error: ApiError, kind: str = "") -> None:
        super().__init__(f"{what}: {error.message}")
        self.what = what
        self.error = error
        self.kind = kind


async def side_by_side(work: Sequence[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """Run all at once, each to its end; what each raised."""
    return list(await asyncio.gather(*work, return_exceptions=True))


class Executor:
    """Does what decisions say. Keeps nothing that a restart may not forget."""

    def __init__(
        self,
        api: KubeApi,
        store: Store,
        recorder: EventRecorder,
        dry_runs: DryRunCache,
        clock: Clock,
        *,
        surveyor: Surveyor,
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
        together: Callable[[Sequence[Coroutine[Any, Any, None]]], Awaitable[list[BaseException | None]]] = side_by_side,
    ) -> None:
        self._api = api
        self._store = store
        self._recorder = recorder
        self._dry_runs = dry_runs
        self._surveyor = surveyor
        self._clock = clock
        self._new_token = new_token
        self._together = together
        self._applied: dict[Ref, tuple[str, Manifest]] = {}
        self._statuses: dict[Ref, tuple[str, Manifest]] = {}
        self._secrets: dict[Ref, float] = {}
        self._unsure: dict[Ref, object] = {}
        store.subscribe(self._on_change)

    async def execute(self, key: Key, obj: Manifest, decision: Decision) -> bool:
        """Carry out ``decision`` about ``obj``. Whether there is news that no change of the store tells of.

        Raises ActionFailed at the first action, or the status, that fails. After a failing action the status is
        still written (unless the decision commits to its actions), the notes are not.
        """
        failed: ActionFailed | None = None
        for batch in batches(decision.actions):
            failed = await self._all(key, batch)
            if failed is not None:
                break
        if decision.status is not None and not (failed and decision.commits):
            try:
                await self._status(obj, decision.status)
            except ApiError as error:
                raise failed or ActionFailed(f"write the status of {key}", error, key.kind) from error
        if failed is not None:
            raise failed
        for note in decision.notes:
            self._recorder.record(obj, note)
            level = logging.WARNING if note.level is Level.WARNING else logging.INFO
            log.log(level, "%s: %s", note.reason, note.message, extra={"object": str(key)})
        return any(isinstance(action, DryRun) for action in decision.actions)

    async def settle(self, namespace: str) -> None:
        """Look again at what a write in ``namespace`` got no clear answer about: it may have been carried out.

        Without this the next decision could make the same pod twice, or take what it wrote itself for not written
        (history 3521). Raises ApiError.
        """
        unsure = {target: mark for target, mark in self._unsure.items() if target.namespace == namespace}
        for kind in {target.kind for target in unsure if not target.name}:  # the server has drawn the name
            listing = await self._api.list(kind, namespace, labels=CHILD_KINDS.get(kind, ""))
            for item in listing.items:
                self._store.put(item)
        for target, mark in unsure.items():
            if target.name:
                await self._look_again(target)
            if self._unsure.get(target) is mark:  # and no other write has gone without an answer meanwhile
                del self._unsure[target]

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._dry_runs.forget(key)
        self._surveyor.forget(key)

    def _on_change(self, change: Change) -> None:
        if change.new is None and change.old is not None:
            gone = ref(change.old, with_uid=False)
            self._applied.pop(gone, None)
            self._statuses.pop(gone, None)

    # --- actions

    async def _all(self, key: Key, batch: Sequence[Action]) -> ActionFailed | None:
        """Do them side by side, all to their end; the first that failed, if one has."""
        results = await self._together([self._do(key, action) for action in batch])
        failed: ActionFailed | None = None
        for action, error in zip(batch, results, strict=True):
            if isinstance(error, ApiError):
                if failed is None:
                    failed = ActionFailed(describe(action), error, kind_of(action))
                    failed.__cause__ = error
            elif error is not None:
                raise error
        return failed

    async def _do(self, key: Key, action: Action) -> None:
        match action:
            case Apply():
                await self._apply(action)
            case Create():
                await self._create(action)
            case JsonPatch(ref=target):
                await self._patched(target, self._api.json_patch(target, action.operations))
            case MergePatch(ref=target):
                await self._patched(target, self._api.merge_patch(target, action.patch))
            case Delete():
                await self._delete(action)
            case EnsureSecret():
                await self._ensure_secret(action)
            case DryRun():
                await self._dry_run(key, action)
            case AskRoom():
                self._surveyor.ask(key, action)

    async def _apply(self, action: Apply) -> None:
        target = ref(action.obj, with_uid=False)
        intent = _hash(action.obj)
        stored = self._stored(target)
        known = self._applied.get(target)
        if known is not None and stored is not None and known[0] == intent and _untouched(known[1], stored):
            return
        self._take(target, await self._told(target, self._api.apply(action.obj)))
        if (now := self._stored(target)) is not None:
            self._applied[target] = (intent, now)

    async def _create(self, action: Create) -> None:
        target = ref(action.obj, with_uid=False)
        try:
            self._take(target, await self._told(target, self._api.create(action.obj)))
        except AlreadyExists:
            if not target.name:
                raise  # a generated name that is taken: the next try draws another
            existing = await self._api.get(target)
            if controller_uid(existing) is None or controller_uid(existing) != controller_uid(action.obj):
                raise AlreadyExists(
                    409,
                    "AlreadyExists",
                    f"{target} exists and belongs to {_owner(existing)}; delete it or choose another name",
                ) from None
            self._take(target, existing)

    async def _told(self, target: Ref, write: Awaitable[_Answer]) -> _Answer:
        """What the server answers to a write; where that leaves open what was done, ``target`` is looked at again."""
        try:
            return await write
        except (Unreachable, ServerError):
            self._unsure[target] = object()
            raise

    async def _patched(self, target: Ref, patch: Awaitable[Manifest]) -> None:
        try:
            self._take(target, await self._told(target, patch))
        except (Conflict, NotFound):
            await self._look_again(target)
            raise

    async def _delete(self, action: Delete) -> None:
        target = action.ref
        try:
            deletion = self._api.delete(
                target,
                grace_seconds=action.grace_seconds,
                propagation=action.propagation,
                resource_version=action.resource_version,
            )
            left = await self._told(target, deletion)
        except NotFound:
            left = None
        except Conflict:
            await self._look_again(target)
            raise
        if left is None:
            self._store.remove(target.kind, target.namespace, target.name, target.uid)
        else:
            self._take(target, left)

    async def _ensure_secret(self, action: EnsureSecret) -> None:
        """Secrets are not watched (they are many, and none of our business): asked for, at most once a minute."""
        checked = self._secrets.get(action.ref)
        if checked is not None and self._clock.monotonic() - checked < SECRET_CHECK_S:
            return
        try:
            await self._api.get(action.ref)
        except NotFound:
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": action.ref.name,
                    "namespace": action.ref.namespace,
                    "labels": action.labels,
                    "ownerReferences": [action.owner],
                },
                "type": "Opaque",
                "stringData": {action.key: self._new_token()},
            }
            try:
                await self._api.create(secret)
            except AlreadyExists:
                log.debug("%s was made by somebody else meanwhile", action.ref)
        if len(self._secrets) >= MAX_SECRETS:
            self._secrets.clear()
        self._secrets[action.ref] = self._clock.monotonic()

    async def _dry_run(self, key: Key, action: DryRun) -> None:
        try:
            await self._api.dry_run(action.obj)
        except AlreadyExists:
            refusal = None  # it would be taken under another name
        except (Invalid, Forbidden, NotFound) as error:
            refusal = error.message
        else:
            refusal = None
        self._dry_runs.put(key, action.key, DryRunResult(at=self._clock.now(), error=refusal))

    # --- status

    async def _status(self, obj: Manifest, wanted: Manifest) -> None:
        target = ref(obj)
        stored = self._stored(target)
        if stored is None or uid_of(stored) != target.uid:
            return  # deleted meanwhile
        memory = ref(obj, with_uid=False)
        patch = merge_diff(stored.get("status") or {}, wanted)
        if not patch:
            return
        intent = _hash(patch)
        known = self._statuses.get(memory)
        if known is not None and known[0] == intent and known[1] is stored:
            return  # sent before, and the server keeps something else: see below
        try:
            answer = await self._told(target, self._api.patch_status(target, patch))
        except NotFound:
            self._store.remove(target.kind, target.namespace, target.name, target.uid)
            return
        except Conflict:
            await self._look_again(target)
            raise
        self._take(target, answer)
        now = self._stored(target)
        if now is not None and (left := merge_diff(now.get("status") or {}, wanted)) and _same_object(now, answer):
            # Sending it again would change nothing and never end: the CRD in the cluster does not know the field.
            log.warning(
                "%s: the API server does not keep these status fields: %s; the CRDs are of another release",
                target,
                ", ".join(sorted(left)),
            )
            self._statuses[memory] = (_hash(left), now)

    # --- the store

    def _stored(self, target: Ref) -> Manifest | None:
        return self._store.get(target.kind, target.namespace, target.name)

    def _take(self, target: Ref, answer: Manifest) -> None:
        self._store.put({"apiVersion": resource(target.kind).api_version, "kind": target.kind, **answer})

    async def _look_again(self, target: Ref) -> None:
        """What is stored is outdated: fetch the object, so that the next decision knows better."""
        try:
            self._take(target, await self._api.get(target))
        except NotFound:
            self._store.remove(target.kind, target.namespace, target.name, target.uid)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(without_nulls(value), sort_keys=True).encode()).hexdigest()


def _untouched(then: Manifest, now: Manifest) -> bool:
    """Whether nobody has changed what we applied. A kind with generations changes its version by status alone."""
    if then is now:
        return True
    before, after = metadata(then), metadata(now)
    same = ("uid", "generation", "labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp")
    return "generation" in after and all(before.get(field) == after.get(field) for field in same)


def _same_object(one: Manifest, other: Manifest) -> bool:
    return metadata(one).get("resourceVersion") == metadata(other).get("resourceVersion")


def _owner(obj: Manifest) -> str:
    for owner in metadata(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return f"{owner['kind']} {owner['name']}"
    return "nobody that we know"
