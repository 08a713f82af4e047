"""Random histories: edits, faults, kills and every order of events that a seed can think of."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, name_of, ref, uid_of
from rayservice_operator.kube.errors import (
    ApiError,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from tests.sim import manifests as m
from tests.sim.apiserver import WRITES, Name
from tests.sim.invariants import BrokenInvariantError
from tests.sim.process import Killed, Process, advance
from tests.sim.scenarios import create
from tests.sim.simulation import Everything, Orderly, attempt, new, service, user
from tests.sim.world import ready

STEPS: Final = 500
WORKERS: Final = 2
"""Reconciles that run side by side, interleaved at every call of the API."""


class Pause:
    """Awaited where another coroutine may run."""

    def __await__(self) -> Any:
        yield


@dataclass
class Dice:
    """How often what goes wrong, per call."""

    rng: random.Random
    failing: float = 0.0
    kill: float = 0.0


class RoughGate:
    """Suspends every call before and behind the server; calls fail, lose their answer, or end the process."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    async def before(self, verb: str, target: str) -> None:
        await Pause()
        self._maybe_kill()
        if self.dice.rng.random() < self.dice.failing:
            raise self._error(verb, target, lost=False)

    async def after(self, verb: str, target: str) -> None:
        await Pause()
        self._maybe_kill()
        if verb in WRITES and self.dice.rng.random() < self.dice.failing / 2:
            raise self._error(verb, target, lost=True)

    def _maybe_kill(self) -> None:
        if self.dice.rng.random() < self.dice.kill:
            raise Killed

    def _error(self, verb: str, target: str, *, lost: bool) -> ApiError:
        if lost:
            return Unreachable(f"no answer to {verb} {target}")
        errors: list[Callable[[], ApiError]] = [
            lambda: Unreachable(f"cannot send {verb} {target}"),
            lambda: ServerError(500, "InternalError", "etcd has no leader"),
            lambda: TooManyRequests(429, "TooManyRequests", "busy"),
        ]
        return self.dice.rng.choice(errors)()


@functools.cache
def _serving() -> Everything:
    """A service that has come up in good order: where most histories begin. Fork it."""
    everything = new(create())
    Orderly(everything).finish(idle_s=1.0)
    return everything


@dataclass
class History:
    """One seed's history. ``run`` plays it and then lets everything settle in good order."""

    seed: int
    steps: int = STEPS
    images: tuple[str, ...] = ("ray:a", "ray:b", "ray:c")

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dice = Dice(self.rng, self.rng.choice([0.0, 0.0, 0.05, 0.2]), self.rng.choice([0.0, 0.0, 0.005, 0.03]))
        self.calm = self.rng.random() < 0.4
        # Each seed does a few kinds of edits at a pace of its own: what is mixed always gets nowhere.
        self.kinds = set(self.rng.sample(range(len(self._edits())), self.rng.randrange(1, 4))) | {0}
        self.pace = {what: self.rng.choice([0.3, 1.0, 3.0]) for what in ("time", "edit", "fault", "deliver", "look")}
        begun = self.rng.random() < 0.8
        self.everything = _serving().fork() if begun else new()
        self.world, self.monitor = self.everything.world, self.everything.monitor
        if not begun:
            self.world.server.create("kubectl", m.rayservice())
        self.working: list[Coroutine[Any, Any, None]] = []
        self.trace: list[str] = []
        self.start()

    def start(self) -> None:
        """A new process with empty memory."""
        for coroutine in self.working:
            coroutine.close()
        self.working = []
        self.process = Process(
            self.world,
            RoughGate(self.dice),
            self.everything.transcript.said,
            seed=self.rng.randrange(2**32),
            on_put=self._put,
        )

    def _put(self, what: str) -> None:
        self.everything.transcript.put(what)
        if self.rng.random() < self.dice.kill:
            raise Killed

    def run(self) -> None:
        """Play, mend everything, settle, and check the end."""
        try:
            for _ in range(self.steps):
                self.step()
                self.monitor.check()
            self.settle()
        except BrokenInvariantError as broken:
            tail = "\n".join(self.everything.transcript.text().splitlines()[-120:])
            raise AssertionError(f"seed {self.seed}: {broken}\n{tail}\n{self.trace[-12:]}") from broken

    def settle(self) -> None:
        """Faults end; in good order everything must come right."""
        self.world.hung.clear()
        self.world.stuck = False
        self.world.gpus = 1000
        user(self.world, {"spec": {"suspend": False}}) if service(self.world) else None
        fix = {"serveConfigV2": m.serve_config(greeting="fixed"), "upgradeStrategy": None}
        if service(self.world):
            user(self.world, {"spec": fix})
        for coroutine in self.working:
            coroutine.close()
        Orderly(self.everything).finish(idle_s=60.0)

    # --- one step

    def step(self) -> None:
        """Something that can happen now happens, chosen by the dice."""
        choices: list[tuple[float, str, Callable[[], None]]] = []
        waiting = [(i, uid) for i in self.process.informers.values() for uid in i.fetch()]
        if waiting:
            choices.append((6, "deliver", lambda: self._deliver(waiting)))
        if len(self.working) < WORKERS:
            choices.append((6, "begin", self._begin))
        if self.working:
            choices.append((10, "advance", self._advance))
        enabled = self.world.enabled()
        if enabled:
            choices.append((6, "world", lambda: attempt(self.rng.choice(enabled))))
        due = self.process.observers.due()
        if due:
            choices.append((5, "look", lambda: self.process.observers.look(self.rng.choice(due))))
        choices.append((3, "time", self._time))
        choices.append((0.2, "edit", self._edit))
        choices.append((0.2, "fault", self._fault))
        choices.append((0.1, "relist", self._relist))
        weights = [weight * self.pace.get(what, 1.0) for weight, what, _ in choices]
        _, what, do = self.rng.choices(choices, weights)[0]
        self.trace.append(what)
        try:
            do()
        except Killed:
            self.trace.append("killed")
            self.start()

    def _deliver(self, waiting: list[Any]) -> None:
        informer, uid = self.rng.choice(waiting)
        if self.rng.random() < 0.01:
            informer.lose(uid)
        else:
            informer.deliver(uid)

    def _begin(self) -> None:
        work = self.process.begin()
        if work is not None and advance(work):
            self.working.append(work)

    def _advance(self) -> None:
        work = self.rng.choice(self.working)
        if not advance(work):
            self.working.remove(work)

    def _time(self) -> None:
        self.world.clock.advance(self.rng.choice([0.1, 0.5, 1.0, 3.0]))

    def _relist(self) -> None:
        self.rng.choice(list(self.process.informers.values())).relist()

    def _edit(self) -> None:
        name, patch = self.rng.choice([e for number, e in enumerate(self._edits()) if number in self.kinds])
        self.trace.append(name)
        if service(self.world) is None:
            self.world.server.create("kubectl", m.rayservice(self.rng.choice(self.images)))
        else:
            user(self.world, {"spec": patch})

    def _edits(self) -> list[tuple[str, dict[str, Any]]]:
        image = self.rng.choice(self.images)
        greeting = self.rng.choice(["hello", "good day", "good evening"])
        path = self.rng.choice(["demo:app", "demo:app", "broken:app", "refused:app"])
        return [
            (f"image {image}", {"rayClusterConfig": m.cluster_spec(image)}),
            (f"image {image}", {"rayClusterConfig": m.cluster_spec(image)}),
            (f"config {path} {greeting}", {"serveConfigV2": m.serve_config(path, greeting=greeting)}),
            (
                f"image {image} and config {path}",
                {"rayClusterConfig": m.cluster_spec(image), "serveConfigV2": m.serve_config(path)},
            ),
            ("threshold", {"deploymentUnhealthySecondThreshold": self.rng.choice([1, 10])}),
            ("invalid config", {"serveConfigV2": "applications: 5"}),
            ("workers", {"rayClusterConfig": m.cluster_spec(image, workers=self.rng.randrange(1, 4))}),
            ("suspend", {"suspend": True}),
            ("resume", {"suspend": False}),
            ("strategy", {"upgradeStrategy": {"type": self.rng.choice(["NewCluster", "None"])}}),
        ]

    def _fault(self) -> None:
        pods = [p for p in self.world.pods() if not is_terminating(p)]
        clusters = [c for c in self.world.server.kind("RayCluster") if not is_terminating(c)]
        choices: list[tuple[str, Callable[[], None]]] = [("restart the operator", self.start), ("gpus", self._gpus)]
        if pods and not self.calm:
            pod = self.rng.choice(pods)
            choices += [
                (f"kill {name_of(pod)}", lambda: self._strike(pod, self.world.kill)),
                (f"drain {name_of(pod)}", lambda: self._strike(pod, self.world.drain)),
            ]
            choices.append((f"hang {name_of(pod)}", lambda: self._hang(uid_of(pod))))
        if clusters:
            cluster = self.rng.choice(clusters)
            choices.append((f"autoscale {name_of(cluster)}", lambda: self._autoscale(cluster)))
            if not self.calm:
                choices.append((f"delete {name_of(cluster)}", lambda: self._delete(cluster)))
        what, do = self.rng.choice(choices)
        self.trace.append(what)
        do()

    def _strike(self, pod: Manifest, blow: Callable[[Manifest], None]) -> None:
        """Only the loss of a serving cluster's head, or of its only pod that serves, may be felt by clients."""
        serving = self.world.serving(names.serve_service_name(m.NAME))
        head = labels_of(pod).get(names.NODE_TYPE) == names.HEAD
        mates = {name_of(p) for p in self.world.pods(labels_of(pod).get(names.CLUSTER))}
        if head:
            self.monitor.behead(labels_of(pod).get(names.CLUSTER, ""))
        if (head and mates & set(serving)) or set(serving) <= {name_of(pod)}:
            self.monitor.excuse()
        blow(pod)

    def _gpus(self) -> None:
        self.world.gpus = self.rng.choice([2, 3, 4, 1000])

    def _hang(self, uid: str) -> None:
        self.world.hung ^= {uid}

    def _delete(self, cluster: Any) -> None:
        self.monitor.excuse()
        self.world.server.delete(
            "kubectl", ref(cluster), None, "Foreground" if self.rng.random() < 0.5 else "Background"
        )

    def _autoscale(self, cluster: Any) -> None:
        live = self.world.server.find(Name("RayCluster", m.NAMESPACE, name_of(cluster)))
        if live is None:
            return
        workers = [
            name_of(p)
            for p in self.world.pods(name_of(cluster))
            if labels_of(p)[names.NODE_TYPE] == names.WORKER and ready(p)
        ]
        group = live["spec"]["workerGroupSpecs"][0]
        if workers and self.rng.random() < 0.5:
            self.world.autoscale(live, 0, max(0, group["replicas"] - 1), [self.rng.choice(workers)])
        else:
            self.world.autoscale(live, 0, min(group["maxReplicas"], group["replicas"] + 1), [])


def play(seed: int, steps: int = STEPS) -> History:
    """Play the history of a seed; raises AssertionError with the transcript."""
    history = History(seed, steps)
    history.run()
    return history
