"""What the application answers instead of a result, besides the refusals of ``serve_runtime.errors``."""

from __future__ import annotations

from serve_runtime.errors import Refusal, Unavailable


class UnknownTask(Refusal):
    """No task has this id, or what was known of it has expired."""

    status = 404
    code = "unknown_task"


class UnknownHandler(Refusal):
    """No handler has this name."""

    status = 404
    code = "unknown_handler"


class Conflict(Refusal):
    """The task's state does not allow it."""

    status = 409
    code = "conflict"


class TaskFailed(Refusal):
    """There is no result, and there will be none unless the task is requeued."""

    status = 409
    code = "task_failed"


class TaskCancelled(Refusal):
    """There is no result, since the task was cancelled."""

    status = 410
    code = "task_cancelled"


class QueueFull(Unavailable):
    """More unfinished tasks than ``max_waiting``."""

    code = "queue_full"


class BrokerAway(Unavailable):
    """Broker or store do not answer."""

    code = "broker_unavailable"
