"""Workers, Redis and RabbitMQ killed while tasks run: none is lost, and only those are run again that docs say may be.

The consumers are processes without Ray, which makes them quick to start and to kill; what runs in them is what runs in
a replica. tests/serve_runtime/test_tasks_real.py does the same to replicas.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import rabbitmq_process
from e2e.localkube.errors import LocalKubeError
from e2e.rabbitmq_process import RabbitmqProcess
from e2e.redis_process import RedisProcess
from serve_runtime.tasks import TasksArgs
from serve_runtime.tasks.args import Retries
from serve_runtime.tasks.ledger import Ledger, LedgerError, Submission
from serve_runtime.tasks.sweep import Sweeper
from serve_runtime.tasks.transport import BrokerError, Transport, make_app
from tests.serve_runtime.redis_fixture import DURABLE, redis_server

pytestmark = pytest.mark.timeout(300)

TASKS = 300
CONCURRENCY = 4
HERE = "tests.serve_runtime.sample_tasks"


class Fleet:
    """Consumers, a submitter and a sweep, which goes on in a thread."""

    def __init__(self, redis: RedisProcess, folder: Path, broker: str = "", **changes: Any) -> None:
        self.runs = folder / "runs"
        recorder = {"use": f"{HERE}:Recorder", "init": {"path": str(self.runs)}}
        self.args = TasksArgs.model_validate(
            {"broker_url": broker or redis.url, "store_url": redis.url,
             "handlers": {"record": recorder, "kill": {"use": f"{HERE}:Murderer"}}, "concurrency": CONCURRENCY,
             "lease_s": 6, "drain_s": 20, "max_losses": 2, **changes}
        )  # fmt: skip
        self.ledger = Ledger(self.args.store(), self.args.queue, 2)
        self.transport = Transport(make_app(self.args.broker(), self.args.queue, 2, self.args.lease_s))
        self.workers: list[subprocess.Popen[str]] = []
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, daemon=True)
        self._sweeper.start()

    def start(self) -> subprocess.Popen[str]:
        """One more consumer, which takes tasks."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.serve_runtime.task_worker", self.args.model_dump_json()]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.workers.append(process)
        return process

    def kill(self, index: int) -> None:
        """Its machine is gone."""
        _end(self.workers.pop(index))

    def submit(self, handler: str, item: Any, once: str = "") -> str:
        """As a client of the ingress does: again with the same key until it is taken."""
        while True:
            task = Submission(handler, json.dumps(item).encode(), "application/json", once)
            try:
                (found,) = self.ledger.submit([task], 600, 10_000)
                if found.outcome == "created":
                    self.transport.publish([found.id])
            except (LedgerError, BrokerError):
                time.sleep(0.1)
                continue
            return found.id

    def counts(self) -> dict[str, int]:
        """None while Redis is away."""
        try:
            return self.ledger.counts()
        except LedgerError:
            return {}

    def lines(self) -> list[tuple[str, int, int]]:
        """What was begun and ended, by which task and process."""
        if not self.runs.exists():
            return []
        found = (line.split() for line in self.runs.read_text().splitlines())
        return [(what, int(number), int(pid)) for what, number, pid in found]

    def close(self) -> None:
        """Ends all that is left."""
        self._stop.set()
        self._sweeper.join()
        for worker in self.workers:
            _end(worker)

    def _sweep(self) -> None:
        sweeper = Sweeper(self.args, self.ledger, self.transport)
        while not self._stop.wait(0.5):
            sweeper.once()


def _end(worker: subprocess.Popen[str]) -> None:
    """At once, if it has not ended yet."""
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        pipe.close()


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    """One that loses nothing."""
    with redis_server(DURABLE) as server:
        yield server


def until(probe: Callable[[], Any]) -> None:
    """Waits; pytest's timeout is the limit."""
    while not probe():
        time.sleep(0.05)


@pytest.fixture
def fleet(redis: RedisProcess, tmp_path: Path) -> Iterator[Fleet]:
    """Two consumers."""
    made = Fleet(redis, tmp_path)
    try:
        made.start()
        made.start()
        yield made
    finally:
        made.close()


def submitting(fleet: Fleet) -> tuple[threading.Thread, list[str]]:
    """Submits all tasks, in a thread; their ids as they are taken."""
    ids: list[str] = []
    submitter = threading.Thread(
        target=lambda: ids.extend(fleet.submit("record", {"number": n, "seconds": 0.01}, str(n)) for n in range(TASKS))
    )
    submitter.start()
    return submitter, ids


def ended(fleet: Fleet, share: float) -> Callable[[], bool]:
    """Whether so many runs have."""
    return lambda: sum(what == "ended" for what, _, _ in fleet.lines()) >= share * TASKS


def test_nothing_is_lost_when_workers_and_redis_are_killed(redis: RedisProcess, fleet: Fleet) -> None:
    submitter, ids = submitting(fleet)
    until(ended(fleet, 0.1))
    fleet.kill(0)
    fleet.start()
    until(ended(fleet, 0.3))
    redis.kill()
    time.sleep(1)
    redis.start()
    until(ended(fleet, 0.5))
    fleet.kill(0)
    redis.kill()
    redis.start()
    fleet.start()
    submitter.join()
    all_succeeded(fleet, ids)
    # Those that a killed worker had, and no other: a Redis that goes away costs no run.
    assert run_again(fleet) <= 2 * CONCURRENCY


def all_succeeded(fleet: Fleet, ids: list[str]) -> None:
    """Waits for it."""
    until(lambda: fleet.counts().get("queued") == fleet.counts().get("running") == 0)
    states = Counter(record["state"] for task in ids if (record := fleet.ledger.get(task)))
    assert states == {"succeeded": TASKS}


def run_again(fleet: Fleet) -> int:
    """Runs beyond the first of each task."""
    begun = Counter(number for what, number, _ in fleet.lines() if what == "begun")
    assert set(begun) == set(range(TASKS))
    return sum(times - 1 for times in begun.values())


@pytest.fixture
def rabbitmq() -> Iterator[RabbitmqProcess]:
    """Skips the test where none can be started."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(rabbitmq_process.running())
        except LocalKubeError as error:
            pytest.skip(f"no RabbitMQ here: {error}")
        yield server


def test_nothing_is_lost_when_workers_and_rabbitmq_are_killed(
    redis: RedisProcess, rabbitmq: RabbitmqProcess, tmp_path: Path
) -> None:
    fleet = Fleet(redis, tmp_path, rabbitmq.url)
    try:
        fleet.start()
        fleet.start()
        submitter, ids = submitting(fleet)
        until(ended(fleet, 0.1))
        fleet.kill(0)
        fleet.start()
        until(ended(fleet, 0.3))
        rabbitmq.kill()
        with pytest.raises(BrokerError):
            fleet.transport.publish(["of nobody"])
        rabbitmq.start()
        until(ended(fleet, 0.5))
        rabbitmq.kill()
        redis.kill()
        redis.start()
        rabbitmq.start()
        submitter.join()
        all_succeeded(fleet, ids)
        assert run_again(fleet) <= CONCURRENCY
    finally:
        fleet.close()


def test_a_task_longer_than_its_lease_is_run_once(fleet: Fleet) -> None:
    task = fleet.submit("record", {"number": 1, "seconds": 1.5 * fleet.args.lease_s})
    until(lambda: (fleet.ledger.get(task) or {})["state"] == "succeeded")
    assert [what for what, _, _ in fleet.lines()] == ["begun", "ended"]


def test_a_paused_worker_is_lost_and_comes_too_late(fleet: Fleet, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task = fleet.submit("record", {"number": 1, "until": str(go)})
    until(lambda: len(fleet.lines()) == 1)
    ((_, _, first),) = fleet.lines()
    os.kill(first, signal.SIGSTOP)
    try:
        until(lambda: len(fleet.lines()) == 2)
        go.touch()
        until(lambda: (fleet.ledger.get(task) or {})["state"] == "succeeded")
    finally:
        os.kill(first, signal.SIGCONT)
    until(lambda: len(fleet.lines()) == 4)
    record = fleet.ledger.get(task)
    assert record is not None
    assert (record["state"], record["attempts"], record["losses"]) == ("succeeded", 1, 1)


def test_a_worker_that_drains_gives_back_what_it_cannot_end(fleet: Fleet, tmp_path: Path) -> None:
    fleet.args = fleet.args.model_copy(update={"drain_s": 0.2})
    fleet.kill(0)
    fleet.kill(0)
    worker = fleet.start()
    task = fleet.submit("record", {"number": 1, "until": str(tmp_path / "go")})
    until(lambda: len(fleet.lines()) == 1)
    assert worker.stdin is not None
    worker.stdin.close()
    until(lambda: (fleet.ledger.get(task) or {})["state"] == "queued")
    (tmp_path / "go").touch()
    fleet.start()
    until(lambda: (fleet.ledger.get(task) or {})["state"] == "succeeded")
    record = fleet.ledger.get(task)
    assert record is not None
    assert record["losses"] == 0


def test_a_handler_that_hangs_costs_its_task_no_more_than_its_time(fleet: Fleet, tmp_path: Path) -> None:
    fleet.args = fleet.args.model_copy(update={"timeout_s": 0.5, "retries": Retries(max=0)})
    fleet.kill(0)
    fleet.kill(0)
    fleet.start()
    task = fleet.submit("record", {"number": 1, "until": str(tmp_path / "never")})
    until(lambda: (fleet.ledger.get(task) or {})["state"] == "failed")
    record = fleet.ledger.get(task)
    assert record is not None
    assert record["error"]["type"] == "TimeoutError"


def test_a_task_that_kills_its_workers_becomes_unprocessable(fleet: Fleet) -> None:
    fleet.args = fleet.args.model_copy(update={"concurrency": 1})
    task = fleet.submit("kill", None)
    for _ in range(fleet.args.max_losses):
        until(lambda: any(worker.poll() is not None for worker in fleet.workers))
        (dead,) = [worker for worker in fleet.workers if worker.poll() is not None]
        _end(dead)
        fleet.workers.remove(dead)
        fleet.start()
    until(lambda: (fleet.ledger.get(task) or {})["state"] == "unprocessable")
    fine = fleet.submit("record", {"number": 1})
    until(lambda: (fleet.ledger.get(fine) or {})["state"] == "succeeded")
