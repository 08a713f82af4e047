"""Celery as the way from the ingress to the consumers: messages with a task's id, a pool of threads, reconnecting.

Messages are acknowledged when a thread takes them, not when it is done (``acks_late`` off): that a task's worker is
lost is seen from its lease in the ledger, within the same time for every broker and however long a task runs. Celery's
own redelivery on Redis knows no task longer than its visibility timeout: it runs those twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from celery import Celery
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer
from kombu import Queue
from kombu.exceptions import KombuError

from serve_runtime.tasks.ledger import LedgerError, prefix_of

_LOG = logging.getLogger("ray.serve")
TASK: Final = "serve_runtime.tasks.run"
_ONCE_MORE: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""A pooled connection may have died since it was used; a second try opens a new one."""


class BrokerError(Exception):
    """The broker is away, slow or refuses. Nothing of its address, which may hold a password.

    sent: messages that it had taken before.
    """

    sent = 0


def make_app(address: str, queue: str, timeout_s: float, lease_s: float) -> Celery:
    """An application with one queue and one task, which :func:`consume` fills in."""
    name = f"serve_runtime.{queue}"
    redis_like = not address.startswith("amqp")
    options: dict[str, Any] = {"confirm_publish": True, "socket_timeout": timeout_s, "connect_timeout": timeout_s}
    if redis_like:
        options = {
            "global_keyprefix": prefix_of(queue),  # else all applications on a Redis share one set of unacked messages
            "socket_timeout": max(timeout_s, 5.0),  # consumers wait a second for a message
            "socket_connect_timeout": timeout_s,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # Of messages that a worker reserved and had no thread for; one that is put back early does no harm.
            "visibility_timeout": max(60.0, 2 * lease_s),
            "unacked_restore_interval": lease_s,
            "unacked_restore_throttle": 1,
        }
    app = Celery(name, broker=address, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(name, routing_key=name)],
        task_default_queue=name,
        task_default_exchange=name,
        task_default_routing_key=name,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        broker_transport_options=options,
        broker_connection_timeout=timeout_s,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=10,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_log_color=False,
        worker_proc_alive_timeout=60,
        enable_utc=True,
    )
    return app


class Transport:
    """The ingress's side. Thread-safe."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._queue: str = app.conf.task_default_queue

    def publish(self, task_ids: Sequence[str]) -> int:
        """One message each; how many. Raises BrokerError."""
        sent = 0
        try:
            with self._errors(), self._app.producer_pool.acquire(block=True) as producer:
                for task_id in task_ids:
                    self._app.send_task(
                        TASK, args=(task_id,), producer=producer, ignore_result=True, retry_policy=_ONCE_MORE
                    )
                    sent += 1
        except BrokerError as error:
            error.sent = sent
            raise
        return sent

    def is_empty(self) -> bool:
        """Whether no message waits. Raises BrokerError."""
        with self._errors(), self._app.pool.acquire(block=True) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            with connection.channel() as channel:
                try:
                    return bool(channel.queue_declare(self._queue, passive=True).message_count == 0)
                except connection.channel_errors:  # no such queue, which for Redis an empty one is
                    return True

    def close(self) -> None:
        """Closes the connections."""
        self._app.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        connection = self._app.connection_for_write()
        known = (OSError, KombuError, *connection.connection_errors, *connection.channel_errors)
        try:
            yield
        except known as error:
            raise BrokerError(f"the broker is not available ({type(error).__name__})") from error


def consume(
    app: Celery,
    *,
    name: str,
    concurrency: int,
    run: Callable[[str], None],
    foreign: Callable[[bytes, str], Any],
) -> Worker:
    """Begins to take messages. run: called in a thread with a task's id; raises nothing. foreign: keeps what is no
    message of ours; raises LedgerError where it cannot.
    """

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def begin(task_id: str) -> None:
        run(task_id)

    return Worker(app, name, concurrency, _consumer(foreign))


class Worker:
    """A Celery worker in a thread of this process; one for each process, since Celery keeps its state in a module."""

    def __init__(self, app: Celery, name: str, concurrency: int, consumer: type[Consumer]) -> None:
        worker_state.should_stop = None
        self._worker = app.WorkController(
            hostname=f"{name}@serve", pool_cls="threads", concurrency=concurrency, consumer_cls=consumer,
            without_gossip=True, without_mingle=True, without_heartbeat=True,
        )  # fmt: skip
        # Ray ends the process when a replica is to go; a thread that waits for the broker must not hold it.
        self._thread = threading.Thread(target=self._worker.start, name="celery", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes messages, or tries to reach the broker."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """No more messages are taken; those that run go on. Returns at once."""
        worker_state.should_stop = 0


def _away(error: Exception, pause_s: float) -> None:
    _LOG.warning("the broker is away (%s); trying again in %.1f s", type(error).__name__, pause_s)


def _consumer(foreign: Callable[[bytes, str], Any]) -> type[Consumer]:
    """Celery drops messages that it cannot read with a line in the log; this keeps them first."""

    def kept(message: Any, reason: str) -> bool:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        try:
            foreign(body, reason)
        except LedgerError:
            message.requeue()
            return False
        return True

    class Keeping(Consumer):  # type: ignore[misc] # an Any where Celery is not installed
        def ensure_connected(self, conn: Any) -> Any:
            """Celery's own pauses grow to half a minute, in which a broker that is back has no consumers."""
            return conn.ensure_connection(
                _away, max_retries=None, interval_start=0.5, interval_step=0.5, interval_max=3,
                callback=worker_state.maybe_shutdown,
            )  # fmt: skip

        def on_unknown_message(self, body: Any, message: Any) -> None:
            if kept(message, "the message is no Celery task"):
                super().on_unknown_message(body, message)

        def on_unknown_task(self, body: Any, message: Any, exc: Any) -> None:
            if kept(message, f"no task of this application: {exc}"):
                super().on_unknown_task(body, message, exc)

        def on_invalid_task(self, body: Any, message: Any, exc: Any) -> None:
            if kept(message, f"the message cannot be read: {exc}"):
                super().on_invalid_task(body, message, exc)

        def on_decode_error(self, message: Any, exc: Any) -> None:
            if kept(message, f"the message cannot be decoded: {exc}"):
                super().on_decode_error(message, exc)

    return Keeping
