"""What the operator did, for people: one line for each write and each event, with the time and the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, labels_of, name_of
from tests.sim.apiserver import Logged
from tests.sim.process import Said
from tests.sim.world import World

_COUNTS = ("successful", "failed", "inconclusive")
_BORING = frozenset({"lastUpdateTime", "lastTransitionTime"})


@dataclass
class Transcript:
    """Lines in the order of their happening. ``said`` is where the operator's notes arrive."""

    world: World
    lines: list[str] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    told: int = 0
    began: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.world.now
        self.world.server.watchers.append(self.on_change)

    def on_change(self, change: Logged) -> None:
        """Told by the API server."""
        self.flush()
        kind = change.newest["kind"]
        if change.by == names.FIELD_MANAGER:
            self._line(f"{change.verb:<12} {_title(change.newest)}{_detail(change)}")
        elif change.by == "kubectl" and kind == "RayService":
            self._line(f"-- user: {change.verb} {_title(change.newest)}")

    def flush(self) -> None:
        """Take in the notes since last time."""
        for said in self.said[self.told :]:
            note = said.note
            self._line(f"event        {said.about}: {note.level} {note.reason}: {note.message}", said.at)
        self.told = len(self.said)

    def put(self, what: str) -> None:
        """A PUT of a serve config."""
        if what.startswith("before "):
            self.flush()
            self._line(f"push         serve config {what.rpartition(' ')[2]}")

    def text(self) -> str:
        """The whole transcript."""
        self.flush()
        return "\n".join(self.lines) + "\n"

    def _line(self, text: str, at: float | None = None) -> None:
        seconds = (self.world.now if at is None else at) - self.began
        self.lines.append(f"{seconds:8.1f}s  {text}")


def _title(obj: Manifest) -> str:
    return f"{obj['kind']} {name_of(obj)}"


def _detail(change: Logged) -> str:
    if change.verb in ("create", "delete") or change.old is None or change.new is None:
        return ""
    old, new = change.old, change.new
    if change.verb == "patch_status":
        return "".join(f"\n{'':24}{line}" for line in _status(old.get("status") or {}, new.get("status") or {}))
    parts = [*_differences(_face(old), _face(new), "")]
    return ": " + "; ".join(parts) if parts else ""


def _face(obj: Manifest) -> dict[str, Any]:
    return {
        "labels": dict(labels_of(obj)),
        "annotations": dict(obj["metadata"].get("annotations") or {}),
        "spec": obj.get("spec") or {},
    }


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield f"{path} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "..."


def _status(old: Manifest, new: Manifest) -> Iterator[str]:
    before = {c["type"]: c for c in old.get("conditions") or ()}
    after = {c["type"]: c for c in new.get("conditions") or ()}
    for type_, condition in after.items():
        was = before.get(type_) or {}
        if (was.get("status"), was.get("reason"), was.get("message")) != (
            condition["status"],
            condition["reason"],
            condition.get("message"),
        ):
            yield f"{type_}={condition['status']} {condition['reason']}: {_short(condition.get('message', ''))}"
    yield from (f"{type_} is removed" for type_ in before if type_ not in after)
    for role in ("active", "pending"):
        key = f"{role}ServiceStatus"
        yield from _differences(
            (old.get(key) or {}).get("rayClusterName"), (new.get(key) or {}).get("rayClusterName"), role
        )
    for key in ("numServeEndpoints", "serviceStatus", "observedGeneration", "state", "readyWorkerReplicas"):
        yield from _differences(old.get(key), new.get(key), key)
    yield from _differences((old.get("upgrade") or {}).get("phase"), (new.get("upgrade") or {}).get("phase"), "phase")
    known = _checks(old)
    for name, told in _checks(new).items():
        if told != known.get(name):
            yield f"check {name}: {told}"


def _checks(status: Manifest) -> dict[str, str]:
    """Checks of the analysis: phase, how many measurements succeeded, failed and were inconclusive, the last value."""
    analysis = (status.get("upgrade") or {}).get("analysis") or {}
    return {
        check["name"]: f"{check['phase']} {'/'.join(str(check.get(count, 0)) for count in _COUNTS)} "
        f"{check.get('value', '')}".rstrip()
        for check in analysis.get("checks") or ()
    }
