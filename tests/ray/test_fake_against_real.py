"""The fake is believed because it does what Ray does: one script, spoken to both, same answers.

Times differ, so do states too short to be seen; what must agree is every HTTP status, where each application ends,
which replicas survive a step, the echo of the config and the shape of the details.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from rayservice_operator.ray.details import readable, validation_message
from tests.fakes.fake_ray import fake_ray
from tests.ray import real_ray, scenario
from tests.ray.scenario import Driver, Record

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(600)]

STARTUP_S = 120.0


@pytest.fixture(scope="module")
def records() -> tuple[dict[str, Record], dict[str, Record]]:
    """The script's records: of the fake, of real Ray. Run once for all tests below."""
    return asyncio.run(_both())


async def _both() -> tuple[dict[str, Record], dict[str, Record]]:
    with real_ray.running() as ray:
        async with aiohttp.ClientSession() as http, fake_ray() as fake:
            ours = await scenario.run(Driver(http, f"http://127.0.0.1:{fake.port}", fake.serve_port))
            driver = Driver(http, ray.dashboard, ray.serve_port)
            await _answers(driver, ray)
            theirs = await scenario.run(driver)
    return ours, theirs


async def _answers(driver: Driver, ray: real_ray.RealRay) -> None:
    until = time.monotonic() + STARTUP_S
    while True:
        try:
            await driver.get()
        except aiohttp.ClientError:
            ray.check()
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
        else:
            return


Pair = tuple[dict[str, Record], dict[str, Record]]


def test_every_step_has_the_same_status(records: Pair) -> None:
    ours, theirs = records
    assert {k: r.status for k, r in ours.items()} == {k: r.status for k, r in theirs.items()}


def test_applications_end_in_the_same_state(records: Pair) -> None:
    ours, theirs = records
    assert {k: _ends(r) for k, r in ours.items()} == {k: _ends(r) for k, r in theirs.items()}


def test_the_fake_passes_no_state_that_ray_does_not(records: Pair) -> None:
    """The other way round Ray may show more: it looks at its deployments one after another."""
    ours, theirs = records
    strange = {
        (step, name, str(state))
        for step, record in ours.items()
        for name, states in record.states.items()
        for state in states
        if state not in theirs[step].states.get(name, []) and not _fleeting(state)
    }
    assert not strange


def test_the_same_steps_replace_replicas(records: Pair) -> None:
    ours, theirs = records
    steps = [k for k, r in theirs.items() if r.last]
    assert _kept(ours, steps) == _kept(theirs, steps)


def test_external_targets_survive_alike(records: Pair) -> None:
    """A PUT of the same, or that names the target, keeps it; any other change puts it back."""
    ours, theirs = ({k: _target(r) for k, r in one.items() if k.startswith("scale") and r.last} for one in records)
    assert ours == theirs
    kept = {"scaled", "scaled_same", "scaled_again", "scaled_named"}
    assert {step for step, target in theirs.items() if target == 2} == kept | {"scale"}


def _target(record: Record) -> int:
    greeter = record.last["applications"]["one"]["deployments"]["Greeter"]
    return int(greeter["target_num_replicas"])


def test_configs_are_echoed_alike(records: Pair) -> None:
    ours, theirs = records
    for step, record in ours.items():
        assert _echoes(record) == _echoes(theirs[step]), step


def test_details_have_the_same_shape(records: Pair) -> None:
    """What the fake says, Ray says too, with the same types; Ray says more."""
    ours, theirs = records
    for step in ("first", "second_app", "broken"):
        assert _differences(_without_ids(ours[step].last), _without_ids(theirs[step].last), step) == []


def test_complaints_read_alike(records: Pair) -> None:
    ours, theirs = records
    assert {_field(ours[s].body) for s in _REFUSED} == {_field(theirs[s].body) for s in _REFUSED}
    last_line = [readable(r["policy_import"].body).splitlines()[-1] for r in records]
    assert last_line[0] == last_line[1] == "ModuleNotFoundError: No module named 'nomod'"


_REFUSED = ("no_import_path", "no_applications", "twice", "same_route", "zero_replicas")


def _field(body: str) -> str:
    return validation_message(body).partition(":")[0]


def _ends(record: Record) -> dict[str, Any]:
    return {name: states[-1] for name, states in record.states.items() if name in record.last["applications"]}


def _fleeting(state: tuple[str, dict[str, str]]) -> bool:
    """States that real Ray passes within one control loop (0.1 s), so that a look may miss them."""
    return state[0] in ("DEPLOYING", "DELETING")


def _kept(records: dict[str, Record], steps: list[str]) -> dict[str, bool]:
    """Whether the replicas of application ``one`` that ran before a step still run after it."""
    result: dict[str, bool] = {}
    before: set[str] = set()
    for step in steps:
        after = scenario.replica_ids(records[step].last, "one")
        if before and after:
            result[step] = before <= after or after <= before
        before = after or before
    return result


def _echoes(record: Record) -> dict[str, Any]:
    return {n: a["deployed_app_config"] for n, a in record.last.get("applications", {}).items()}


def _without_ids(details: dict[str, Any]) -> dict[str, Any]:
    return {**details, "proxies": dict(enumerate(details["proxies"].values())), "controller_health_metrics": {}}


def _differences(fake: Any, real: Any, where: str) -> list[str]:
    if isinstance(fake, dict) and isinstance(real, dict):
        return [
            difference
            for key, value in fake.items()
            for difference in (
                _differences(value, real[key], f"{where}.{key}") if key in real else [f"{where}.{key}: only the fake"]
            )
        ]
    if isinstance(fake, list) and isinstance(real, list):
        return _differences(fake[0], real[0], f"{where}[0]") if fake and real else []
    same = type(fake) is type(real) or fake is None or real is None
    return [] if same else [f"{where}: {type(fake).__name__}, Ray: {type(real).__name__}"]
