"""``serve_runtime.tasks:app`` on a real Ray with a real Redis, through HTTP."""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.redis_process import RedisProcess
from tests.serve_runtime.live import Live, served, until
from tests.serve_runtime.redis_fixture import DURABLE, redis_server

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

HERE = "tests.serve_runtime.sample_tasks"
LEASE_S = 6.0
TASKS = 1000
CONCURRENCY = 8
UNFINISHED = {"queued", "running", "retrying"}


def application(name: str, redis: str, handlers: dict[str, Any], **args: Any) -> dict[str, Any]:
    """One of the config."""
    quick = {"min_replicas": 1, "max_replicas": 1, "downscale_delay_s": 0.5, "poll_s": 0.3}
    own: list[dict[str, Any]] = [{"name": each, "ray_actor_options": {"num_cpus": 0}} for each in ("Tasks", "Consumer")]
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve_runtime.tasks:app",
        "args": {
            "broker_url": redis, "queue": name, "lease_s": LEASE_S, "handlers": handlers, "drain_s": 2,
            **args, "autoscaling": {**quick, **args.get("autoscaling", {})},
        },
        "deployments": own,
    }  # fmt: skip


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """A Redis that loses nothing when it is killed."""
    with redis_server(DURABLE) as server:
        yield server


@pytest.fixture(scope="module")
def live(redis: RedisProcess, marks: Path) -> Iterator[Live]:
    """All applications, running."""
    recorder = {"use": f"{HERE}:Recorder", "init": {"path": str(marks / "runs")}}
    plain = {
        "record": recorder,
        "flaky": {"use": f"{HERE}:Flaky", "init": {"path": str(marks / "flaky")}},
        "size": {"use": f"{HERE}:size"},
        "unwritable": {"use": f"{HERE}:unwritable"},
        "value_error": {"use": f"{HERE}:value_error"},
    }
    applications = [
        application(
            "plain", redis.url, plain, retries={"max": 1, "first_s": 0.1}, concurrency=4, max_batch=3,
            caller_errors=["builtins.ValueError"],
        ),
        application("chaos", redis.url, {"record": recorder}, concurrency=CONCURRENCY,
                    autoscaling={"min_replicas": 0, "max_replicas": 2, "per_replica": 16.0}),
        application("nobody", "redis://127.0.0.1:1/0", {"size": {"use": f"{HERE}:size"}}, store_timeout_s=1.0),
    ]  # fmt: skip
    with served(applications) as found:
        yield found


def submitted(live: Live, path: str, body: Any, **headers: str) -> str:
    """The id of a new task."""
    answer = live.ask("POST", path, body, **headers)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def state(live: Live, application: str, task: str) -> str:
    """Of a task."""
    return str(live.ask("GET", f"/{application}/tasks/{task}").json["state"])


def consumers(live: Live, application: str) -> int:
    """Replicas that run."""
    replicas = live.states()[application]["deployments"]["Consumer"]["replicas"]
    return sum(each["state"] == "RUNNING" for each in replicas)


def lines(marks: Path, *numbers: int) -> list[tuple[str, int, int]]:
    """What was begun and ended, by which task and process."""
    text = (marks / "runs").read_text() if (marks / "runs").exists() else ""
    found = ((what, int(number), int(pid)) for what, number, pid in map(str.split, text.splitlines()))
    return [each for each in found if not numbers or each[1] in numbers]


def test_a_task_from_submission_to_result(live: Live) -> None:
    task = submitted(live, "/plain/tasks/record", {"number": 21})
    got = live.ask("GET", f"/plain/tasks/{task}/result?wait_s=60")
    assert (got.status, got.json) == (200, {"double": 42})
    record = live.ask("GET", f"/plain/tasks/{task}").json
    assert (record["state"], record["attempts"], record["losses"]) == ("succeeded", 1, 0)
    assert live.ask("POST", f"/plain/tasks/{task}/cancel").status == 409


def test_bytes_in_and_out(live: Live) -> None:
    task = submitted(live, "/plain/tasks/size", b"\0" * 7, content_type="application/octet-stream")
    got = live.ask("GET", f"/plain/tasks/{task}/result?wait_s=60")
    assert (got.body, got.headers["content-type"]) == (b"7", "application/octet-stream")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/plain/tasks/none", 1, 404, "no handler 'none'"),
        ("POST", "/plain/tasks/record", {"number": "one"}, 422, "number: "),
        ("POST", "/plain/tasks/record", b"{", 400, "no JSON"),
        ("POST", "/plain/batches/record", [{"number": 1}, {}], 422, r"items[1]: number"),
        ("POST", "/plain/batches/record", [{"number": 1}] * 4, 422, "1 to 3 tasks"),
        ("POST", "/plain/batches/record", {"items": [], "what": 1}, 422, "1 to 3 tasks"),
        ("POST", "/plain/batches/record", {"items": [{"number": 1}], "keys": [1]}, 422, "keys[0]"),
        ("GET", "/plain/tasks/none", None, 404, "no task 'none'"),
        ("GET", "/plain/tasks/none/result", None, 404, "no task 'none'"),
        ("GET", "/plain/tasks/none/result?wait_s=soon", None, 422, "wait_s: "),
        ("POST", "/plain/tasks/none/cancel", None, 404, "no task 'none'"),
        ("GET", "/plain/dead-letters?kind=all", None, 422, "kind: "),
        ("GET", "/plain/dead-letters?count=0", None, 422, "count: "),
        ("POST", "/plain/dead-letters/none/requeue", None, 404, "no task 'none'"),
        ("DELETE", "/plain/dead-letters/none", None, 404, "no task 'none'"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(  # noqa: PLR0917 - a table
    live: Live, method: str, path: str, body: Any, status: int, words: str
) -> None:
    answer = live.ask(method, path, body)
    assert answer.status == status, answer.body
    assert words in answer.json["error"]["message"]


def test_the_same_key_is_the_same_task(live: Live, marks: Path) -> None:
    task = submitted(live, "/plain/tasks/record", {"number": 5001}, idempotency_key="order")
    again = live.ask("POST", "/plain/tasks/record", {"number": 5001}, idempotency_key="order")
    assert (again.status, again.json) == (202, {"id": task, "repeated": True})
    assert live.ask("POST", "/plain/tasks/record", {"number": 5002}, idempotency_key="order").status == 422
    until(lambda: state(live, "plain", task) == "succeeded", live.ray)
    assert [what for what, _, _ in lines(marks, 5001, 5002)] == ["begun", "ended"]


def test_failures_become_dead_letters_and_come_back(live: Live, marks: Path) -> None:
    task = submitted(live, "/plain/tasks/flaky", "hello")
    result = f"/plain/tasks/{task}/result?wait_s=60"
    failed = live.ask("GET", result)
    assert (failed.status, failed.json["error"]["code"]) == (409, "task_failed")
    letter, *_ = live.ask("GET", "/plain/dead-letters").json["tasks"]
    assert (letter["id"], letter["attempts"], letter["input"]) == (task, 2, '"hello"')
    assert letter["error"] == {"type": "RuntimeError", "message": "no file"}
    (marks / "flaky").touch()
    assert live.ask("POST", f"/plain/dead-letters/{task}/requeue").status == 202
    assert live.ask("GET", result).json == "hello"
    assert live.ask("POST", f"/plain/dead-letters/{task}/requeue").status == 409


def test_what_no_retry_can_help_is_not_retried(live: Live) -> None:
    tasks = [submitted(live, f"/plain/tasks/{handler}", 1) for handler in ("value_error", "unwritable")]
    until(lambda: {state(live, "plain", task) for task in tasks} == {"unprocessable"}, live.ray)
    letters = live.ask("GET", "/plain/dead-letters?kind=unprocessable").json["tasks"]
    assert {(each["id"], each["attempts"]) for each in letters} >= {(task, 1) for task in tasks}
    for task in tasks:
        assert live.ask("DELETE", f"/plain/dead-letters/{task}").status == 204
    assert live.ask("GET", f"/plain/tasks/{tasks[0]}").status == 404


def test_a_cancelled_task_has_no_result(live: Live, marks: Path) -> None:
    go = marks / "cancel"
    task = submitted(live, "/plain/tasks/record", {"number": 5003, "until": str(go)})
    until(lambda: state(live, "plain", task) == "running", live.ray)
    assert live.ask("POST", f"/plain/tasks/{task}/cancel").status == 200
    assert live.ask("GET", f"/plain/tasks/{task}/result").status == 410
    go.touch()
    until(lambda: len(lines(marks, 5003)) == 2, live.ray)
    assert state(live, "plain", task) == "cancelled"


def test_a_broker_that_was_never_there_is_503_and_no_failed_deployment(live: Live) -> None:
    answer = live.ask("POST", "/nobody/tasks/size", b"x", content_type="application/octet-stream")
    assert (answer.status, answer.json["error"]["code"]) == (503, "broker_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert live.states()["nobody"]["status"] == "RUNNING"


def test_a_broker_that_goes_away_costs_no_task(live: Live, redis: RedisProcess, marks: Path) -> None:
    go = marks / "outage"
    running = submitted(live, "/plain/tasks/record", {"number": 5004, "until": str(go)})
    until(lambda: state(live, "plain", running) == "running", live.ray)
    redis.kill()
    try:
        answer = live.ask("POST", "/plain/tasks/record", {"number": 5005})
        assert (answer.status, answer.json["error"]["code"]) == (503, "broker_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert live.ask("GET", f"/plain/tasks/{running}").status == 503
        go.touch()
        until(lambda: len(lines(marks, 5004)) == 2, live.ray)  # it ends while nobody can be told
    finally:
        redis.start()
    until(lambda: state(live, "plain", running) == "succeeded", live.ray)
    after = submitted(live, "/plain/tasks/record", {"number": 5005})
    assert live.ask("GET", f"/plain/tasks/{after}/result?wait_s=60").json == {"double": 10010}
    assert [what for what, _, _ in lines(marks, 5004)] == ["begun", "ended"]


def test_consumers_come_from_zero_stay_while_one_runs_and_go(live: Live, marks: Path) -> None:
    until(lambda: consumers(live, "chaos") == 0, live.ray)
    go = marks / "zero"
    task = submitted(live, "/chaos/tasks/record", {"number": 5006, "until": str(go)})
    until(lambda: state(live, "chaos", task) == "running", live.ray)
    # The queue is empty and nothing but the running task holds the consumer: longer than it takes to scale down.
    seen = []
    timer = threading.Event()
    for _ in range(10):
        timer.wait(0.5)
        seen.append(consumers(live, "chaos"))
    assert set(seen) == {1}
    go.touch()
    until(lambda: consumers(live, "chaos") == 0, live.ray)
    assert state(live, "chaos", task) == "succeeded"


def test_a_change_of_arguments_loses_no_task_and_repeats_none(live: Live, marks: Path) -> None:
    numbers = range(20_000, 20_300)

    def submit() -> None:
        for number in numbers:
            body = {"number": number, "seconds": 0.03}
            while live.ask("POST", "/chaos/tasks/record", body, idempotency_key=str(number)).status != 202:
                threading.Event().wait(0.1)

    def ended(share: float) -> Any:
        return lambda: sum(what == "ended" for what, _, _ in lines(marks, *numbers)) >= share * len(numbers)

    submitter = threading.Thread(target=submit)
    submitter.start()
    until(ended(0.2), live.ray)
    applications = copy.deepcopy(live.config["applications"])
    (chaos,) = [each for each in applications if each["name"] == "chaos"]
    chaos["args"]["concurrency"] = CONCURRENCY // 2
    chaos["args"]["handlers"]["size"] = {"use": f"{HERE}:size"}
    live.put(applications)
    submitter.join()
    until(ended(1), live.ray)
    live.await_running()
    assert Counter(what for what, _, _ in lines(marks, *numbers)) == {"begun": len(numbers), "ended": len(numbers)}
    assert len({pid for _, _, pid in lines(marks, *numbers)}) > 1, "by consumers of before and after"
    known = submitted(live, "/chaos/tasks/size", b"four", content_type="application/octet-stream")
    assert live.ask("GET", f"/chaos/tasks/{known}/result?wait_s=60").body == b"4"


def test_no_task_is_lost_when_replicas_and_redis_are_killed(live: Live, redis: RedisProcess, marks: Path) -> None:
    numbers = range(10_000, 10_000 + TASKS)
    ids: list[str] = []

    def submit() -> None:
        for first in range(0, TASKS, 100):
            part = numbers[first : first + 100]
            body = {"items": [{"number": n, "seconds": 0.01} for n in part], "keys": [str(n) for n in part]}
            while (answer := live.ask("POST", "/chaos/batches/record", body)).status == 503:
                threading.Event().wait(float(answer.headers["retry-after"]))
            ids.extend(each["id"] for each in answer.json["tasks"])

    def ended(share: float) -> Any:
        return lambda: sum(what == "ended" for what, _, _ in lines(marks, *numbers)) >= share * TASKS

    def kill() -> int:
        """A replica that runs tasks, as if its node were lost."""
        *_, (_, _, pid) = lines(marks, *numbers)
        os.kill(pid, signal.SIGKILL)
        return pid

    submitter = threading.Thread(target=submit)
    submitter.start()
    until(ended(0.1), live.ray)
    kill()
    until(ended(0.3), live.ray)
    redis.kill()
    redis.start()
    until(ended(0.6), live.ray)
    kill()
    submitter.join()
    unfinished = [*ids]
    while unfinished:
        unfinished = [task for task in unfinished if state(live, "chaos", task) in UNFINISHED]

    assert len(set(ids)) == TASKS
    assert Counter(state(live, "chaos", task) for task in ids) == {"succeeded": TASKS}
    begun = Counter(number for what, number, _ in lines(marks, *numbers) if what == "begun")
    assert set(begun) == set(numbers)
    again = sum(times - 1 for times in begun.values())
    assert again <= 2 * CONCURRENCY, "only what the killed replicas had in their threads"
