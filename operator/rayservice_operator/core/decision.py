"""What a decision is made of: ordered actions, the whole status, notes and the time to look again.

``decide(snapshot, now)`` of a RayService or RayCluster returns a :class:`Decision`; ``engine.executor`` carries
it out. Actions are data, so tests compare them and the simulation stops between any two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rayservice_operator.core.measurements import AnalysisOrder
from rayservice_operator.core.objects import Manifest, Ref
from rayservice_operator.core.room import PodsWanted


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a child with our field manager, forced: we own every field that we name."""

    obj: Manifest


@dataclass(frozen=True, slots=True)
class Create:
    """Create a child once. «Already exists» is success when the existing object has the same controller.

    With ``metadata.generateName`` the API server names it. The new object is in the store before the next
    decision, so the same decision is not made twice.
    """

    obj: Manifest


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """RFC 6902 patch. ``test`` operations make it safe against writers that we share the object with."""

    ref: Ref
    operations: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class MergePatch:
    """RFC 7386 patch of metadata or spec."""

    ref: Ref
    patch: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete by UID; gone already is success. ``grace_seconds`` None leaves the object's own grace period.

    resource_version: where what has been seen is the reason: only while the object is still that one.
    """

    ref: Ref
    grace_seconds: int | None = None
    propagation: Literal["Background", "Foreground"] = "Background"
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class EnsureSecret:
    """Create a Secret with one random URL-safe token under ``key`` if no Secret of that name exists.

    The executor draws the token: a decision has no randomness.
    """

    ref: Ref
    key: str
    labels: dict[str, str]
    owner: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """Ask the API server whether it would take ``obj`` (server-side dry run, strict field validation).

    The answer comes back in the next snapshot's ``dry_runs`` under ``key``, a hash of the object.
    """

    key: str
    obj: Manifest


@dataclass(frozen=True, slots=True)
class AskRoom:
    """Ask whether the cluster has room for pods of ``namespace`` beside what runs.

    Not waited for: looking at all nodes and pods may take seconds. The answer comes back in a later snapshot's
    ``rooms`` under ``key``, and makes the object dirty. ``since``: a look at the nodes from before then (epoch
    seconds) is no answer, for pods that have got a node meanwhile are not in it.
    """

    key: str
    namespace: str
    wanted: tuple[PodsWanted, ...]
    since: float = 0.0


Action: TypeAlias = Apply | Create | JsonPatch | MergePatch | Delete | EnsureSecret | DryRun | AskRoom


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """``error`` is the API server's refusal, None when it would accept. ``at`` is epoch seconds."""

    at: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What the last pass could not do: part of the next snapshot, so that the status can say it.

    ``what``: the action in words. ``kind``: of the object it was about. ``message``: the API server's. ``at``:
    epoch seconds.
    """

    what: str
    kind: str
    message: str
    at: float


class Level(enum.StrEnum):
    """Severity of a note, in the words of Kubernetes events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person wants to know: becomes an event and a line of ``explain``.

    Give one only where something changes (a transition), never on each pass: the recorder writes what it gets.
    """

    reason: str
    message: str
    level: Level = Level.NORMAL


@dataclass(frozen=True, slots=True)
class ScaledApp:
    """An application whose replica counts an external scaler sets.

    ``declared``: deployments whose count is to be that of the config all the same.
    """

    name: str
    declared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ServePush:
    """A serve config to PUT to a cluster. ``payload`` is the canonical JSON body; ``attempt`` separates tries.

    ``capacity``: the ``target_capacity`` in percent that the operator put into the payload, None for the user's own.

    The observer pushes a (hash, attempt) pair at most once per head session and reports in its observation. The
    targets that the head has for ``keep`` at that moment go with it (``serveconfig.scaling``).
    """

    config_hash: str
    payload: str
    attempt: str = ""
    keep: tuple[ScaledApp, ...] = ()
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class ObserveTarget:
    """A live cluster whose Serve API is to be watched, and what is to be pushed to it, if anything.

    ``cluster`` is the RayCluster; ``head_ip`` the head pod's address; ``head_uid`` tells a new head pod from the
    old; ``fast`` asks for the quick pace (something moves). ``routed``: addresses of the pods that get requests now;
    their proxies are asked even while the controller does not list them.
    ``analysis``: what is to be measured of a cluster before it takes over.
    """

    cluster: Ref
    head_ip: str
    head_uid: str
    dashboard_port: int = 8265
    serve_port: int = 8000
    token_secret: str | None = None
    push: ServePush | None = None
    fast: bool = True
    routed: tuple[str, ...] = ()
    analysis: AnalysisOrder | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that follows from one snapshot.

    Order of execution: ``actions`` one after another, then ``status`` (if it differs from what is stored), then
    ``notes``. A failing action stops the other actions and comes back in the next snapshot as its ``failure``.
    The status is written all the same, because it tells what was observed; not so with ``commits``, where it says
    that the actions have been done. ``status`` None leaves it alone. A durable transition that later actions rely
    on is a decision of its own.
    """

    actions: tuple[Action, ...] = ()
    status: Manifest | None = None
    notes: tuple[Note, ...] = ()
    wake_at: float | None = None
    observe: tuple[ObserveTarget, ...] | None = field(default=())
    commits: bool = False
