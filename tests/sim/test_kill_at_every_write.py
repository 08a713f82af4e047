"""The operator is killed before and behind each of its writes, and a new one comes to the same end.

One run of a scenario keeps a copy of the cluster at every moment where a process could end (behind one write and
before the next is the same moment). From each copy a new process, which knows nothing, goes on to the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.sim.invariants import BrokenInvariantError, fingerprint
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Everything, ForkingGate, Orderly, new
from tests.sim.workers import workers

KILLED = (
    "create",
    "hot_update",
    "upgrade",
    "suspend_resume",
    "clusters_suspended_during_upgrade",
    "suspended_after_giving_up",
    "head_death",
    "back_during_upgrade",
    "third_during_upgrade",
    "active_cluster_deleted",
    "failed_update",
    "failed_update_again",
    "recovered",
    "update_that_falls_ill",
    "upgrade_given_up",
    "in_place",
    "in_place_surge",
    "in_place_stuck",
    "in_place_back",
    "in_place_aborted",
    "in_place_with_config",
    "upgrade_without_room",
    "analysis_passed",
    "analysis_failed",
    "in_place_head",
)


@pytest.fixture(scope="module")
def problems(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[str]]]:
    """What each chosen scenario comes to, all of them begun at once, as many side by side as there are cores."""
    items = (item for item in request.session.items if item.path == request.path)
    chosen = [str(item.callspec.params["name"]) for item in items if isinstance(item, pytest.Function)]
    with workers() as pool:
        yield {name: pool.submit(_problem, name) for name in chosen}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", KILLED)
def test_same_end(name: str, problems: Mapping[str, Future[str]]) -> None:
    if problem := problems[name].result():
        pytest.fail(problem, pytrace=False)


def _problem(name: str) -> str:
    """The first moment to be killed at that leads to another end; empty for none."""
    logging.disable(logging.CRITICAL)
    everything = new(*SCENARIOS[name])
    gate = ForkingGate(everything)
    Orderly(everything, gate, gate.put).finish()
    wanted = fingerprint(everything.world)
    assert len(gate.forks) > everything.monitor.writes
    told = ((where, fork, _end(fork, wanted)) for where, fork in gate.forks)
    return next((f"killed {where}: {end}\n{fork.transcript.text()}" for where, fork, end in told if end), "")


def _end(fork: Everything, wanted: dict[str, object]) -> str:
    try:
        Orderly(fork).finish(idle_s=10.0)
    except BrokenInvariantError as broken:
        return str(broken)
    got = fingerprint(fork.world)
    differing = (key for key in sorted(wanted.keys() | got.keys()) if wanted.get(key) != got.get(key))
    return "; ".join(f"{key}: {got.get(key)} instead of {wanted.get(key)}" for key in differing)
