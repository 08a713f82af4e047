"""The ledger: what is known of each task, in Redis. Messages of the broker only say which task may be looked at;
whether it is run, and by whom, is decided here, so a message that comes twice or never does no harm.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serve_runtime.observe import tracing
from serve_runtime.tasks import scripts
from serve_runtime.tasks.states import DEAD_LETTERS, LIVE

LedgerError: Final = redis.RedisError
"""What every method raises when Redis is away, slow or refuses to write."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A task to be. once: what its caller calls it, empty for nothing; two with the same are one. trace: a
    ``traceparent``, empty where its request is not traced.
    """

    handler: str
    content: bytes
    content_type: str
    once: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    trace: str = field(default_factory=tracing.traceparent)

    def once_key(self) -> str:
        """Of the idempotency key and the handler, of fixed length; empty without one."""
        return hashlib.sha256(f"{self.handler}\0{self.once}".encode()).hexdigest() if self.once else ""

    def digest(self) -> str:
        """Of what is asked."""
        return hashlib.sha256(f"{self.content_type}\0".encode() + self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Submitted:
    """outcome: ``known`` is a repetition, ``differs`` the same key with other content, ``full`` too many."""

    outcome: Literal["created", "known", "differs", "full"]
    id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that is this worker's for as long as it renews its lease. attempts: runs, this one included.
    waited_s: seconds in the queue. trace: that it was submitted in.
    """

    id: str
    owner: str
    handler: str
    content: bytes
    content_type: str
    attempts: int
    losses: int
    waited_s: float
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    """publish: tasks that need a message. lost: runs whose workers showed no sign of life. dead: tasks that became
    unprocessable by that. missing: tasks whose message was gone.
    """

    publish: list[str]
    lost: int
    dead: int
    missing: int


class Ledger:
    """``address`` is a Redis URL with its secrets; ``queue`` keeps applications apart. Thread-safe. Methods raise
    LedgerError.
    """

    def __init__(self, address: str, queue: str, timeout_s: float) -> None:
        # No retries in the client: a call that waits for its third try has kept a caller without an answer.
        self._redis = redis.Redis.from_url(
            address, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = prefix_of(queue)
        self._scripts = {name: self._redis.register_script(text) for name, text in _SCRIPTS.items()}

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Raises LedgerError where Redis does not answer."""
        self._redis.ping()

    def submit(self, tasks: Sequence[Submission], once_ttl_s: int, most: int) -> list[Submitted]:
        """Writes tasks down, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for task in tasks:
                self._call(
                    "submit", task.id, task.handler, task.content, task.content_type, task.digest(), task.once_key(),
                    once_ttl_s, most, task.trace, client=pipe,
                )  # fmt: skip
            return [Submitted(outcome.decode(), task_id.decode()) for outcome, task_id in pipe.execute()]

    def forget(self, task: Submission) -> bool:
        """Takes a submission back, unless a worker has it."""
        return bool(self._call("forget", task.id, task.once_key()))

    def claim(self, task_id: str, worker: str, lease_s: float) -> Claim | str:
        """The task, or the state that it is in instead of ``queued``, or ``unknown``."""
        owner = f"{worker}/{uuid.uuid4().hex}"
        outcome, *found = self._call("claim", task_id, owner, lease_s)
        if outcome != b"claimed":
            return str(outcome.decode())
        handler, content, content_type, attempts, losses, waited_s, trace = found
        return Claim(
            task_id, owner, handler.decode(), content, content_type.decode(), int(attempts), int(losses),
            float(waited_s), (trace or b"").decode(),
        )  # fmt: skip

    def leave(
        self,
        claim: Claim,
        to: Literal["succeeded", "retrying", "failed", "unprocessable", "queued"],
        *,
        delay_s: float = 0,
        ttl_s: int = 0,
        fields: Mapping[str, str | bytes] | None = None,
    ) -> bool:
        """Ends a run; whether the task was still this owner's. delay_s: for ``retrying``. ttl_s: 0 is for ever."""
        flat = [part for pair in (fields or {}).items() for part in pair]
        scored = "" if to == "succeeded" else delay_s
        return bool(self._call("leave", claim.id, claim.owner, to, scored, ttl_s, *flat) == to.encode())

    def renew(self, claims: Iterable[Claim], lease_s: float) -> set[str]:
        """Shows a sign of life for each; ids of those that are no longer their owner's."""
        pairs = [part for claim in claims for part in (claim.id, claim.owner)]
        return {task_id.decode() for task_id in self._call("renew", lease_s, *pairs)} if pairs else set()

    def cancel(self, task_id: str, ttl_s: int) -> str:
        """``done``, or the state that forbids it, or ``unknown``."""
        return str(self._call("cancel", task_id, ttl_s).decode())

    def requeue(self, task_id: str) -> str:
        """``done`` (it needs a message then), the state that forbids it, ``foreign`` or ``unknown``."""
        return str(self._call("requeue", task_id).decode())

    def drop(self, task_id: str) -> str:
        """Deletes a dead letter: ``done``, the state that forbids it, or ``unknown``."""
        return str(self._call("drop", task_id).decode())

    def sweep(self, *, max_losses: int, slack_s: float, empty: bool, dead_ttl_s: int, limit: int = 1000) -> Swept:
        """Finds what has to be published again. empty: whether the broker has no message left.

        Messages come in order: a task that was queued ``slack_s`` before one that a worker has taken had its message
        lost. With an empty queue, so had all that were queued before that.
        """
        said = json.dumps({"type": "WorkerLost", "message": f"it lost its worker {max_losses} times"})
        ids, lost, dead, missing = self._call("sweep", max_losses, limit, slack_s, int(empty), dead_ttl_s, said)
        return Swept([each.decode() for each in ids], int(lost), int(dead), int(missing))

    def foreign(self, content: bytes, reason: str, ttl_s: int) -> str:
        """Keeps a message that is no task as a dead letter; its id."""
        task_id = uuid.uuid4().hex
        with self._redis.pipeline() as pipe:
            seconds, micros = self._redis.time()
            now = seconds + micros / 1e6
            error = json.dumps({"type": "NoTask", "message": reason})
            found = {"state": "unprocessable", "handler": "", "input": content, "content_type": "", "error": error,
                     "submitted_at": now, "changed_at": now, "attempts": 0, "losses": 0}  # fmt: skip
            pipe.hset(self._prefix + f"task:{task_id}", mapping=found)
            pipe.expire(self._prefix + f"task:{task_id}", ttl_s)
            pipe.zadd(self._prefix + "unprocessable", {task_id: now})
            pipe.execute()
        return task_id

    def get(self, task_id: str, *, content: bool = False) -> dict[str, Any] | None:
        """What is known of a task, without its input and result unless ``content``; None of one that is not known."""
        names = [*_TEXT, *_NUMBERS, *(_CONTENT if content else ())]
        values = self._redis.hmget(self._prefix + f"task:{task_id}", names)
        return _record(task_id, dict(zip(names, values, strict=True)))

    def dead_letters(self, kind: Literal["failed", "unprocessable"], start: int, count: int) -> list[dict[str, Any]]:
        """The newest first, with their inputs."""
        ids = self._redis.zrevrange(self._prefix + kind, start, start + count - 1)
        found = (self.get(task_id.decode(), content=True) for task_id in ids)
        return [record for record in found if record is not None]

    def counts(self) -> dict[str, int]:
        """Tasks in each state that is not forgotten by itself."""
        states = (*LIVE, *DEAD_LETTERS)
        with self._redis.pipeline(transaction=False) as pipe:
            for state in states:
                pipe.zcard(self._prefix + state)
            return dict(zip(states, pipe.execute(), strict=True))

    def _call(self, name: str, *arguments: Any, client: Any = None) -> Any:
        return self._scripts[name](keys=(), args=(self._prefix, *arguments), client=client)


def prefix_of(queue: str) -> str:
    """What all keys of an application's ledger begin with."""
    return f"serve_runtime:{queue}:"


_SCRIPTS: Final = {
    name.lower(): getattr(scripts, name)
    for name in ("SUBMIT", "FORGET", "CLAIM", "LEAVE", "CANCEL", "REQUEUE", "DROP", "RENEW", "SWEEP")
}
_TEXT: Final = ("state", "handler", "content_type", "result_type", "error")
_NUMBERS: Final = ("submitted_at", "started_at", "changed_at", "attempts", "losses")
_CONTENT: Final = ("input", "result")


def _record(task_id: str, fields: dict[str, bytes | None]) -> dict[str, Any] | None:
    if fields["state"] is None:
        return None
    found: dict[str, Any] = {"id": task_id}
    for name, value in fields.items():
        if value is None:
            continue
        if name in _CONTENT:
            found[name] = value
        elif name == "error":
            found[name] = json.loads(value)
        elif name in _NUMBERS:
            found[name] = int(value) if name in {"attempts", "losses"} else float(value)
        else:
            found[name] = value.decode()
    return found
