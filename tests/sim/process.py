"""One operator process on the simulated API server: the real engine, with simulated watches and observers.

A process that is killed is thrown away; a new one begins with a LIST, as the real one does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.cluster.decide import decide as decide_cluster
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Note, ObserveTarget
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, Ref, metadata, name_of, uid_of
from rayservice_operator.core.observation import PushResult, ServeObservation
from rayservice_operator.engine.dry_runs import DryRunCache
from rayservice_operator.engine.executor import Executor
from rayservice_operator.engine.queue import WorkQueue
from rayservice_operator.engine.reconciler import Reconciler, kinds
from rayservice_operator.engine.snapshots import Snapshots
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.api import Listing, WatchEvent
from rayservice_operator.kube.errors import ApiError
from rayservice_operator.kube.events import EventRecorder
from rayservice_operator.kube.reflector import CHILD_KINDS, OPTIONAL_KINDS
from rayservice_operator.kube.store import Store
from rayservice_operator.ray.details import replicas_by_address
from rayservice_operator.serveconfig.scaling import with_targets
from rayservice_operator.service.decide import decide as decide_service
from tests.sim.apiserver import Client, Gate, as_event
from tests.sim.measuring import Measuring
from tests.sim.serve import Refused
from tests.sim.world import World, address


async def _in_turn(work: Sequence[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """Calls that the real engine makes side by side; there is no event loop here, and the order is to be repeatable."""
    results: list[BaseException | None] = []
    waiting = deque(work)
    try:
        while waiting:
            try:
                await waiting.popleft()
                results.append(None)
            except ApiError as error:
                results.append(error)
    finally:
        for coroutine in waiting:
            coroutine.close()
    return results


WATCHED: Mapping[str, str] = {"RayService": "", "RayCluster": "", **CHILD_KINDS, **OPTIONAL_KINDS}
"""Kinds with the label selector they are watched with."""

CONFIG = OperatorConfig(version="sim")
FAST_S, STEADY_S, RETRY_S = 1.0, 2.0, 2.0
PUT_S, AT_ONCE_S = 0.01, 0.05  # how long a PUT takes; when the look that its answer wakes is begun
"""Seconds between two looks of an observer, and before a failed push is tried again."""


class Killed(BaseException):
    """The operator process ends here. No ``except Exception`` may stop it."""


class OperatorBugError(BaseException):
    """The operator met an exception that it does not expect."""


@dataclass
class Informer:
    """The watch of one kind: events wait here until they are delivered, object by object."""

    kind: str
    labels: str
    world: World
    store: Store
    position: int = 0
    waiting: dict[str, deque[WatchEvent]] = field(default_factory=dict)
    lossy: bool = False

    def relist(self) -> None:
        """A full list: what was waiting is in it."""
        since = self.store.tick
        listing = self.world.server.list(self.kind, None, self.labels)
        self.position = len(self.world.server.log)
        self.waiting.clear()
        self.lossy = False
        self.store.replace(self.kind, None, listing.items, listing.resource_version, since)

    def fetch(self) -> dict[str, deque[WatchEvent]]:
        """Events that wait, by UID."""
        log = self.world.server.log
        news = log[self.position :] if self.position < len(log) else ()
        self.position = len(log)
        for change in news:
            if change.newest["kind"] != self.kind:
                continue
            event = as_event(change, self.labels)
            if event is not None:
                self.waiting.setdefault(uid_of(event.obj), deque()).append(event)
        return self.waiting

    def deliver(self, uid: str) -> None:
        """The next event of that object reaches the store."""
        obj, type_ = self._next(uid)
        if type_ == "DELETED":
            self.store.remove(self.kind, metadata(obj).get("namespace", ""), name_of(obj), uid_of(obj))
        else:
            self.store.put(obj)

    def lose(self, uid: str) -> None:
        """The next event of that object never arrives; the next full list tells."""
        self._next(uid)
        self.lossy = True

    def _next(self, uid: str) -> tuple[Manifest, str]:
        events = self.waiting[uid]
        event = events.popleft()
        if not events:
            del self.waiting[uid]
        return event.obj, event.type


@dataclass
class Watch:
    """The observer of one head."""

    target: ObserveTarget
    seen: ServeObservation
    due: float
    settled: set[tuple[str, str]] = field(default_factory=set)
    push_due: float = 0.0
    measuring: Measuring = field(default_factory=Measuring)


class SimObservers:
    """``engine.observers.Observers`` that look at simulated Serve instances when they are told to."""

    def __init__(self, world: World, on_change: Callable[[Key], None], on_put: Callable[[str], None]) -> None:
        self.world = world
        self.watches: dict[Ref, Watch] = {}
        self._keys: dict[Key, set[Ref]] = {}
        self._on_change = on_change
        self._on_put = on_put

    def sync(self, service_key: Key, targets: tuple[ObserveTarget, ...]) -> None:
        wanted = {target.cluster: target for target in targets}
        for gone in self._keys.get(service_key, set()) - set(wanted):
            del self.watches[gone]
        self._keys[service_key] = set(wanted)
        for cluster, target in wanted.items():
            watch = self.watches.get(cluster)
            if watch is None or watch.target.head_uid != target.head_uid or watch.target.head_ip != target.head_ip:
                seen = ServeObservation(head_uid=target.head_uid, started_at=self.world.now)
                self.watches[cluster] = Watch(target, seen, self.world.now)
                if watch is not None:
                    self._on_change(service_key)
            elif watch.target != target:
                if watch.target.push != target.push:
                    watch.push_due = 0.0
                watch.target = target
                watch.due = self.world.now

    def get(self, cluster: Ref) -> ServeObservation | None:
        watch = self.watches.get(cluster)
        return watch.seen if watch else None

    def load(self, cluster: Ref) -> Mapping[str, int] | None:
        seen = self.get(cluster)
        age = seen.age(self.world.now) if seen else None
        if seen is None or age is None or age > CONFIG.stale_after_s:
            return None
        return replicas_by_address(seen.applications.values())

    async def close(self) -> None:
        self.watches.clear()

    # --- driven by the simulation

    def due(self) -> list[Ref]:
        """Clusters to look at now."""
        return sorted(cluster for cluster, watch in self.watches.items() if watch.due <= self.world.now)

    def next_due(self) -> float | None:
        """When the next look is due."""
        return min((watch.due for watch in self.watches.values()), default=None)

    def look(self, cluster: Ref) -> None:
        """One look at a head: GET, or PUT where something is to be pushed. What the PUT brings is seen a look later."""
        watch = self.watches.get(cluster)
        if watch is None:
            return
        before = watch.seen
        now = self.world.now
        head = next((p for p in self.world.pods() if uid_of(p) == watch.target.head_uid), None)
        serve = self.world.serve_of(head) if head is not None and address(head) == watch.target.head_ip else None
        if head is None or serve is None:
            since = before.failing_since if before.failing_since is not None else now
            watch.seen = replace(before, error="no answer", failing_since=since)
        elif not self._push(watch, serve, now):
            nodes = self.world.nodes(head)
            watch.seen = replace(
                watch.seen,
                seen_at=now,
                session=serve.session,
                ray_version="2.60.0",
                error=None,
                failing_since=None,
                applications=serve.applications(now, nodes),
                target_capacity=serve.target_capacity,
                proxies={
                    **dict.fromkeys(watch.target.routed, False),
                    **serve.proxies(now, address(head), nodes),
                },
            )
        samples = watch.measuring.look(watch.target.analysis, now, self.world.import_path)
        watch.seen = replace(watch.seen, samples=samples)
        watch.due = now + self._pause(watch, before)
        if self._news(before, watch.seen):
            for key, clusters in self._keys.items():
                if cluster in clusters:
                    self._on_change(key)

    def _pause(self, watch: Watch, before: ServeObservation) -> float:
        if watch.seen.push is not before.push:
            return AT_ONCE_S
        moving = watch.target.fast or watch.seen.error is not None or watch.seen.seen_at is None
        return FAST_S if moving else STEADY_S

    def _push(self, watch: Watch, serve: Any, now: float) -> bool:
        """Whether there was anything to push."""
        push = watch.target.push
        if push is None or (push.config_hash, push.attempt) in watch.settled or now < watch.push_due:
            return False
        self._on_put(f"before PUT {push.config_hash}")
        state, message = "accepted", ""
        try:
            seen = serve.applications(now, [])
            serve.put(with_targets(push.payload, push.keep, seen) if push.keep else push.payload, now)
        except Refused as refusal:
            state, message = "rejected", str(refusal)
        self._on_put(f"after PUT {push.config_hash}")
        watch.settled.add((push.config_hash, push.attempt))
        result = PushResult(push.config_hash, push.attempt, state, now + PUT_S, message)  # type: ignore[arg-type]
        watch.seen = replace(watch.seen, push=result)
        return True

    def _news(self, before: ServeObservation, after: ServeObservation) -> bool:
        def meaning(seen: ServeObservation) -> tuple[ServeObservation, bool]:
            age = seen.age(self.world.now)
            stale = seen.error is not None and age is not None and age > CONFIG.stale_after_s
            told = replace(seen, seen_at=None if seen.seen_at is None else float(stale), failing_since=None)
            return told, seen.push_seen

        # The former observation is judged as of the former look, so that turning stale is news once.
        changed = meaning(before) != meaning(after)
        limit = (after.seen_at or 0.0) + CONFIG.stale_after_s
        return changed or (after.error is not None and limit < self.world.now <= limit + FAST_S)


@dataclass
class Said:
    """A note as the recorder got it."""

    at: float
    about: str
    note: Note


class Recorder(EventRecorder):
    """Keeps what was said instead of writing events: they have their own tests."""

    def __init__(self, world: World, api: Client, said: list[Said]) -> None:
        super().__init__(api, now=world.clock.now, instance="sim")
        self._world = world
        self._said = said

    def record(self, obj: Manifest, note: Note, *, same_as: str = "", action: str = "Reconcile") -> None:
        if "made a mistake" in note.message:
            raise OperatorBugError(note.message)  # its cause is the context of this one
        self._said.append(Said(self._world.now, f"{obj['kind']} {name_of(obj)}", note))


class NodeClient(Client):
    """Sees the one node of the world beside what the API server holds."""

    def __init__(self, world: World, gate: Gate) -> None:
        super().__init__(world.server, names.FIELD_MANAGER, gate)
        self.world = world

    async def page(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "", more: str = ""
    ) -> Listing:
        if kind != "Node":
            return await super().page(kind, namespace, labels=labels, fields=fields, more=more)
        listing: Listing = await self._do("list", kind, lambda: Listing((self.world.node(),), "0"))
        return listing


class Process:
    """The operator. ``on_put`` is told before and behind each PUT of a serve config."""

    def __init__(
        self,
        world: World,
        gate: Gate,
        said: list[Said],
        *,
        seed: int = 0,
        on_put: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.world = world
        self.store = Store()
        self.queue = WorkQueue(world.clock, rng=random.Random(seed))
        self.api = Client(world.server, names.FIELD_MANAGER, gate)
        self.observers = SimObservers(world, self.queue.add, on_put)
        dry_runs = DryRunCache()
        recorder = Recorder(world, self.api, said)
        self.surveys: list[Callable[[], Coroutine[Any, Any, None]]] = []
        surveyor = Surveyor(NodeClient(world, gate), world.clock, self.queue.add, self.surveys.append)
        self.executor = Executor(
            self.api,
            self.store,
            recorder,
            dry_runs,
            world.clock,
            surveyor=surveyor,
            new_token=lambda: "token",
            together=_in_turn,
        )
        self.reconciler = Reconciler(
            store=self.store,
            queue=self.queue,
            executor=self.executor,
            recorder=recorder,
            observers=self.observers,
            clock=world.clock,
            table=kinds(
                Snapshots(self.store, CONFIG, self.observers, dry_runs, surveyor=surveyor),
                decide_service,
                decide_cluster,
            ),
        )
        self.informers = {kind: Informer(kind, labels, world, self.store) for kind, labels in WATCHED.items()}
        for informer in self.informers.values():
            informer.relist()
        self.reconciler.resync()
        self.working: list[Coroutine[Any, Any, None]] = []

    def begin(self) -> Coroutine[Any, Any, None] | None:
        """Take a key from the queue; the reconcile that it leads to, not begun yet. None when there is none."""
        key = self.queue.pop()
        return None if key is None else self.reconciler.process(key)

    def survey(self) -> int:
        """Let the looks for room that were begun come to their end. How many there were."""
        begun, self.surveys[:] = list(self.surveys), []
        for work in begun:
            run(work())
        return len(begun)

    def deliver_all(self) -> int:
        """Every waiting event, in the order of their objects. How many there were."""
        count = 0
        for informer in self.informers.values():
            for uid in list(informer.fetch()):
                while uid in informer.waiting:
                    informer.deliver(uid)
                    count += 1
        return count


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a reconcile to its end: nothing in it waits for anything but the simulated API server."""
    while advance(coroutine):
        pass


def advance(coroutine: Coroutine[Any, Any, None]) -> bool:
    """Run a reconcile up to its next pause. Whether it goes on."""
    try:
        coroutine.send(None)
    except StopIteration:
        return False
    return True
