"""``serve_runtime.llm:openai`` on a real vLLM: a second replica when there is more to do, Ray's own prefix router,
other arguments while it serves, a model that is spread over two workers.

`make llm` runs this, and `make test` does not (see ``on_vllm.py``).
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve_runtime import traces
from tests.serve_runtime.live import Answer, Live, served, until
from tests.serve_runtime.llm.on_vllm import ENGINE, ENVIRONMENT, python

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(1200)]

STREAMS = 4


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One replica, which wants a second one above two requests."""
    folder = tmp_path_factory.mktemp("scaling")
    python("-m", "serve_runtime.llm.samples", str(folder))
    # Between two streams of one caller there is a moment without; a replica takes longer than that to come.
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2, "look_back_period_s": 5,
               "upscale_delay_s": 0, "downscale_delay_s": 30}  # fmt: skip
    model = {
        "id": "tiny",
        "source": str(folder / "model"),
        "accelerator": {"kind": "cpu", "cpus": 0.5},
        "routing": "ray_prefix",
        "autoscaling": scaling,
        "engine": {**ENGINE, "dtype": "float32"},
        "drain_timeout_s": 60,
    }
    app = {
        "name": "llm",
        "route_prefix": "/",
        "import_path": "serve_runtime.llm:openai",
        "args": {"models": [model], "ingress": {"replicas": 1, "num_cpus": 0}},
    }
    env = {**ENVIRONMENT, **traces.ENVIRONMENT}
    with served([app], env=env) as found:
        yield found


def complete(live: Live, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """A completion."""
    body = {"model": "tiny", "prompt": "hi", "max_tokens": 8, "temperature": 0, **more}
    return live.ask("POST", "/v1/completions", body, **(headers or {}))


def replicas(live: Live) -> int:
    """Of the model, those that run."""
    told = live.states()["llm"]["deployments"]["LLM:tiny"]["replicas"]
    return sum(each["state"] == "RUNNING" for each in told)


def test_rays_prefix_router_answers_as_any_other(live: Live) -> None:
    first, again = complete(live), complete(live)
    assert (first.status, again.status) == (200, 200), (first.body, again.body)
    assert first.json["choices"][0]["text"] == again.json["choices"][0]["text"]


def test_a_request_is_in_its_callers_trace_to_the_model(live: Live) -> None:
    trace, headers = traces.parent()
    assert complete(live, headers, stream=True).status == 200
    until(lambda: traces.deployments(live, trace) >= {"Ingress", "LLM:tiny"}, live.ray)
    until(lambda: traces.names(live, trace) >= traces.RAYS, live.ray)
    (ingress,) = [each for each in traces.spans(live, trace).values() if "serve_runtime.outcome" in each["attributes"]]
    assert (ingress["attributes"]["serve_runtime.outcome"], ingress["attributes"]["serve_runtime.model"]) == (
        "ok",
        "tiny",
    )
    assert "first part" in {event["name"] for event in ingress["events"]}


def test_a_second_replica_comes_with_the_load_and_goes_without_a_broken_stream(live: Live) -> None:
    assert replicas(live) == 1
    enough, told = threading.Event(), list[str]()

    def stream(number: int) -> None:
        """One after the other; each to its end."""
        while not enough.is_set():
            body = {"prompt": f"stream {number}", "max_tokens": 400, "ignore_eos": True, "stream": True}
            answer = complete(live, None, **body)
            events = [line.removeprefix("data: ") for line in answer.body.decode().split("\n\n") if line]
            told.append("whole" if events[-1:] == ["[DONE]"] and '"error"' not in events[-2] else answer.body.decode())

    callers = [threading.Thread(target=stream, args=(number,)) for number in range(STREAMS)]
    for each in callers:
        each.start()
    with contextlib.ExitStack() as stack:
        for each in callers:
            stack.callback(each.join)
        stack.callback(enough.set)
        until(lambda: replicas(live) == 2, live.ray)
        so_far = len(told)
        until(lambda: len(told) >= so_far + 2 * STREAMS, live.ray)
    until(lambda: replicas(live) == 1, live.ray)
    assert set(told) == {"whole"}, told
    assert complete(live).status == 200


def test_a_change_of_arguments_cuts_no_stream_and_answers_go_on(live: Live) -> None:
    """The last of these: from one worker to two."""
    before = complete(live).json["choices"][0]["text"]
    ids = {each["replica_id"] for each in live.states()["llm"]["deployments"]["LLM:tiny"]["replicas"]}
    with live.connection() as to:
        body = {"model": "tiny", "prompt": "long", "max_tokens": 480, "ignore_eos": True, "stream": True}
        to.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        stream = to.getresponse()
        first = stream.readline()
        application = copy.deepcopy(live.config["applications"][0])
        application["args"]["models"][0]["parallel"] = {"tensor": 2}
        live.put([application])
        rest = stream.read()
    assert b"[DONE]" in rest
    assert b'"error"' not in first + rest

    def renewed() -> bool:
        answer = complete(live)
        assert answer.status in {200, 503}, answer.body
        assert answer.status == 200 or int(answer.headers["retry-after"]) >= 1
        told = live.states()["llm"]["deployments"]["LLM:tiny"]["replicas"]
        return live.running() and not ids & {each["replica_id"] for each in told}

    until(renewed, live.ray)
    after = complete(live).json
    assert after["choices"][0]["text"] == before
    assert "tp2" in after["system_fingerprint"]
