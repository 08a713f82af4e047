"""The newest known state of every object that decisions look at.

Fed by watches (``kube.reflector``), by kopf for RayService and RayCluster, and by the answers to our own writes,
so that the decision after a write sees it. Whoever comes late with something older is ignored.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, controller_uid, labels_of, metadata, name_of, uid_of

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Set by the EndpointSlice controller: the Service that a slice belongs to."""

_INDEXED_LABELS: Final = {"Pod": names.CLUSTER, "EndpointSlice": SERVICE_NAME_LABEL}
_MAX_TOMBSTONES: Final = 20_000


class Name(NamedTuple):
    """Where an object lies in the store."""

    kind: str
    namespace: str
    name: str


class Change(NamedTuple):
    """``old`` None: new; ``new`` None: gone; both: changed."""

    old: Manifest | None
    new: Manifest | None


OnChange = Callable[[Change], None]


class Store:
    """Objects by name, by owner and by label. Objects in it are shared: never change one."""

    def __init__(self) -> None:
        self._objects: dict[Name, Manifest] = {}
        self._index: defaultdict[tuple[str, ...], set[Name]] = defaultdict(set)
        self._buried: OrderedDict[str, int] = OrderedDict()  # UID -> the write (see ``tick``) that removed it
        self._tick = 0
        self._listeners: list[OnChange] = []

    def subscribe(self, listener: OnChange) -> None:
        """``listener`` is told of every change, after it is visible here."""
        self._listeners.append(listener)

    # --- reading

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object of that name."""
        return self._objects.get(Name(kind, namespace, name))

    def owned(self, uid: str, kind: str | None = None) -> tuple[Manifest, ...]:
        """Objects whose controller has that UID, sorted by kind and name so that decisions are repeatable."""
        return self._sorted(n for n in self._index.get(("owner", uid), ()) if kind is None or n.kind == kind)

    def labelled(self, kind: str, namespace: str, value: str) -> tuple[Manifest, ...]:
        """By the label indexed for ``kind``: Pods by ``ray.io/cluster``, EndpointSlices by their Service's name."""
        return self._sorted(self._index.get(("label", kind, namespace, value), ()))

    def kind(self, kind: str) -> tuple[Manifest, ...]:
        """All objects of a kind."""
        return self._sorted(self._index.get(("kind", kind), ()))

    def within(self, kind: str, namespace: str) -> tuple[Manifest, ...]:
        """All objects of a kind in a namespace."""
        return self._sorted(name for name in self._index.get(("kind", kind), ()) if name.namespace == namespace)

    def __len__(self) -> int:
        return len(self._objects)

    def _sorted(self, found: Iterable[Name]) -> tuple[Manifest, ...]:
        return tuple(self._objects[name] for name in sorted(found))

    # --- writing

    def put(self, obj: Manifest) -> bool:
        """Take ``obj`` in if it is newer than what is known. Whether anything changed.

        An object known to be gone does not come back: UIDs are never used twice.
        """
        uid = uid_of(obj)
        if uid and uid in self._buried:
            return False
        name = _name(obj)
        old = self._objects.get(name)
        if old is not None and uid_of(old) == uid and not _newer(obj, old):
            return False
        if old is not None and uid_of(old) != uid and _newer(old, obj):
            return False  # the predecessor of what has its name now
        self._tick += 1
        if old is not None and uid_of(old) != uid:
            self._bury(uid_of(old))
        self._set(name, _slim(obj))
        self._tell(old, self._objects[name])
        return True

    def remove(self, kind: str, namespace: str, name: str, uid: str = "") -> bool:
        """Forget the object; with ``uid`` only that one. Whether it was known."""
        self._tick += 1
        if uid:
            self._bury(uid)
        key = Name(kind, namespace, name)
        old = self._objects.get(key)
        if old is None or (uid and uid_of(old) != uid):
            return False
        self._bury(uid_of(old))
        self._drop(key)
        self._tell(old, None)
        return True

    @property
    def tick(self) -> int:
        """Counts writes; read before a LIST is sent and given to :meth:`replace` with its answer."""
        return self._tick

    def replace(
        self, kind: str, namespace: str | None, items: Iterable[Manifest], resource_version: str, since: int
    ) -> int:
        """Make the store agree with a full LIST of ``kind`` in ``namespace`` (None: all). How many changes that took.

        What the list lacks is gone, unless it is newer than the list. What is known to be gone stays so only when
        that became known after the list was asked for (``since``, a :attr:`tick`).
        """
        seen: set[Name] = set()
        changes = 0
        for item in items:
            seen.add(_name(item))
            if self._buried.get(uid_of(item), since + 1) <= since:
                del self._buried[uid_of(item)]
            changes += self.put(item)
        for name in [
            n for n in self._index.get(("kind", kind), ()) if n not in seen and namespace in {None, n.namespace}
        ]:
            obj = self._objects[name]
            if not _later(_version(obj), resource_version):
                changes += self.remove(*name, uid=uid_of(obj))
        return changes

    def _bury(self, uid: str) -> None:
        self._buried[uid] = self._tick
        self._buried.move_to_end(uid)
        while len(self._buried) > _MAX_TOMBSTONES:
            self._buried.popitem(last=False)

    def _set(self, name: Name, obj: Manifest) -> None:
        if name in self._objects:
            self._drop(name)
        self._objects[name] = obj
        for entry in _entries(name, obj):
            self._index[entry].add(name)

    def _drop(self, name: Name) -> None:
        obj = self._objects.pop(name)
        for entry in _entries(name, obj):
            self._index[entry].discard(name)
            if not self._index[entry]:
                del self._index[entry]

    def _tell(self, old: Manifest | None, new: Manifest | None) -> None:
        change = Change(old, new)
        for listener in self._listeners:
            listener(change)


def _name(obj: Manifest) -> Name:
    return Name(obj["kind"], metadata(obj).get("namespace", ""), name_of(obj))


def _entries(name: Name, obj: Manifest) -> Iterator[tuple[str, ...]]:
    """Where ``obj`` is found: by kind, by its controller's UID, by the label indexed for its kind."""
    yield ("kind", name.kind)
    if owner := controller_uid(obj):
        yield ("owner", owner)
    if (label := _INDEXED_LABELS.get(name.kind)) and (value := labels_of(obj).get(label)):
        yield ("label", name.kind, name.namespace, value)


def _slim(obj: Manifest) -> Manifest:
    """Without ``managedFields``: as long as the rest of the object, and no decision reads it."""
    if "managedFields" not in metadata(obj):
        return obj
    return {**obj, "metadata": {k: v for k, v in metadata(obj).items() if k != "managedFields"}}


def _version(obj: Manifest) -> str:
    return str(metadata(obj).get("resourceVersion", ""))


def _newer(one: Manifest, other: Manifest) -> bool:
    return _later(_version(one), _version(other))


def _later(one: str, other: str) -> bool:
    """Whether a resourceVersion is later: they are etcd's revisions and compare as numbers.

    Where one is no number, a different one counts as later: better to look once too often.
    """
    try:
        return int(one) > int(other)
    except ValueError:
        return one != other
