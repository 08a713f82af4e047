"""Random histories: edits, faults, kills and every order of events that a seed can think of."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.kube.errors import (
    ApiError,
    ServerError,
    TooManyRequests,
    Unreachable,
)
from tests.sim import manifests as m
from tests.sim.apiserver import WRITES
from tests.sim.edits import EDITS, calm
from tests.sim.faults import FAULTS, HARMLESS
from tests.sim.invariants import BrokenInvariantError
from tests.sim.process import Killed, Process, advance
from tests.sim.scenarios import DURABLE, IN_PLACE, create
from tests.sim.simulation import Everything, Orderly, attempt, new, service, user

STARTS: Final[Mapping[str, dict[str, Any]]] = {
    "": {},
    "in place": {"upgradeStrategy": IN_PLACE},
    "in place, with fault tolerance": {"upgradeStrategy": IN_PLACE, "rayClusterConfig": m.cluster_spec(**DURABLE)},
}
"""How the service is made: fields of its spec."""

STEPS: Final = 500
RESTART: Final = "restart the operator"
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
def serving(what: str = "") -> Everything:
    """A service that has come up in good order, one of ``STARTS``: where most histories begin. Fork it."""
    everything = new(create(**STARTS[what]))
    Orderly(everything).finish(idle_s=1.0)
    return everything


@dataclass
class History:
    """One seed's history. ``run`` plays it and then lets everything settle in good order."""

    seed: int
    steps: int = STEPS

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dice = Dice(self.rng, self.rng.choice([0.0, 0.0, 0.05, 0.2]), self.rng.choice([0.0, 0.0, 0.005, 0.03]))
        self.calm = self.rng.random() < 0.4
        # Each seed does a few kinds of edits at a pace of its own: what is mixed always gets nowhere.
        start = self.rng.choice(["", "", "", *STARTS])
        first = "worker image" if start else "image"
        self.kinds = [first, *self.rng.sample(sorted(EDITS), self.rng.randrange(1, 4))]
        self.faults = [RESTART, *(what for what in FAULTS if not self.calm or what in HARMLESS)]
        self.pace = {what: self.rng.choice([0.3, 1.0, 3.0]) for what in ("time", "edit", "fault", "deliver", "look")}
        begun = self.rng.random() < 0.8
        self.everything = serving(start).fork() if begun else new()
        self.world, self.monitor = self.everything.world, self.everything.monitor
        self.monitor.rolls.exact = not self.dice.failing
        if not begun:
            self.world.server.create("kubectl", m.rayservice(**STARTS[start]))
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
        self.world.mend()
        if stored := service(self.world):
            user(self.world, calm(stored))
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
        if self.process.surveys:
            choices.append((4, "survey", self._survey))
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

    def _survey(self) -> None:
        """A look for room begins; it goes on beside the reconciles, and nothing waits for it."""
        work = self.process.surveys.pop(0)()
        if advance(work):
            self.working.append(work)

    def _time(self) -> None:
        self.world.clock.advance(self.rng.choice([0.1, 0.5, 1.0, 3.0]))

    def _relist(self) -> None:
        self.rng.choice(list(self.process.informers.values())).relist()

    def _edit(self) -> None:
        edit = self.rng.choice(EDITS[self.rng.choice(self.kinds)])
        self.trace.append(edit.what)
        edit.apply(self.world)

    def _fault(self) -> None:
        what = self.rng.choice(self.faults)
        if what == RESTART:
            self.trace.append(what)
            self.start()
        else:
            self.trace.append(f"{what} {FAULTS[what](self.world, self.monitor, self.rng.choice)}")


def play(seed: int, steps: int = STEPS) -> History:
    """Play the history of a seed; raises AssertionError with the transcript."""
    history = History(seed, steps)
    history.run()
    return history
