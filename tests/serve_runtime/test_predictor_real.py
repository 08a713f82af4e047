"""``serve_runtime.predictor:app`` on a real Ray, through HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serve_runtime.live import Answer, Live, example, served, until

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(400)]

HERE = "tests.serve_runtime.sample_predictors"
MODEL = "serve_multiplexed_model_id"


def application(name: str, cls: str, *, deployment: dict[str, Any] | None = None, **args: Any) -> dict[str, Any]:
    """One of the config."""
    own = {"name": "Predictor", "ray_actor_options": {"num_cpus": 0}, "health_check_period_s": 1, **(deployment or {})}
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.predictor:app",
        "args": {"predictor": f"{HERE}:{cls}", **args},
        "deployments": [own],
    }


def applications(
    marks: Path, slope: float = 2.0, batches_of: int | None = None, retry_after_s: int = 7
) -> list[dict[str, Any]]:
    """All that the tests need, in one replica each but for one. What follows ``marks`` changes in hot updates."""
    many = {
        "any": True,
        "known": {"double": {"factor": 2}, "triple": {"factor": 3}, "broken": {"broken": True}},
        "max_per_replica": 2,
        "default": "double",
    }
    batching = {"max_batch_size": 4, "wait_s": 30.0}
    return [
        application(
            "linear", "Linear", max_body_bytes=1000, deployment={"user_config": {"predictor": {"slope": slope}}}
        ),
        application(
            "batched", "Batched", batching=batching, caller_errors=["builtins.ValueError"],
            deployment={"user_config": {"batching": {"max_batch_size": batches_of}}} if batches_of else {},
        ),
        application("streams", "Streams", init={"marks": str(marks)}, threads=2, max_stream_bytes=1_000_000),
        application("async-streams", "AsyncStreams", init={"marks": str(marks)}),
        application(
            "waits", "Waits", init={"until": str(marks / "go")}, max_ongoing_requests=4, max_queued_requests=1,
            retry_after_s=retry_after_s,
        ),
        application("many", "Named", init={"marks": str(marks)}, models=many),
        application("raw", "Raw"),
        application(
            "two", "Named", init={"marks": str(marks)}, deployment={"num_replicas": 2},
            models={"known": {"east": {"model_id": "east"}, "west": {"model_id": "west"}}, "max_per_replica": 1},
        ),
        example("predictor"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def live(marks: Path) -> Iterator[Live]:
    """All applications, running."""
    with served(applications(marks)) as found:
        yield found


def error(answer: Answer) -> dict[str, Any]:
    """The error of an answer, whose request id is the header's."""
    found = answer.json["error"]
    assert found["request_id"] == answer.headers["x-request-id"]
    return dict(found)


def together(live: Live, path: str, bodies: list[Any]) -> list[Answer]:
    """All at once."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: live.ask("POST", path, body), bodies))


def idle(live: Live, name: str) -> bool:
    """Whether nothing is held: no request is counted, no model is in use."""
    found = live.ask("GET", f"/{name}/models").json
    return not found["in_flight"] and not any(each["in_flight"] for each in found["loaded"])


def test_json_and_forms_are_read_by_the_type_that_predict_takes(live: Live) -> None:
    assert live.ask("POST", "/linear/predict", {"x": 1.5}).json == {"y": 3.0}
    form = live.ask("POST", "/linear/predict", b"x=2&weight=3", content_type="application/x-www-form-urlencoded")
    assert form.json == {"y": 12.0}
    raw = live.ask("POST", "/raw/predict", b"\x00\xffab", content_type="application/octet-stream")
    assert (raw.body, raw.headers["content-type"]) == (b"ba\xff\x00", "application/octet-stream")
    large = bytes(1_000_000)
    assert live.ask("POST", "/raw/predict", large, content_type="application/octet-stream").body == large


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/linear/predict", b"{", {}, 400, "malformed_input"),
        ("/linear/predict", {"x": "many"}, {}, 422, "bad_input"),
        ("/linear/predict", {"x": -1}, {}, 422, "bad_input"),
        ("/linear/predict", {"x": 1, "weight": 13}, {}, 500, "failed"),
        ("/linear/predict", b"x" * 1001, {}, 413, "too_large"),
        ("/linear/predict", b"x", {"content_type": "image/png"}, 415, "unsupported_content_type"),
        ("/batched/predict", 100, {}, 500, "failed"),
        ("/streams/stream", {"refuse": True}, {}, 422, "bad_input"),
        ("/streams/stream", {}, {"accept": "image/png"}, 406, "not_acceptable"),
        ("/many/predict", 1, {MODEL: "nobody"}, 404, "unknown_model"),
        ("/many/predict", 1, {MODEL: "../etc"}, 404, "unknown_model"),
        ("/many/predict", 1, {MODEL: "broken"}, 503, "unavailable"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, int | str) else "",
)
def test_mistakes_have_their_status(  # noqa: PLR0917 - a table's columns
    live: Live, path: str, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    if path == "/batched/predict":  # a whole batch, so that nobody waits for others
        (answer, *others) = together(live, path, [body, 1, 2, 3])
        assert [each.json["size"] for each in others] == [4, 4, 4]
    else:
        answer = live.ask("POST", path, body, x_request_id="mine", **headers)
        assert answer.headers["x-request-id"] == "mine"
    assert (answer.status, error(answer)["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert b"machine room" not in answer.body
    assert idle(live, path.split("/")[1])


def test_requests_are_computed_together_and_only_those_at_fault_are_refused(live: Live) -> None:
    assert [each.json["size"] for each in together(live, "/batched/predict", [1, 2, 3, 4])] == [4, 4, 4, 4]
    mixed = together(live, "/batched/predict", [1, -2, 3, 4])
    assert [each.status for each in mixed] == [200, 422, 200, 200]
    assert [each.json["item"] for each in mixed if each.status == 200] == [1, 3, 4]


def test_the_example_does_what_it_says(live: Live) -> None:
    assert live.ask("POST", "/example-predictor/predict", "good and cheap").json == {"score": 1.5}
    events = live.ask("POST", "/example-predictor/stream", "good and").body.split(b"\n\n")
    assert events[:2] == [b'data: {"word":"good","score":1.0}', b'data: {"word":"and","score":1.0}']


def test_a_stream_comes_in_the_form_that_is_accepted(live: Live) -> None:
    events = live.ask("POST", "/streams/stream", {"count": 2, "text": True})
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.body == b"data: line 0\ndata: of it\n\ndata: line 1\ndata: of it\n\nevent: end\ndata: {}\n\n"
    lines = live.ask("POST", "/streams/stream", {"count": 3}, accept="application/x-ndjson")
    assert [json.loads(line) for line in lines.body.splitlines()] == [0, 1, 2]
    assert live.ask("POST", "/streams/stream", {"count": 3}, accept="text/plain").body == b"012"
    assert live.ask("POST", "/streams/stream", {"count": 0}).body == b"event: end\ndata: {}\n\n"


def test_a_stream_that_fails_says_so_at_its_end(live: Live) -> None:
    events = live.ask("POST", "/streams/stream", {"count": 1, "fails": True})
    (name, data), *rest = [event.split(b"\n") for event in events.body.split(b"\n\n")[1:-1]]
    assert (name, rest) == (b"event: error", [])
    assert json.loads(data.removeprefix(b"data: "))["error"]["code"] == "failed"
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        live.ask("POST", "/streams/stream", {"count": 1, "fails": True}, accept="application/octet-stream")
    assert idle(live, "streams")


@pytest.mark.parametrize("name", ["streams", "async-streams"])
def test_a_client_that_leaves_its_stream_ends_the_generator(live: Live, marks: Path, name: str) -> None:
    with live.connection() as to:
        body = json.dumps({"forever": True, "name": f"left-{name}"}).encode()
        to.request("POST", f"/{name}/stream", body=body, headers={"content-type": "application/json"})
        assert to.getresponse().read(20)
        assert not idle(live, name)
    until(lambda: (marks / f"left-{name}").exists() and idle(live, name), live.ray)


def test_a_client_that_does_not_read_its_stream_does_not_fill_the_memory(live: Live, marks: Path) -> None:
    with live.connection() as to:
        body = json.dumps({"forever": True, "size": 100_000, "name": "unread"}).encode()
        to.request("POST", "/streams/stream", body=body, headers={"content-type": "application/json"})
        until(lambda: (marks / "unread").exists() and idle(live, "streams"), live.ray)
        events = to.getresponse().read().split(b"\n\n")[:-1]
    assert [event.startswith(b"data: xxx") for event in events] == [True] * 9 + [False]
    assert json.loads(events[-1].removeprefix(b"event: error\ndata: "))["error"]["code"] == "too_large"


def test_cancelled_requests_leak_nothing_and_a_full_queue_says_when_to_come_again(live: Live) -> None:
    def look() -> dict[str, int]:
        return dict(live.ask("POST", "/waits/predict", {"look": True}).json)

    with contextlib.ExitStack() as stack:

        def waits() -> http.client.HTTPConnection:
            client = stack.enter_context(live.connection())
            client.request("POST", "/waits/predict", body=b"{}", headers={"content-type": "application/json"})
            return client

        for count in range(1, 4):
            waits()
            until(lambda count=count: look()["waiting"] == count, live.ray)
        last = [waits() for _ in range(4)]  # one has room in the replica, one waits for it, the others are refused
        answered, _, _ = select.select([client.sock for client in last], [], [], 60)
        (refused, *_) = [client.getresponse() for client in last if client.sock in answered]
        assert (refused.status, refused.getheader("retry-after")) == (503, "7")
    until(lambda: (seen := look())["waiting"] == 0 and seen["cancelled"] >= 3 and idle(live, "waits"), live.ray)


def test_many_models_the_least_recently_used_gives_way_and_is_closed(live: Live, marks: Path) -> None:
    def ask(model: str | None) -> Any:
        return live.ask("POST", "/many/predict", 5, **({MODEL: model} if model else {})).json

    assert ask(None) == {"model": "double", "value": 10.0}
    assert ask("triple") == {"model": "triple", "value": 15.0}
    assert not (marks / "closed-double").exists()
    assert ask("free") == {"model": "free", "value": 5.0}
    assert (marks / "closed-double").exists()
    loaded = [each["id"] for each in live.ask("GET", "/many/models").json["loaded"]]
    assert loaded == ["triple", "free"]
    broken = live.ask("POST", "/many/predict", 5, **{MODEL: "broken"})
    assert (broken.status, 1 <= int(broken.headers["retry-after"]) <= 10) == (503, True)
    assert b"weights" not in broken.body
    state = live.ask("GET", "/many/models/broken").json
    assert (state["healthy"], state["reason"]) == (False, "OSError: the weights are gone")
    assert live.ask("GET", "/many/models/..%2Fetc").status == 404


def test_requests_go_to_the_replica_that_has_their_model(live: Live, marks: Path) -> None:
    def loads() -> int:
        return sum(1 for side in ("east", "west") for _ in marks.glob(f"began-{side}-*"))

    def settled() -> bool:
        """Whether a round of requests, one model after the other, loads nothing. Each replica has room for one."""
        before = loads()
        for _ in range(5):
            for side in ("east", "west"):
                assert live.ask("POST", "/two/predict", 1, **{MODEL: side}).json["model"] == side
        return loads() == before

    until(settled, live.ray)
    assert settled()


def test_a_client_that_leaves_while_its_model_loads_leaves_nothing_else(live: Live, marks: Path) -> None:
    with live.connection() as to:
        headers = {"content-type": "application/json", "serve-multiplexed-model-id": "late"}
        to.request("POST", "/many/predict", body=b"1", headers=headers)
        until(lambda: list(marks.glob("began-late-*")), live.ray)
        assert live.ask("GET", "/many/models").json["in_flight"] == 1
    until(lambda: idle(live, "many"), live.ray)
    (marks / "late").touch()
    until(lambda: "late" in [each["id"] for each in live.ask("GET", "/many/models").json["loaded"]], live.ray)
    assert live.ask("POST", "/many/predict", 3, **{MODEL: "late"}).json == {"model": "late", "value": 3.0}
    assert len(list(marks.glob("began-late-*"))) == 1
    assert idle(live, "many")


def test_an_ill_model_is_refused_and_the_others_answer(live: Live, marks: Path) -> None:
    for model in ("triple", "free"):
        assert live.ask("POST", "/many/predict", 1, **{MODEL: model}).status == 200
    (marks / "ill-free").touch()
    until(lambda: live.ask("POST", "/many/predict", 1, **{MODEL: "free"}).status == 503, live.ray)
    assert live.ask("GET", "/many/models/free").json["reason"] == "RuntimeError: ill on purpose"
    assert live.ask("POST", "/many/predict", 1, **{MODEL: "triple"}).status == 200
    (marks / "ill-free").unlink()
    until(lambda: live.ask("POST", "/many/predict", 1, **{MODEL: "free"}).status == 200, live.ray)


def test_the_schema_names_what_predict_takes(live: Live) -> None:
    schema = live.ask("GET", "/linear/openapi.json").json
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["required"] == ["x"]
    assert set(content) == {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}


def test_requests_are_measured_in_buckets_and_failures_logged_under_their_request_id(live: Live) -> None:
    live.ask("POST", "/linear/predict", {"x": 1, "weight": 13}, x_request_id="told-in-the-log")
    logs = (live.ray.temp_dir / "session_latest" / "logs" / "serve").glob("replica_linear_*")
    records = [json.loads(line) for log in logs for line in log.read_text().splitlines() if "told-in-the-log" in line]
    (failure,) = [each for each in records if each["levelname"] == "ERROR"]
    assert failure["request_id"] == "told-in-the-log"
    assert "machine room" in json.dumps(failure)
    wanted = [
        "serve_runtime_predictor_request_seconds_bucket{",
        'outcome="bad_input"',
        "serve_runtime_predictor_batch_size_bucket{",
        "serve_runtime_predictor_first_item_seconds_bucket{",
        "serve_runtime_predictor_model_load_seconds_bucket{",
    ]
    until(lambda: all(each in live.metrics() for each in wanted), live.ray)


def replicas(live: Live, name: str) -> set[str]:
    """Ids of the replicas that run."""
    found = live.states()[name]["deployments"]["Predictor"]["replicas"]
    return {each["replica_id"] for each in found if each["state"] == "RUNNING"}


def test_a_new_user_config_is_used_by_the_replica_that_is_there(live: Live, marks: Path) -> None:
    before = {name: replicas(live, name) for name in ("linear", "batched")}
    assert live.ask("POST", "/linear/predict", {"x": 1}).json == {"y": 2.0}
    live.put(applications(marks, slope=5.0, batches_of=2))
    until(lambda: live.ask("POST", "/linear/predict", {"x": 1}).json == {"y": 5.0}, live.ray)
    # Of four, two and two: whichever of the two settings they meet, so until they have met the new one.
    until(
        lambda: [each.json["size"] for each in together(live, "/batched/predict", [1, 2, 3, 4])] == [2, 2, 2, 2],
        live.ray,
    )
    assert {name: replicas(live, name) for name in before} == before


def test_new_arguments_are_used_by_new_replicas_of_that_application_alone(live: Live, marks: Path) -> None:
    before = {name: replicas(live, name) for name in ("linear", "waits")}
    live.put(applications(marks, slope=5.0, batches_of=2, retry_after_s=8))
    until(lambda: (now := replicas(live, "waits")) and not now & before["waits"], live.ray)
    live.await_running()
    assert replicas(live, "linear") == before["linear"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"predictor": f"{HERE}:Nobody"}, "predictor: "),
        ({"predictor": f"{HERE}:Linear", "batching": {}}, "batching: "),
        ({"predictor": f"{HERE}:Linear", "slop": 3}, "slop"),
        ({"predictor": f"{HERE}:Named", "init": {"model_id": "a", "marks": "/", "broken": True}}, "weights are gone"),
    ],
    ids=["no class", "no predict_batch", "unknown argument", "constructor raises"],
)
def test_what_cannot_start_says_why(live: Live, marks: Path, change: dict[str, Any], told: str) -> None:
    def message() -> str:
        state = live.states()["wrong"]
        own = [each["message"] for each in state["deployments"].values()]
        return " ".join([state["message"], *own]) if state["status"] == "DEPLOY_FAILED" else ""

    live.put(
        [
            *applications(marks, slope=5.0, batches_of=2, retry_after_s=8),
            {**application("wrong", "Linear"), "args": change},
        ]
    )
    until(message, live.ray)
    assert told in message()
    live.put(applications(marks, slope=5.0, batches_of=2, retry_after_s=8))
    until(lambda: "wrong" not in live.states(), live.ray)
