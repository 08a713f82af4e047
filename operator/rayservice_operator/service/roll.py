"""An in-place rollout: which pods must be made anew, and the writes that begin it, move it on and end it.

All that has to be known is on the RayCluster: its spec is the wanted one from the first write on, its annotation
(``cluster.roll``) says which groups are rolled and which pods go now, and each pod says which template it was made
from. The recorded hash of the spec stays that of before until the last pod is new. So whoever looks at it, after a
restart or with another spec in mind, goes on from what is there.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.cluster.roll import Roll, roll_of
from rayservice_operator.core.decision import JsonPatch, Note
from rayservice_operator.core.objects import Manifest, ref
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import hashing, inplace
from rayservice_operator.service.context import Config

_PORT: Final = "port"
"""Parameter of the head's ``ray start`` that its workers were started with too."""


class Phase(enum.StrEnum):
    """``status.upgrade.phase`` of an in-place rollout."""

    ANNOUNCED = "Announced"
    WORKERS = "ReplacingWorkers"
    HEAD = "ReplacingHead"
    STOPPED = "RollStopped"
    COMPLETED = "Completed"
    REFUSED = "Refused"
    HELD = "Held"


@dataclass(frozen=True, slots=True)
class Rolling:
    """An in-place rollout as it stands, and the next write, if there is one.

    config: the serve config in force meanwhile; that of the spec is pushed afterwards. step: pods that are done, of
    ``steps``. needs: what is needed beside the pods that run. stopped: nothing goes on by itself any more.
    stop_at: epoch seconds when that will be so, as things stand. started: RFC 3339. revision: number of the one that is
    rolled out, 0 while it has none.
    """

    phase: Phase
    message: str
    config: Config | None
    started: str = ""
    step: int = 0
    steps: int = 0
    needs: str = ""
    stopped: bool = False
    stop_at: float | None = None
    wake_at: float | None = None
    change: JsonPatch | None = None
    notes: tuple[Note, ...] = ()
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """What a RayCluster's spec and a wanted one differ in, apart from what changes in place anyway.

    groups: whose pods are made from something else (``headgroup`` is the head). elsewhere: fields that no running
    cluster can take over.
    """

    groups: frozenset[str]
    elsewhere: tuple[str, ...]


def difference(cluster: Manifest, wanted: Manifest) -> Difference:
    """Compare the spec that a RayCluster has now with the RayClusterSpec ``wanted``."""
    count = len(cluster["spec"].get("workerGroupSpecs") or [])
    old, new = (hashing.frozen_part(spec, groups=count) for spec in (cluster["spec"], wanted))
    groups = {names.HEAD_GROUP: (old.pop("headGroupSpec"), new.pop("headGroupSpec"))}
    workers, wanted_workers = old.pop("workerGroupSpecs"), new.pop("workerGroupSpecs")
    elsewhere = [f"rayClusterConfig.{field}" for field in _differing(old, new)]
    if [group["groupName"] for group in workers] != [group["groupName"] for group in wanted_workers]:
        elsewhere.append("rayClusterConfig.workerGroupSpecs (a group was removed, renamed or moved)")
    else:
        groups |= {a["groupName"]: (a, b) for a, b in zip(workers, wanted_workers, strict=True)}
    anew = set()
    for name, (before, after) in groups.items():
        fields = _differing(before, after)
        if set(fields) & set(hashing.MADE_FROM):
            anew.add(name)
        elsewhere += [f"{field} of group {name}" for field in fields if field not in hashing.MADE_FROM]
    before, after = groups[names.HEAD_GROUP]
    if (before.get("rayStartParams") or {}).get(_PORT) != (after.get("rayStartParams") or {}).get(_PORT):
        elsewhere.append("rayClusterConfig.headGroupSpec.rayStartParams.port")
    return Difference(frozenset(anew), tuple(elsewhere))


def _differing(old: Manifest, new: Manifest) -> list[str]:
    before, after = hashing.essence(old) or {}, hashing.essence(new) or {}
    return [field for field in sorted(before.keys() | after.keys()) if before.get(field) != after.get(field)]


def redirected(
    cluster: Manifest, wanted: Manifest, leaving: Iterable[str], every: Iterable[str], now: float
) -> JsonPatch | None:
    """The patch that makes ``wanted`` the spec of ``cluster`` and of its rollout; None if it is.

    Also for one that is under way to another spec: pods that have what is wanted are kept. ``leaving``: names of pods
    that are being deleted for it. ``every``: all groups that can be rolled, for a rollout whose annotation is lost.
    """
    before = roll_of(cluster)
    anew = difference(cluster, wanted).groups
    operations = inplace.spec_operations(cluster, wanted, anew)
    to = hashing.cluster_hash(wanted)
    if before is None or before.to != to or anew:
        at = to_rfc3339(now)
        known = frozenset() if before is None else before.groups if before.to else frozenset(every)
        surge = before.surge if before else {}
        asked = Roll(to, at, known | anew, frozenset(leaving), since=at, surge=surge)
        operations += inplace.annotate(cluster, {names.ROLL: asked.dump()})
    if not operations:
        return None
    operations += inplace.annotate(cluster, {names.IN_PLACE_APPLIED: inplace.applied_scale(wanted)})
    return JsonPatch(ref(cluster), tuple(operations))


def moved_on(
    cluster: Manifest, roll: Roll, now: float, *, pods: Iterable[str], unready: Iterable[str], surge: Mapping[str, int]
) -> JsonPatch:
    """The patch that names the pods that go next, and how many a group may have beyond its number meanwhile. unready:
    those of them that are not Ready.
    """
    chosen = frozenset(pods)
    since = to_rfc3339(now) if chosen else roll.since
    asked = dataclasses.replace(roll, pods=chosen, unready=frozenset(unready), since=since, surge=dict(surge))
    return JsonPatch(ref(cluster), tuple(inplace.annotate(cluster, {names.ROLL: asked.dump()})))


def ended(cluster: Manifest, wanted: Manifest) -> JsonPatch:
    """The patch that says: the cluster is what ``wanted`` says."""
    operations = inplace.spec_operations(cluster, wanted)
    values = {**inplace.bookkeeping(wanted), names.ROLL: None}
    return JsonPatch(ref(cluster), (*operations, *inplace.annotate(cluster, values)))
