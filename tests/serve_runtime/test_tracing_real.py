"""Traces of the applications on a real Ray, through the file exporter that Ray Serve comes with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serve_runtime.live import Live, served, until
from tests.serve_runtime.redis_fixture import redis_server
from tests.serve_runtime.test_pipeline_real import application as pipeline
from tests.serve_runtime.test_predictor_real import application as predictor
from tests.serve_runtime.test_tasks_real import application as tasks
from tests.serve_runtime.traces import ENVIRONMENT, RAYS, names, parent, spans

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(400)]

STEPS = "tests.serve_runtime.sample_steps"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Applications, traced."""
    steps = {
        "first": {"use": f"{STEPS}:Add"},
        "second": {"use": f"{STEPS}:Add", "after": ["first"]},
    }
    with redis_server() as redis:
        later = {"traced": {"use": "tests.serve_runtime.sample_tasks:Traced"}}
        applications = [
            predictor("traced", "Traced"),
            predictor("batched", "Batched", batching={"max_batch_size": 2, "wait_s": 60.0}),
            predictor("linear", "Linear"),
            pipeline("steps", steps),
            tasks("later", redis.url, later, retries={"max": 1, "first_s": 0.1}),
        ]
        with served(applications, env=ENVIRONMENT) as found:
            yield found


def test_a_request_is_in_its_callers_trace_from_the_proxy_to_the_predictors_code(live: Live) -> None:
    trace, headers = parent()
    answer = live.ask("POST", "/traced/predict", 1, **headers)
    assert answer.json["traceparent"].split("-")[1] == trace
    until(lambda: names(live, trace) >= {*RAYS, "wait", "predict"}, live.ray)
    found = spans(live, trace)
    caller = f"0x{headers['traceparent'].split('-')[2]}"
    assert {span["parent_id"] for span in found.values()} <= {*found, caller}
    (request,) = [span for span in found.values() if "serve_runtime.outcome" in span["attributes"]]
    assert request["attributes"]["serve_runtime.outcome"] == "ok"
    assert "fastapi.endpoint" not in names(live, trace), "what is asked all day goes without FastAPI's layers"
    (predict,) = [span for span in found.values() if span["name"] == "predict"]
    assert predict["parent_id"] == request["context"]["span_id"]
    assert answer.json["traceparent"].split("-")[2] == predict["context"]["span_id"].removeprefix("0x")


def test_a_request_that_the_caller_did_not_sample_leaves_no_span(live: Live) -> None:
    (unsampled, headers), (sampled, others) = parent(sampled=False), parent()
    assert live.ask("POST", "/traced/predict", 1, **headers).json == {"traceparent": ""}
    live.ask("POST", "/traced/predict", 1, **others)
    until(lambda: names(live, sampled) >= RAYS, live.ray)
    assert not spans(live, unsampled)


def test_a_batch_is_one_span_that_is_linked_to_its_requests(live: Live) -> None:
    callers = [parent(), parent()]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda caller: live.ask("POST", "/batched/predict", 1, **caller[1]), callers))
    assert [answer.json["size"] for answer in answers] == [2, 2]
    traces = [trace for trace, _ in callers]
    for trace in traces:
        until(lambda trace=trace: names(live, trace) >= {*RAYS, "wait"}, live.ray)
    until(lambda: any("predict_batch" in names(live, trace) for trace in traces), live.ray)
    ((first, batch),) = [
        (trace, span) for trace in traces for span in spans(live, trace).values() if span["name"] == "predict_batch"
    ]
    (other,) = set(traces) - {first}
    assert [link["context"]["trace_id"] for link in batch["links"]] == [f"0x{other}"]
    assert batch["attributes"]["serve_runtime.requests"] == 2


def test_steps_of_a_pipeline_are_in_the_trace(live: Live) -> None:
    trace, headers = parent()
    assert live.ask("POST", "/steps/run", 1, **headers).json == 3.0
    wanted = {"step first", "step second"}
    until(lambda: wanted <= {span["name"] for span in spans(live, trace).values()}, live.ray)


def test_a_failure_is_logged_with_the_id_of_its_trace(live: Live) -> None:
    trace, headers = parent()
    assert live.ask("POST", "/linear/predict", {"x": 1, "weight": 13}, **headers).status == 500
    logs = (live.ray.temp_dir / "session_latest" / "logs" / "serve").glob("replica_linear_*")
    records = [json.loads(line) for log in logs for line in log.read_text().splitlines() if trace in line]
    assert [each["trace_id"] for each in records if each["levelname"] == "ERROR"] == [trace]


def test_runs_of_a_task_are_in_the_trace_of_the_request_that_submitted_it(live: Live) -> None:
    (trace, headers), (unsampled, others) = parent(), parent(sampled=False)
    made = live.ask("POST", "/later/tasks/traced", 1, **headers).json["id"]
    answer = live.ask("GET", f"/later/tasks/{made}/result?wait_s=30").json
    assert answer["traceparent"].split("-")[1] == trace
    until(lambda: len([each for each in spans(live, trace).values() if each["name"] == "wait"]) == 2, live.ray)
    found = spans(live, trace)
    runs = sorted(
        (each for each in found.values() if each["name"] == "task traced"), key=lambda each: str(each["start_time"])
    )
    assert [run["attributes"]["serve_runtime.attempt"] for run in runs] == [1, 2]
    assert [run["attributes"]["serve_runtime.outcome"] for run in runs] == ["retrying", "succeeded"]
    assert {run["attributes"]["serve_runtime.task"] for run in runs} == {made}
    assert all(run["parent_id"] in found for run in runs)
    assert answer["traceparent"].split("-")[2] == runs[1]["context"]["span_id"].removeprefix("0x")
    quiet = live.ask("POST", "/later/tasks/traced", 1, **others).json["id"]
    assert live.ask("GET", f"/later/tasks/{quiet}/result?wait_s=30").json == {"traceparent": ""}
    assert not spans(live, unsampled)
