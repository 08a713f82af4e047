"""An API server in memory: the behaviour that the operator relies on, and nothing that it cannot notice.

``Server`` holds the objects and does one verb at a time; ``Client`` is a ``kube.api.KubeApi`` on it for one field
manager. Stored objects are never changed in place, so a copy of the server is cheap and readers may keep what they
got. ``tests/api/test_sim_matches_apiserver.py`` compares it with a real kube-apiserver.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rayservice_operator.core.objects import Manifest, Ref, labels_of, metadata, name_of, uid_of
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.kube.api import Listing, Propagation, WatchEvent, WatchType
from rayservice_operator.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound
from rayservice_operator.kube.resources import resource
from tests.sim import fields
from tests.sim.schema import GENERATION_KINDS, STATUS_KINDS, admit, admit_status, clone

FIRST_VERSION = 1000
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class Name(NamedTuple):
    """Where an object lies."""

    kind: str
    namespace: str
    name: str


class Logged(NamedTuple):
    """One change: ``old`` None for a creation, ``new`` None for a removal. ``by`` is the field manager."""

    version: int
    by: str
    verb: str
    old: Manifest | None
    new: Manifest | None

    @property
    def newest(self) -> Manifest:
        """The object after the change, or as it was last."""
        newest = self.new or self.old
        assert newest is not None
        return newest


class Watcher(Protocol):
    """Sees each change as it happens."""

    def __call__(self, change: Logged) -> None: ...


@dataclass
class Server:
    """Objects, their field owners and the log of all changes. ``now`` gives epoch seconds.

    ``refuse`` may name a reason why an object must not be created (quota, pod security).
    """

    now: Callable[[], float]
    objects: dict[Name, Manifest] = field(default_factory=dict)
    owners: dict[str, dict[str, frozenset[fields.Path]]] = field(default_factory=dict)
    log: list[Logged] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    refuse: Callable[[Manifest], ApiError | None] | None = None
    version: int = FIRST_VERSION
    uids: int = 0
    names: int = 0
    _kinds: dict[str, list[Manifest]] = field(default_factory=dict)
    _labelled: dict[tuple[str, str], dict[str, list[Manifest]]] = field(default_factory=dict)

    # --- reading

    def find(self, name: Name) -> Manifest | None:
        """The object of that name."""
        return self.objects.get(name)

    def kind(self, kind: str) -> list[Manifest]:
        """All objects of a kind, by name."""
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = [self.objects[name] for name in sorted(self.objects) if name.kind == kind]
        return known

    def labelled(self, kind: str, label: str) -> dict[str, list[Manifest]]:
        """All objects of a kind that have the label, by its value."""
        known = self._labelled.get((kind, label))
        if known is None:
            known = self._labelled[kind, label] = {}
            for obj in self.kind(kind):
                if (value := labels_of(obj).get(label)) is not None:
                    known.setdefault(value, []).append(obj)
        return known

    def __deepcopy__(self, memo: dict[int, Any]) -> Server:
        """Objects are shared: they are never changed in place."""
        twin = memo[id(self)] = Server(copy.deepcopy(self.now, memo))
        twin.objects, twin.owners, twin.log = dict(self.objects), dict(self.owners), list(self.log)
        twin.version, twin.uids, twin.names = self.version, self.uids, self.names
        twin.watchers = copy.deepcopy(self.watchers, memo)
        twin.refuse = self.refuse
        return twin

    def get(self, ref: Ref) -> Manifest:
        """The object; raises NotFound."""
        obj = self.objects.get(_name_of_ref(ref))
        if obj is None:
            raise NotFound(404, "NotFound", f'{resource(ref.kind).plural} "{ref.name}" not found')
        return obj

    def list(self, kind: str, namespace: str | None, labels: str) -> Listing:
        """All of a kind that match."""
        items = [
            obj for obj in self.kind(kind) if namespace in (None, metadata(obj)["namespace"]) and selected(obj, labels)
        ]
        return Listing(tuple(items), str(self.version))

    # --- writing

    def create(self, by: str, obj: Manifest, *, dry_run: bool = False, apply: bool = False) -> Manifest:
        """POST, and the creating half of server-side apply."""
        new = clone(obj)
        meta = new.setdefault("metadata", {})
        generated = not meta.get("name")
        if generated:
            meta["name"] = meta.get("generateName", "") + self._suffix()
        name = _name(new)
        if name in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f'{resource(name.kind).plural} "{name.name}" already exists')
        if self.refuse is not None and (refusal := self.refuse(new)) is not None:
            raise refusal
        if name.kind in STATUS_KINDS:
            new.pop("status", None)
        if name.kind in GENERATION_KINDS:
            meta["generation"] = 1
        for key in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"):
            meta.pop(key, None)
        if "stringData" in new:
            new["data"] = {**(new.get("data") or {}), **new.pop("stringData")}
        _checked(new, None)
        if dry_run:
            return new
        self.uids += 1
        meta["uid"] = f"00000000-0000-4000-8000-{self.uids:012d}"
        meta["creationTimestamp"] = to_rfc3339(self.now())
        given = frozenset(fields.leaves(obj))
        self.owners[meta["uid"]] = {f"{by}/{'Apply' if apply else 'Update'}": given}
        return self._store(by, "apply" if apply else "create", None, new)

    def apply(self, by: str, obj: Manifest) -> Manifest:
        """Server-side apply, forced."""
        live = self.objects.get(_name(obj))
        if live is None:
            return self.create(by, obj, apply=True)
        mine = f"{by}/Apply"
        owners = self.owners[uid_of(live)]
        status = live["kind"] in STATUS_KINDS
        wanted = {path: v for path, v in fields.leaves(obj).items() if not (status and path[0] == "status")}
        others = frozenset().union(*(owned for manager, owned in owners.items() if manager != mine))
        dropped = set(owners.get(mine, ())) - set(wanted) - others
        before = fields.leaves(live)
        new = fields.merge(live, wanted, dropped)
        _checked(new, live)
        self._bump(live, new)
        changed = {path for path, value in wanted.items() if path not in before or before[path] != value}
        after = {manager: owned - changed for manager, owned in owners.items() if manager != mine}
        after = {manager: owned for manager, owned in after.items() if owned} | {mine: frozenset(wanted)}
        owning_differs = after != owners
        self.owners[uid_of(live)] = after
        return self._store(by, "apply", live, new, force=owning_differs)

    def merge_patch(self, by: str, ref: Ref, patch: Manifest, *, status: bool = False) -> Manifest:
        """RFC 7386, of the object or of its status subresource."""
        live = self._expected(ref)
        wanted = metadata(patch).get("resourceVersion")
        if wanted is not None and wanted != metadata(live)["resourceVersion"]:
            raise Conflict(409, "Conflict", f"{ref}: the object has been modified")
        return self._patched(by, live, _merge(live, patch), status=status)

    def json_patch(self, by: str, ref: Ref, operations: Sequence[Manifest]) -> Manifest:
        """RFC 6902; raises Conflict for a failing test, as ``kube.client`` does."""
        live = self._expected(ref)
        new = clone(live)
        for operation in operations:
            try:
                _operate(new, operation)
            except (LookupError, TypeError, ValueError) as error:
                if any(o["op"] == "test" for o in operations):
                    raise Conflict(409, "Conflict", f"{ref} is not as expected any more: {operation}") from error
                raise Invalid(422, "Invalid", f"{operation}: {error}") from error
        return self._patched(by, live, new)

    def delete(
        self, by: str, ref: Ref, grace: int | None, propagation: Propagation, version: str = ""
    ) -> Manifest | None:
        """Gone at once, or marked: a running pod keeps its grace period, a finalizer its object."""
        live = self.objects.get(_name_of_ref(ref))
        if live is None or (ref.uid and uid_of(live) != ref.uid):
            raise NotFound(404, "NotFound", f"{ref} is gone")
        if version and version != metadata(live)["resourceVersion"]:
            raise Conflict(409, "Conflict", f"{ref}: the ResourceVersion in the precondition differs")
        finalizers = list(metadata(live).get("finalizers") or ())
        if propagation == "Foreground" and "foregroundDeletion" not in finalizers:
            finalizers.append("foregroundDeletion")
        seconds = self._grace(live, grace)
        if not finalizers and seconds == 0:
            self._remove(by, live)
            return None
        new = clone(live)
        meta = new["metadata"]
        if finalizers:
            meta["finalizers"] = finalizers
        left = meta.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" not in meta or (left is not None and seconds < left):
            if "generation" in meta and "deletionTimestamp" not in meta:
                meta["generation"] += 1
            meta["deletionTimestamp"] = to_rfc3339(self.now() + seconds)
            meta["deletionGracePeriodSeconds"] = seconds
        return self._store(by, "delete", live, new)

    def finish(self, by: str, name: Name) -> None:
        """What the kubelet or garbage collector does last: the object goes, whatever its grace period."""
        live = self.objects.get(name)
        if live is None:
            return
        if metadata(live).get("finalizers"):
            if "deletionTimestamp" not in metadata(live):
                new = clone(live)
                new["metadata"] |= {"deletionTimestamp": to_rfc3339(self.now()), "deletionGracePeriodSeconds": 0}
                self._store(by, "delete", live, new)
            return
        self._remove(by, live)

    # --- inside

    def _grace(self, live: Manifest, asked: int | None) -> int:
        if live["kind"] != "Pod":
            return 0
        if not live["spec"].get("nodeName") or (live.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        if asked is not None:
            return asked
        seconds = live["spec"].get("terminationGracePeriodSeconds")
        return 30 if seconds is None else int(seconds)

    def _expected(self, ref: Ref) -> Manifest:
        live = self.get(ref)
        if ref.uid and uid_of(live) != ref.uid:
            raise Conflict(409, "Conflict", f"{ref}: UID in precondition differs")
        return live

    def _patched(self, by: str, live: Manifest, new: Manifest, *, status: bool = False) -> Manifest:
        """What a patch made of ``live``; parts of both may be the same objects, which are not changed in place."""
        if status:
            return self._status_patched(by, live, new)
        new = clone(new)
        if live["kind"] in STATUS_KINDS:
            if "status" in live:
                new["status"] = live["status"]
            else:
                new.pop("status", None)
        for key in ("uid", "name", "namespace", "creationTimestamp", "resourceVersion", "generation"):
            if key in live["metadata"]:
                new["metadata"][key] = live["metadata"][key]
        _checked(new, live)
        self._bump(live, new)
        before, after = fields.leaves(live), fields.leaves(new)
        changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
        owners = self.owners[uid_of(live)]
        mine = f"{by}/Update"
        owners = {manager: owned - changed & set(after) for manager, owned in owners.items()}
        owners[mine] = owners.get(mine, frozenset()) | changed
        self.owners[uid_of(live)] = {manager: owned for manager, owned in owners.items() if owned}
        return self._store(by, "patch", live, new)

    def _status_patched(self, by: str, live: Manifest, new: Manifest) -> Manifest:
        """Nothing but ``status`` changes, and nobody applies a status, so nobody asks who owns what in it."""
        written = {**live, "metadata": dict(live["metadata"])}
        if new.get("status") is None:
            written.pop("status", None)
        else:
            written["status"] = clone(new["status"])
        _raise_for(written, admit_status(written))
        return self._store(by, "patch_status", live, written)

    def _bump(self, live: Manifest, new: Manifest) -> None:
        kind = live["kind"]
        if kind in GENERATION_KINDS:
            ignored = {"metadata", "status"}
            if {k: v for k, v in live.items() if k not in ignored} != {
                k: v for k, v in new.items() if k not in ignored
            }:
                new["metadata"]["generation"] = live["metadata"]["generation"] + 1

    def _store(self, by: str, verb: str, old: Manifest | None, new: Manifest, *, force: bool = False) -> Manifest:
        if old is not None and new == old and not force:
            return old
        meta = new["metadata"]
        if old is not None and "deletionTimestamp" in meta and not meta.get("finalizers"):
            meta.pop("finalizers", None)
            if new["kind"] != "Pod" or meta.get("deletionGracePeriodSeconds") == 0:
                self._remove(by, new)  # the last finalizer went
                return new
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[_name(new)] = new
        self._tell(Logged(self.version, by, verb, old, new))
        return new

    def _remove(self, by: str, live: Manifest) -> None:
        self.version += 1
        del self.objects[_name(live)]
        self.owners.pop(uid_of(live), None)
        last = {**live, "metadata": {**live["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Logged(self.version, by, "delete", last, None))

    def _tell(self, change: Logged) -> None:
        self.log.append(change)
        kind = change.newest["kind"]
        self._kinds.pop(kind, None)
        for known in [key for key in self._labelled if key[0] == kind]:
            del self._labelled[known]
        for watcher in self.watchers:
            watcher(change)

    def _suffix(self) -> str:
        self.names += 1
        number, text = self.names * 7919, ""
        for _ in range(5):
            number, digit = divmod(number, len(_SUFFIX))
            text += _SUFFIX[digit]
        return text


class Gate(Protocol):
    """Stands before and behind each call of a client: counts, delays, refuses, kills."""

    async def before(self, verb: str, target: str) -> None:
        """The request is on its way. May raise."""

    async def after(self, verb: str, target: str) -> None:
        """The server has done it; the answer is on its way. May raise."""


class OpenGate:
    """Lets everything through."""

    async def before(self, verb: str, target: str) -> None:
        """Nothing in the way."""

    async def after(self, verb: str, target: str) -> None:
        """Nothing in the way."""


class Client:
    """``kube.api.KubeApi`` for one field manager."""

    def __init__(self, server: Server, by: str, gate: Gate | None = None) -> None:
        self.server = server
        self.by = by
        self.gate: Gate = gate or OpenGate()

    async def _do(self, verb: str, target: str, work: Callable[[], Any]) -> Any:
        await self.gate.before(verb, target)
        answer = work()
        await self.gate.after(verb, target)
        return answer

    async def get(self, ref: Ref) -> Manifest:
        obj: Manifest = await self._do("get", str(ref), lambda: self.server.get(ref))
        return obj

    async def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> Listing:
        listing: Listing = await self._do("list", kind, lambda: self.server.list(kind, namespace, labels))
        return listing

    async def page(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "", more: str = ""
    ) -> Listing:
        """Everything on one page; the selectors of fields that are used leave out pods that have ended."""
        listing: Listing = await self._do("list", kind, lambda: self.server.list(kind, namespace, labels))
        return listing

    async def watch(
        self, kind: str, namespace: str | None = None, *, labels: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """What has happened so far after that version; ends there."""
        for event in events(self.server.log, kind, namespace, labels, int(resource_version or 0)):
            yield event

    async def create(self, obj: Manifest) -> Manifest:
        new: Manifest = await self._do("create", _title(obj), lambda: self.server.create(self.by, obj))
        return new

    async def apply(self, obj: Manifest) -> Manifest:
        new: Manifest = await self._do("apply", _title(obj), lambda: self.server.apply(self.by, obj))
        return new

    async def json_patch(self, ref: Ref, operations: Sequence[dict[str, Any]]) -> Manifest:
        new: Manifest = await self._do("patch", str(ref), lambda: self.server.json_patch(self.by, ref, operations))
        return new

    async def merge_patch(self, ref: Ref, patch: Manifest) -> Manifest:
        new: Manifest = await self._do("patch", str(ref), lambda: self.server.merge_patch(self.by, ref, patch))
        return new

    async def patch_status(self, ref: Ref, patch: Manifest) -> Manifest:
        def work() -> Manifest:
            return self.server.merge_patch(self.by, ref, {"status": patch}, status=True)

        new: Manifest = await self._do("patch_status", str(ref), work)
        return new

    async def delete(
        self,
        ref: Ref,
        *,
        grace_seconds: int | None = None,
        propagation: Propagation = "Background",
        resource_version: str = "",
    ) -> Manifest | None:
        def work() -> Manifest | None:
            return self.server.delete(self.by, ref, grace_seconds, propagation, resource_version)

        left: Manifest | None = await self._do("delete", str(ref), work)
        return left

    async def dry_run(self, obj: Manifest) -> None:
        await self._do("dry_run", _title(obj), lambda: self.server.create(self.by, obj, dry_run=True))


WRITES = frozenset({"create", "apply", "patch", "patch_status", "delete"})
"""Verbs of a client that change something."""


def events(log: Sequence[Logged], kind: str, namespace: str | None, labels: str, since: int) -> Iterator[WatchEvent]:
    """The watch events for what was logged after version ``since``."""
    start = len(log)
    while start and log[start - 1].version > since:
        start -= 1
    for change in itertools.islice(log, start, None):
        newest = change.newest
        if newest["kind"] != kind or namespace not in (None, metadata(newest)["namespace"]):
            continue
        event = as_event(change, labels)
        if event is not None:
            yield event


def as_event(change: Logged, labels: str) -> WatchEvent | None:
    """What a watch with that selector says of a change: leaving the selection is a deletion."""
    was = change.old is not None and selected(change.old, labels)
    now = change.new is not None and selected(change.new, labels)
    if not was and not now:
        return None
    type_: WatchType = "DELETED" if not now else "MODIFIED" if was else "ADDED"
    return WatchEvent(type_, change.newest)


def selected(obj: Manifest, labels: str) -> bool:
    """Whether the label selector (``key`` or ``key=value``, joined by commas) fits."""
    mine = labels_of(obj)
    for term in filter(None, labels.split(",")):
        key, equals, value = term.partition("=")
        if key not in mine or (equals and mine[key] != value):
            return False
    return True


def _checked(new: Manifest, old: Manifest | None) -> None:
    _raise_for(new, admit(new, old))


def _raise_for(new: Manifest, problems: Sequence[str]) -> None:
    if problems:
        raise Invalid(422, "Invalid", f"{new['kind']} {name_of(new)!r} is invalid: {'; '.join(problems)}")


def _name(obj: Manifest) -> Name:
    return Name(obj["kind"], metadata(obj).get("namespace", ""), name_of(obj))


def _name_of_ref(ref: Ref) -> Name:
    return Name(ref.kind, ref.namespace, ref.name)


def _title(obj: Manifest) -> str:
    return f"{obj['kind']}/{metadata(obj).get('namespace', '')}/{name_of(obj) or metadata(obj).get('generateName')}"


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386; what the patch does not touch is the same object in the result."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def _operate(document: Manifest, operation: Manifest) -> None:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    target: Any = document
    for part in parts[:-1]:
        target = target[int(part)] if isinstance(target, list) else target[part]
    last, op = parts[-1], operation["op"]
    if isinstance(target, list):
        index = len(target) if last == "-" else int(last)
        if op == "add":
            if index > len(target):
                raise IndexError(last)
            target.insert(index, clone(operation["value"]))
            return
        if op == "test" and target[index] != operation["value"]:
            raise ValueError("test failed")
        if op == "remove":
            del target[index]
        if op == "replace":
            target[index] = clone(operation["value"])
        return
    if op == "test":
        if target.get(last) != operation["value"]:
            raise ValueError("test failed")
    elif op == "remove":
        del target[last]
    elif op == "replace":
        if last not in target:
            raise KeyError(last)
        target[last] = clone(operation["value"])
    else:
        target[last] = clone(operation["value"])
