"""The same edits and faults in Hypothesis's hands: a few coarse steps each, so a failure shrinks to a short story.

Where ``test_histories`` interleaves every event by the dice, here all happens in good order between the steps, but
for what a step spoils: the operator dies at its n-th write from now, or gets errors, or misses what a watch tells.
``HYPOTHESIS_EXAMPLES`` is how many (100). They are the same each time; ``HYPOTHESIS_SEED`` looks for others.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Final, ParamSpec

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rayservice_operator.kube.errors import ServerError, TooManyRequests, Unreachable
from tests.sim.apiserver import WRITES
from tests.sim.edits import EDITS, Edit, calm
from tests.sim.faults import FAULTS, chosen_by
from tests.sim.histories import serving
from tests.sim.invariants import BrokenInvariantError
from tests.sim.process import Killed, OperatorBugError
from tests.sim.simulation import Orderly, service, user

EXAMPLES: Final = int(os.environ.get("HYPOTHESIS_EXAMPLES", "100"))
SEED: Final = os.environ.get("HYPOTHESIS_SEED")

ERRORS: Final[dict[str, Callable[[str], Exception]]] = {
    "not sent": Unreachable,
    "refused": lambda what: ServerError(500, "InternalError", what),
    "busy": lambda what: TooManyRequests(429, "TooManyRequests", what),
}
LOST: Final = "answer lost"


class SpoiltGate:
    """Lets calls through until a step has spoilt the next ones."""

    def __init__(self) -> None:
        self.kill_in = 0
        self.failing: list[str] = []

    async def before(self, verb: str, target: str) -> None:
        if verb in WRITES and self.kill_in == 1:
            self.kill_in = 0
            raise Killed
        if self.failing and self.failing[0] != LOST:
            raise ERRORS[self.failing.pop(0)](f"{verb} {target}")

    async def after(self, verb: str, target: str) -> None:
        if verb not in WRITES:
            return
        if self.kill_in:
            self.kill_in -= 1
        if self.failing and self.failing[0] == LOST:
            self.failing.pop(0)
            raise Unreachable(f"no answer to {verb} {target}")


P = ParamSpec("P")


def told(step: Callable[P, None]) -> Callable[P, None]:
    """Hypothesis shrinks what fails with an Exception; what must get past the operator's own handlers is none."""

    @functools.wraps(step)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(*args, **kwargs)
        except (BrokenInvariantError, OperatorBugError) as broken:
            raise AssertionError(str(broken)) from broken

    return wrapped


class Histories(RuleBasedStateMachine):
    """A service that has come up, and what people and fate do to it."""

    def __init__(self) -> None:
        super().__init__()
        self.everything = serving().fork()
        self.world, self.monitor = self.everything.world, self.everything.monitor
        self.gate = SpoiltGate()
        self.start()

    def start(self) -> None:
        """Another operator process."""
        self.gate.kill_in = 0
        self.orderly = Orderly(self.everything, self.gate)

    @rule(edit=st.sampled_from([edit for edits in EDITS.values() for edit in edits]))
    @told
    def person(self, edit: Edit) -> None:
        edit.apply(self.world)

    @rule(what=st.sampled_from(sorted(FAULTS)), which=st.integers(0, 3))
    @told
    def fault(self, what: str, which: int) -> None:
        FAULTS[what](self.world, self.monitor, chosen_by(which))

    @rule(seconds=st.sampled_from([0, 1, 5, 20, 60]))
    @told
    def time(self, seconds: int) -> None:
        """In good order, until the clock has gone on so far."""
        until = self.world.now + seconds
        while True:
            try:
                self.orderly.turn()
            except Killed:
                self.start()
            if self.world.now > until:
                return

    @rule()
    @told
    def restart(self) -> None:
        self.start()

    @precondition(lambda self: not self.gate.kill_in)
    @rule(writes=st.integers(1, 12))
    @told
    def kill_at_write(self, writes: int) -> None:
        """The operator dies before its ``writes``-th write from now, or with the next step behind the last of them."""
        self.gate.kill_in = writes

    @rule(errors=st.lists(st.sampled_from([*sorted(ERRORS), LOST]), min_size=1, max_size=4))
    @told
    def calls_fail(self, errors: list[str]) -> None:
        """The next calls to the API server."""
        self.gate.failing = errors
        self.monitor.rolls.exact = False

    @rule(kind=st.sampled_from(["Pod", "RayCluster", "RayService", "EndpointSlice"]))
    @told
    def watch_breaks(self, kind: str) -> None:
        """All that a watch has not delivered yet is lost; a full list follows."""
        informer = self.orderly.process.informers[kind]
        for uid in list(informer.fetch()):
            while uid in informer.waiting:
                informer.lose(uid)
        informer.relist()

    @invariant()
    @told
    def all_holds(self) -> None:
        self.monitor.check()

    @told
    def teardown(self) -> None:
        """Faults end, and everything must come right."""
        self.gate.kill_in, self.gate.failing = 0, []
        self.world.mend()
        if stored := service(self.world):
            user(self.world, calm(stored))
        self.orderly.finish(idle_s=60.0)


def test_short_histories() -> None:
    machine = seed(int(SEED))(Histories) if SEED else Histories
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            derandomize=SEED is None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
