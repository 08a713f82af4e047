"""Progress: since when nothing has moved, as the thresholds count it, remembered in ``status.progress``.

A clock that is in the status goes on where it was when the operator is started again. Written only where it matters:
when another activity begins, when a state comes up that was not there before, or more is ready than ever.

Something moves when the state (``activity.Sighting.state``) is one that this cluster, with this serve config, has not
been in before, or when more pods and replicas are ready. A replica that starts and dies again and again goes round in
states that are known; that is no progress. Steps that go on by themselves stop the clock; it goes on afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service.activity import COUNTED, WORDS, Activity, Counted, Sighting, sight
from rayservice_operator.service.apps import Standing
from rayservice_operator.service.context import ClusterView, Config, Context
from rayservice_operator.service.news import carried

FIELD: Final = "progress"
"""Field of the status; absent while all is well."""

MAX_SEEN: Final = 24
"""States remembered. A circle of more than that would pass for progress; real ones have a handful."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``record`` is what to store, empty while all is well. ``since``: epoch seconds from which on nothing has moved.

    ``since`` is None while time does not count. ``began``: when the cluster was seen not serving.
    ``not_before``: no limit is reached before it, because nothing has been seen yet of how it is now.
    """

    activity: Activity
    detail: str
    record: Manifest
    since: float | None = None
    began: float | None = None
    not_before: float = 0.0

    @property
    def counted(self) -> Counted:
        """Which threshold time runs against."""
        return COUNTED[self.activity]

    def spent(self, now: float) -> str:
        """Where the time went, for people: ``pulling images 340 s, loading replicas 200 s``."""
        seconds = {str(k): int(v) for k, v in (self.record.get("spent") or {}).items()}
        started = from_rfc3339(self.record.get("activitySince"))
        if started is not None:
            seconds[self.activity] = seconds.get(self.activity, 0) + max(0, int(now - started))
        longest = sorted(seconds.items(), key=lambda known: -known[1])
        return ", ".join(f"{WORDS[Activity(name)]} {s} s" for name, s in longest if s and name in set(Activity))


NOTHING: Final = Progress(Activity.SERVING, "", {})


def look(context: Context, name: str, config: Config | None, standing: Standing, *, endpoints: bool) -> Progress:
    """The progress of the cluster of that name towards ``config``.

    ``endpoints``: whether requests get through to it, or need not yet.
    """
    stored = _stored(context, name, config)
    view = context.live(name)
    if _kept(context, view, stored):
        return replace(_read(stored), not_before=context.now + 1) if stored else NOTHING
    seen = sight(view, config, standing)
    if seen.activity is Activity.SERVING and endpoints:
        return NOTHING
    if seen.activity is Activity.SERVING:
        seen = Sighting(Activity.SETTLING, "No ready pod is behind the serve service.", "none", seen.ready)
    if not name:
        return Progress(seen.activity, seen.detail, {})
    record = _updated(stored or _new(name, config, seen, context.now), seen, context.now)
    return _read(record, seen.detail)


_OF_PODS: Final = frozenset(
    {Activity.PULLING, Activity.INITIALIZING, Activity.PODS_FAILING, Activity.SCHEDULING, Activity.STARTING_RAY}
)
"""Told from the pods alone, so it is known at once after a start of the operator."""


def _kept(context: Context, view: ClusterView | None, stored: Manifest) -> bool:
    """Whether it is as it was: nothing of its applications has been seen since the operator was started."""
    if view is None or not carried(context, view):
        return False
    return stored["activity"] not in _OF_PODS if stored else view.name == context.active_name


def _stored(context: Context, name: str, config: Config | None) -> Manifest:
    """What is remembered, if it is about this cluster on its way to this config."""
    stored: Manifest = context.stored.get(FIELD) or {}
    same = (stored.get("cluster"), stored.get("configHash", "")) == (name, config.hash if config else "")
    return stored if same and stored.get("activity") in set(Activity) else {}


def _new(name: str, config: Config | None, seen: Sighting, now: float) -> Manifest:
    return {
        "cluster": name,
        "configHash": config.hash if config else "",
        "activity": str(seen.activity),
        "began": _up(now),
        "activitySince": _up(now),
    }


def _updated(record: Mapping[str, Any], seen: Sighting, now: float) -> Manifest:
    """The record after this sighting; equal to what it was where nothing matters."""
    new = dict(record)
    if seen.activity != record["activity"]:
        spent = dict(record.get("spent") or {})
        before = from_rfc3339(record.get("activitySince"))
        seconds = max(0, int(now - before)) if before is not None else 0
        if seconds:
            spent[record["activity"]] = spent.get(record["activity"], 0) + seconds
        new |= {"activity": str(seen.activity), "activitySince": _up(now)} | ({"spent": spent} if spent else {})
    unmoved = from_rfc3339(record.get("unmovedSince"))
    if COUNTED[seen.activity] is Counted.NONE:
        if unmoved is not None:  # the clock stops
            new["countedSeconds"] = int(record.get("countedSeconds") or 0) + max(0, int(now - unmoved))
            del new["unmovedSince"]
        return new
    states = list(record.get("seen") or ())
    if seen.state not in states or seen.ready > int(record.get("ready") or 0):
        new["seen"] = ([state for state in states if state != seen.state] + [seen.state])[-MAX_SEEN:]
        new["ready"] = max(seen.ready, int(record.get("ready") or 0))
        new["unmovedSince"] = _up(now)
        new.pop("countedSeconds", None)
    elif unmoved is None:  # and goes on
        new["unmovedSince"] = _up(now)
    return new


def _read(record: Manifest, detail: str = "") -> Progress:
    unmoved = from_rfc3339(record.get("unmovedSince"))
    since = None if unmoved is None else unmoved - int(record.get("countedSeconds") or 0)
    return Progress(Activity(record["activity"]), detail, record, since, from_rfc3339(record.get("began")))


def _up(now: float) -> str:
    """Rounded up: what is counted from a whole second must not be counted too soon."""
    return to_rfc3339(math.ceil(now))
