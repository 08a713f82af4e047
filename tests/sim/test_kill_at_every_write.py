"""The operator is killed before and behind each of its writes, and a new one comes to the same end.

One run of a scenario keeps a copy of the cluster at every moment where a process could end (behind one write and
before the next is the same moment). From each copy a new process, which knows nothing, goes on to the end.
"""

from __future__ import annotations

import pytest

from tests.sim.invariants import BrokenInvariantError, fingerprint
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Everything, ForkingGate, Orderly, new

KILLED = (
    "create",
    "hot_update",
    "upgrade",
    "suspend_resume",
    "head_death",
    "back_during_upgrade",
    "third_during_upgrade",
    "active_cluster_deleted",
    "failed_update",
    "failed_update_again",
    "upgrade_given_up",
    "in_place",
    "in_place_surge",
    "in_place_stuck",
    "in_place_back",
    "in_place_with_config",
    "upgrade_without_room",
    "analysis_passed",
    "analysis_failed",
)


@pytest.mark.parametrize("name", KILLED)
def test_same_end(name: str) -> None:
    everything = new(*SCENARIOS[name])
    gate = ForkingGate(everything)
    Orderly(everything, gate, gate.put).finish()
    wanted = fingerprint(everything.world)
    assert len(gate.forks) > everything.monitor.writes

    for where, fork in gate.forks:
        problem = _end(fork, wanted)
        if problem:
            pytest.fail(f"killed {where}: {problem}\n{fork.transcript.text()}")


def _end(fork: Everything, wanted: dict[str, object]) -> str:
    try:
        Orderly(fork).finish(idle_s=10.0)
    except BrokenInvariantError as broken:
        return str(broken)
    got = fingerprint(fork.world)
    differing = (key for key in sorted(wanted.keys() | got.keys()) if wanted.get(key) != got.get(key))
    return "; ".join(f"{key}: {got.get(key)} instead of {wanted.get(key)}" for key in differing)
