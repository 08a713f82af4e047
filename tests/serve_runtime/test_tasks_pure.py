"""``serve_runtime.tasks`` without Ray, Celery and Redis: arguments, addresses, handlers, what follows a failure."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_runtime.errors import BadInput, Unavailable
from serve_runtime.tasks import TasksArgs, addresses
from serve_runtime.tasks.addresses import AddressError
from serve_runtime.tasks.args import Handler, Retries
from serve_runtime.tasks.backoff import delay_s, described, verdict
from serve_runtime.tasks.handlers import HandlerError, contracts
from serve_runtime.tasks.states import LIVE, TRANSITIONS
from serve_runtime.web.dotted import DottedNameError

REDIS = "redis://redis:6379/0"
ECHO = {"echo": {"use": "serve_runtime.tasks.samples:echo"}}


def args(**changes: Any) -> TasksArgs:
    """Arguments that are right but for these."""
    return TasksArgs.model_validate({"handlers": ECHO, "broker_url": REDIS, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"handlers": {}}, "handlers"),
        ({"handlers": {"a b": {"use": "m:f"}}}, "handlers"),
        ({"handlers": {"a": {"use": "nothing"}}}, "handlers.a.use"),
        ({"broker_url": "http://redis"}, "broker_url: begins with 'http'"),
        ({"broker_url": "redis://"}, "broker_url: names no host"),
        ({"broker_url": "amqp://rabbit"}, "store_url: RabbitMQ passes tasks on"),
        ({"broker_url": "amqp://rabbit", "store_url": "amqp://rabbit"}, "store_url: begins with 'amqp'"),
        ({"lease_s": 3.0}, "lease_s: 3 leaves a worker no second try"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas 3 is above max_replicas 2"),
        ({"max_queued_requests": 0}, "max_queued_requests: 0"),
        ({"retry": {}}, "retry"),
        ({"concurrency": "4"}, "concurrency"),
        ({"timeout_s": float("nan")}, "timeout_s"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        args(**changes)


def test_rabbitmq_with_a_redis_for_results_is_taken() -> None:
    made = args(broker_url="amqps://user:secret@rabbit/vhost", store_url="rediss://redis/1")
    assert (made.broker(), made.store()) == ("amqps://user:secret@rabbit/vhost", "rediss://redis/1")


def test_secrets_come_from_the_environment_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = args(broker_url="redis://:${TASKS_PASSWORD}@redis:6379/0")
    assert "secret" not in made.model_dump_json()
    with pytest.raises(AddressError, match="broker_url: environment variable TASKS_PASSWORD is not set"):
        made.broker()
    monkeypatch.setenv("TASKS_PASSWORD", "secret")
    assert made.broker() == made.store() == "redis://:secret@redis:6379/0"


def test_a_whole_address_may_be_a_variable_and_is_checked_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", "kafka://:secret@there")
    with pytest.raises(AddressError) as raised:
        args(broker_url="${BROKER}").broker()
    assert "kafka" in str(raised.value)
    assert "secret" not in str(raised.value)


@given(st.text(max_size=30))
def test_no_address_is_believed_that_has_no_known_scheme(text: str) -> None:
    known = tuple(f"{scheme}:" for scheme in addresses.BROKERS)
    if text.lower().startswith(known) or text.startswith("${"):
        return
    with pytest.raises(ValueError, match="x: "):
        addresses.check(text, field="x", schemes=addresses.BROKERS)


class NeedsMore:
    """A class whose constructor and method need more than they are given."""

    def __init__(self, size: int) -> None:
        self.size = size

    def predict(self, item: list[float]) -> float:
        return sum(item) * self.size


def two(first: object, second: object) -> None:
    """A function that is no handler."""


HERE = __name__


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        ({"use": "no.such:thing"}, DottedNameError, r"handlers\.a\.use: no module named"),
        ({"use": f"{HERE}:REDIS"}, HandlerError, r"handlers\.a\.use: .* is no function"),
        ({"use": f"{HERE}:two"}, HandlerError, r"handlers\.a\.use"),
        ({"use": f"{HERE}:NeedsMore"}, HandlerError, r"handlers\.a\.init: .*size"),
        ({"use": f"{HERE}:args", "init": {"x": 1}}, HandlerError, r"handlers\.a"),
        (
            {"use": "serve_runtime.tasks.samples:echo", "init": {"x": 1}},
            HandlerError,
            r"handlers\.a\.init: .* function",
        ),
    ],
)
def test_wrong_handlers_are_named(handler: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        contracts({"a": Handler.model_validate(handler)})


def test_what_a_handler_takes_is_checked_by_its_annotation() -> None:
    made = contracts({"a": Handler(use=f"{HERE}:NeedsMore", init={"size": 2})})["a"]
    item = made.reader(None).read("application/json", b"[1, 2]")
    assert made.make()(item) == 6
    with pytest.raises(BadInput, match=r"0: Input should be a valid number"):
        made.reader(None).read("application/json", b'["x"]')


RETRIES = st.builds(
    Retries,
    max=st.integers(0, 50),
    first_s=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_s=st.floats(0, 1000),
    jitter=st.floats(0, 1),
)


@given(RETRIES, st.integers(1, 2000), st.floats(0, 1))
def test_pauses_grow_up_to_their_limit_and_jitter_only_shortens_them(
    retries: Retries, failures: int, dice: float
) -> None:
    pause = delay_s(retries, failures, dice)
    assert 0 <= pause <= retries.max_s
    assert pause <= delay_s(retries, failures, 0.0) <= delay_s(retries, failures + 1, 0.0)
    assert pause >= delay_s(retries, failures, 0.0) * (1 - retries.jitter) - 1e-9


@given(RETRIES, st.integers(1, 60), st.floats(0, 1))
def test_a_task_is_run_once_more_than_retries_allow(retries: Retries, failures: int, dice: float) -> None:
    found = verdict(RuntimeError(), failures, retries, (), dice)
    assert found.to == ("retrying" if failures <= retries.max else "failed")
    assert verdict(BadInput("no"), failures, retries, (), dice).to == "unprocessable"
    assert verdict(KeyError(), failures, retries, (LookupError,), dice).to == "unprocessable"
    asked = verdict(Unavailable("later", retry_after_s=5000), failures, retries, (), dice)
    assert asked.to == "failed" or asked.delay_s == 5000


def test_an_error_is_described_at_bounded_length() -> None:
    try:
        raise ValueError("x" * 100_000)
    except ValueError as error:
        found = described(error)
    assert found["type"] == "ValueError"
    assert max(len(text) for text in found.values()) <= 4000


def test_every_state_that_is_named_is_known_and_the_living_ones_can_be_cancelled() -> None:
    assert {state for events in TRANSITIONS.values() for state in events.values()} == set(TRANSITIONS)
    assert {state for state, events in TRANSITIONS.items() if "cancel" in events} == set(LIVE)


def test_importing_needs_neither_ray_nor_celery() -> None:
    hide = "import sys\nfor name in ('ray', 'celery', 'redis', 'kombu'):\n    sys.modules[name] = None\n"
    use = (
        "from serve_runtime.tasks import TasksArgs, app\n"
        "try:\n    app(TasksArgs.model_validate({'handlers': {'a': {'use': 'm:f'}}, 'broker_url': 'redis://r'}))\n"
        "except (ImportError, ValueError) as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", hide + use], capture_output=True, text=True, check=False)
    assert "rayservice-operator[tasks]" in done.stdout, done.stderr
