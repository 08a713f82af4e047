"""``serve_runtime.pipeline:app`` on a real Ray, through HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_runtime.live import Live, example, served, until

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(400)]

HERE = "tests.serve_runtime.sample_steps"


def application(name: str, steps: dict[str, Any], configs: dict[str, Any] | None = None, **args: Any) -> dict[str, Any]:
    """One of the config; ``configs`` are user configs of steps."""
    names = ["Pipeline", *(step for step, each in steps.items() if "use" in each)]
    own: list[dict[str, Any]] = [{"name": each, "ray_actor_options": {"num_cpus": 0}} for each in names]
    for each in own:
        if configs and each["name"] in configs:
            each["user_config"] = configs[each["name"]]
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.pipeline:app",
        "args": {"steps": steps, **args},
        "deployments": own,
    }


def applications(marks: Path, amount: float = 1.0, timeout_s: float = 60.0) -> list[dict[str, Any]]:
    """A graph with all there is, large results, and a step that holds its calls."""
    steps: dict[str, Any] = {
        "first": {"use": f"{HERE}:Add"},
        "low": {"use": f"{HERE}:Add", "init": {"amount": 10}, "after": ["first"],
                "when": {"of": "first", "is": "below", "to": 100}},
        "high": {"use": f"{HERE}:Add", "init": {"amount": 1000}, "after": ["first"],
                 "when": {"of": "first", "is": "above", "to": 100}},
        "shaky": {"use": f"{HERE}:Add", "after": ["low"], "optional": True},
        "joined": {"use": f"{HERE}:Add", "after": ["low", "high", "shaky"], "needs": "any"},
        "mean": {"combine": "mean", "after": ["first", "joined"]},
    }  # fmt: skip
    large = {"make": {"use": f"{HERE}:Large"}, "size": {"use": f"{HERE}:Large", "after": ["make"]}}
    return [
        application("graph", steps, {"first": {"amount": amount}}, output=["joined", "mean"]),
        application("large", large, timeout_s=timeout_s),
        application(
            "holds", {"hold": {"use": f"{HERE}:Holds", "init": {"marks": str(marks)}, "each": True}}, max_fan_out=3
        ),
        example("pipeline"),
    ]


@pytest.fixture(scope="module")
def live(marks: Path) -> Iterator[Live]:
    """All applications, running."""
    with served(applications(marks)) as found:
        yield found


def idle(live: Live, name: str) -> bool:
    """Whether no request is under way."""
    return bool(live.ask("GET", f"/{name}/graph").json["in_flight"] == 0)


def test_branches_optional_members_and_several_outputs(live: Live) -> None:
    # first 2, low 12, shaky 13
    assert live.ask("POST", "/graph/run", 1).json == {"joined": 25.0, "mean": 13.5}
    # first 201, high 1201
    assert live.ask("POST", "/graph/run", 200).json == {"joined": 1201.0, "mean": 701.0}


def test_the_example_does_what_it_says(live: Live) -> None:
    assert live.ask("POST", "/example-pipeline/run", "Good, cheap and good!").json == {"verdict": "buy it", "of": 0.375}
    assert live.ask("POST", "/example-pipeline/run", "Bad.").json == {"verdict": "leave it", "of": 0.0}


def test_an_optional_step_that_fails_is_left_out(live: Live) -> None:
    # first 3, low 13, for which shaky raises
    assert live.ask("POST", "/graph/run", 2).json == {"joined": 13.0, "mean": 8.0}


def test_large_results_go_from_step_to_step(live: Live) -> None:
    assert live.ask("POST", "/large/run", 20_000_000).json == 20_000_000


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/graph/run", b"{", 400, "malformed_input"),
        ("/graph/run", -1, 422, "bad_input"),
        ("/graph/run", 13, 500, "failed"),
        ("/large/run", -1, 422, "bad_input"),
        ("/holds/run", [1, 2, 3, 4], 422, "bad_input"),
        ("/holds/run", {"no": "list"}, 422, "bad_input"),
    ],
)
def test_mistakes_have_their_status(live: Live, path: str, body: Any, status: int, code: str) -> None:
    answer = live.ask("POST", path, body, x_request_id="mine")
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert answer.json["error"]["request_id"] == "mine"
    assert b"machine room" not in answer.body
    if body == 13:
        assert "step 'first'" in answer.json["error"]["message"]
    assert idle(live, path.split("/")[1])


def test_a_client_that_leaves_ends_the_calls_of_all_steps(live: Live, marks: Path) -> None:
    with live.connection() as to:
        to.request("POST", "/holds/run", body=json.dumps([1, 2]).encode(), headers={"content-type": "application/json"})
        until(lambda: (marks / "begun-1").exists() and (marks / "begun-2").exists(), live.ray)
        assert not idle(live, "holds")
    until(lambda: (marks / "cancelled-1").exists() and (marks / "cancelled-2").exists(), live.ray)
    until(lambda: idle(live, "holds"), live.ray)


def test_steps_are_measured(live: Live) -> None:
    wanted = ["serve_runtime_pipeline_request_seconds_bucket{", "serve_runtime_pipeline_step_seconds_bucket{"]
    until(lambda: all(each in live.metrics() for each in wanted), live.ray)


def replicas(live: Live, name: str) -> dict[str, set[str]]:
    """Step to the ids of its replicas that run."""
    return {
        step: {each["replica_id"] for each in found["replicas"] if each["state"] == "RUNNING"}
        for step, found in live.states()[name]["deployments"].items()
    }


def test_a_new_user_config_is_used_by_the_replica_that_is_there(live: Live, marks: Path) -> None:
    before = replicas(live, "graph")
    live.put(applications(marks, amount=2.0))
    until(lambda: live.ask("POST", "/graph/run", 5).json.get("joined") == 35.0, live.ray)
    assert replicas(live, "graph") == before


def test_new_arguments_restart_the_steps_of_that_pipeline_and_of_no_other(live: Live, marks: Path) -> None:
    large, graph = replicas(live, "large"), replicas(live, "graph")
    live.put(applications(marks, amount=2.0, timeout_s=30.0))

    def renewed() -> bool:
        now = replicas(live, "large")
        return all(now[step] and not now[step] & large[step] for step in large)

    until(renewed, live.ray)
    live.await_running()
    assert live.ask("POST", "/large/run", 5).json == 5
    assert replicas(live, "graph") == graph


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"a": {"use": f"{HERE}:Add", "after": ["b"]}, "b": {"use": f"{HERE}:Add", "after": ["a"]}}, "a cycle"),
        ({"a": {"use": f"{HERE}:Add", "after": ["nobody"]}}, "steps.a.after[0]: no step 'nobody'"),
    ],
    ids=["cycle", "unknown step"],
)
def test_a_graph_that_cannot_be_run_fails_when_it_is_built(live: Live, marks: Path, steps: Any, told: str) -> None:
    def message() -> str:
        state = live.states()["wrong"]
        return str(state["message"]) if state["status"] == "DEPLOY_FAILED" else ""

    live.put([*applications(marks, amount=2.0, timeout_s=30.0), application("wrong", steps)])
    until(message, live.ray)
    assert told in message()
