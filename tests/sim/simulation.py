"""A world, the operator in it, and who decides what happens next: in good order, or by the dice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rayservice_operator.core.objects import Manifest
from rayservice_operator.kube.errors import Conflict, NotFound
from rayservice_operator.kube.resources import reference
from tests.sim.apiserver import WRITES, Gate, Name, OpenGate
from tests.sim.invariants import BrokenInvariantError, Monitor
from tests.sim.manifests import NAME, NAMESPACE
from tests.sim.process import Process, run
from tests.sim.transcript import Transcript
from tests.sim.world import Step, World

LIMIT_S = 1200.0
"""Simulated seconds in which everything must have settled."""

QUIET_S = 35.0
"""Simulated seconds without a write after which nothing more is expected: longer than any delay in the manifests."""

IDLE_S = 400.0
"""Simulated seconds of watching that nothing is written."""


@dataclass(frozen=True)
class Stage:
    """``do`` is what the person does, ``until`` when the next stage begins."""

    what: str
    do: Callable[[World, Monitor], None]
    until: Callable[[World], bool] = lambda _: True


@dataclass
class Stages:
    """Which stage is on: part of what survives the operator."""

    stages: tuple[Stage, ...]
    index: int = 0
    begun: bool = False

    @property
    def over(self) -> bool:
        """Whether all stages have been passed."""
        return self.index >= len(self.stages)


@dataclass
class Everything:
    """All that survives the operator; copied as one."""

    world: World
    monitor: Monitor
    transcript: Transcript
    stages: Stages = field(default_factory=lambda: Stages(()))

    def fork(self) -> Everything:
        """An independent copy."""
        stages = Stages(self.stages.stages, self.stages.index, self.stages.begun)
        world, monitor, transcript = copy.deepcopy((self.world, self.monitor, self.transcript))
        return Everything(world, monitor, transcript, stages)


def new(*stages: Stage, seed: int = 0, **world: Any) -> Everything:
    """An empty cluster."""
    made = World(seed=seed, **world)
    transcript = Transcript(made)
    return Everything(made, Monitor(made), transcript, Stages(stages))


class ForkingGate(OpenGate):
    """Keeps a copy of everything before and behind every write: where an operator could be killed."""

    def __init__(self, everything: Everything) -> None:
        self.everything = everything
        self.forks: list[tuple[str, Everything]] = []
        self._last: tuple[object, ...] | None = None

    async def before(self, verb: str, target: str) -> None:
        if verb in WRITES:
            self.put(f"before {verb} {target}")

    async def after(self, verb: str, target: str) -> None:
        if verb in WRITES:
            self.put(f"after {verb} {target}")

    def put(self, what: str) -> None:
        """Also around each PUT of a serve config. Behind one write and before the next is the same moment."""
        moment = self.everything.world.moment()
        if moment != self._last:
            self._last = moment
            self.forks.append((what, self.everything.fork()))


class Orderly:
    """Everything happens as soon as it can, in the same order each time."""

    def __init__(
        self, everything: Everything, gate: Gate | None = None, on_put: Callable[[str], None] | None = None
    ) -> None:
        self.everything = everything
        self.world, self.monitor = everything.world, everything.monitor

        def put(what: str) -> None:
            everything.transcript.put(what)
            if on_put is not None:
                on_put(what)

        self._stage_time = self.world.now
        self.process = Process(self.world, gate or OpenGate(), everything.transcript.said, on_put=put)

    def finish(self, idle_s: float = IDLE_S) -> None:
        """Through all stages to the end state, and then nothing may be written any more."""
        self._stage_time = self.world.now
        deadline = self.world.now + LIMIT_S
        stages = self.everything.stages
        while not (stages.over and self.quiet()):
            self.turn()
            if self.world.now > deadline:
                where = "the end" if stages.over else stages.stages[stages.index].what
                raise BrokenInvariantError(f"not settled within {LIMIT_S:g} s: {where}")
        writes, until = self.monitor.writes, self.world.now + idle_s
        while self.world.now < until:
            self.turn()
        if self.monitor.writes != writes:
            raise BrokenInvariantError(f"{self.monitor.writes - writes} writes while idle")
        self.monitor.check_settled()

    def quiet(self) -> bool:
        """Whether the operator has not written anything for a while."""
        return self.world.now - max(self.monitor.last_write, self._stage_time) > QUIET_S

    def turn(self) -> None:
        """Everything that can happen now, then the clock goes on to the next thing."""
        self._stage()
        moved = True
        while moved:
            moved = bool(self.process.deliver_all())
            while (work := self.process.begin()) is not None:
                run(work)
                self.monitor.check()
                moved = True
            moved = bool(self.process.survey()) or moved
            for cluster in self.process.observers.due():
                self.process.observers.look(cluster)
                moved = True
            for step in self.world.enabled():
                attempt(step)
                self.monitor.check()
                moved = True
        self.monitor.check_words()
        self._tick()

    def _stage(self) -> None:
        stages = self.everything.stages
        while not stages.over:
            stage = stages.stages[stages.index]
            if not stages.begun:
                stage.do(self.world, self.monitor)
                stages.begun = True
                self._stage_time = self.world.now
            if not stage.until(self.world):
                return
            stages.index, stages.begun = stages.index + 1, False
            self._stage_time = self.world.now

    def _tick(self) -> None:
        now = self.world.now
        due = self.process.queue.next_due()
        times = [
            self.world.next_due(),
            self.process.observers.next_due(),
            None if due is None else now + (due - self.world.clock.monotonic()),
            now + 5.0,
        ]
        self.world.clock.advance(max(0.001, min(t for t in times if t is not None) - now))


def attempt(step: Step) -> None:
    """Do a step of the cluster; what it was about may just have gone."""
    try:
        step.do()
    except (NotFound, Conflict):
        return


# --- what people do


def user(world: World, patch: Manifest, name: str = NAME) -> None:
    """``kubectl patch --type merge`` of the RayService."""
    world.server.merge_patch("kubectl", reference("RayService", NAMESPACE, name), patch)


def service(world: World, name: str = NAME) -> Manifest | None:
    """The RayService as stored."""
    return world.server.find(Name("RayService", NAMESPACE, name))


def status(world: World, name: str = NAME) -> Manifest:
    """Its status."""
    return (service(world, name) or {}).get("status") or {}


def condition(world: World, type_: str, name: str = NAME) -> str:
    """Status of one of its conditions, empty when absent."""
    return next((c["status"] for c in status(world, name).get("conditions") or () if c["type"] == type_), "")
