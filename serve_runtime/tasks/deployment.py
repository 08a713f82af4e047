"""The deployments: ``Tasks`` takes requests and sweeps, ``Consumer`` runs handlers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from ray import serve
from serve_runtime.tasks.args import TasksArgs
from serve_runtime.tasks.handlers import contracts
from serve_runtime.tasks.ingress import Tasks
from serve_runtime.tasks.ledger import Ledger
from serve_runtime.tasks.meters import ConsumerMeters
from serve_runtime.tasks.scaling import TasksPolicy
from serve_runtime.tasks.transport import BrokerError, Transport, Worker, consume, make_app
from serve_runtime.tasks.work import Work
from serve_runtime.web.dotted import resolve_errors

_LOG = logging.getLogger("ray.serve")
_MARGIN_S = 5.0
"""From the end of a drain until Ray kills the replica: for giving back what still runs."""


class Consumer:
    """One replica. ``args`` have passed :func:`build`, on a machine with the same code."""

    async def __init__(self, args: TasksArgs) -> None:  # type: ignore[misc] # Ray Serve awaits it
        """Raises what handlers' constructors raise. A broker that is away is waited for, in the background."""
        self._args = args
        self._ledger = Ledger(args.store(), args.queue, args.store_timeout_s)
        app = make_app(args.broker(), args.queue, args.store_timeout_s, args.lease_s)
        name = serve.get_replica_context().replica_id.unique_id
        made = contracts(args.handlers)
        hopeless = resolve_errors(args.caller_errors, field="caller_errors")
        loop = asyncio.get_running_loop()
        # In a thread: constructors load models, and Ray asks for signs of life meanwhile.
        self._work = await asyncio.to_thread(
            Work, args, self._ledger, name, contracts=made, hopeless=hopeless, loop=loop, note=ConsumerMeters().note
        )
        self._transport = Transport(app)
        self._worker: Worker = consume(
            app, name=name, concurrency=args.concurrency, run=self._work.run,
            foreign=lambda content, reason: self._ledger.foreign(content, reason, args.dead_letter_ttl_s),
        )  # fmt: skip

    async def __call__(self) -> dict[str, Any]:
        """Nobody asks a consumer anything; this is for people with a handle."""
        return {"running": self._work.running}

    def check_health(self) -> None:
        """Raises RuntimeError for what a new replica would do better. A broker that is away is no such thing."""
        if not self._worker.alive:
            raise RuntimeError("the Celery worker has ended; the log has the reason")
        if self._work.hung >= self._args.concurrency:
            raise RuntimeError(f"{self._work.hung} handlers took longer than timeout_s and hold all threads")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For autoscaling policies: tasks in this replica."""
        return {"running": float(self._work.running)}

    async def __del__(self) -> None:
        """Called by Ray Serve when the replica ends: running tasks end, or are given back."""
        if hasattr(self, "_worker"):
            self._worker.stop()
            given = await asyncio.to_thread(self._work.drain, self._args.drain_s)
            with contextlib.suppress(BrokerError):  # the sweep does it else
                await asyncio.to_thread(self._transport.publish, given)


def build(args: TasksArgs) -> serve.Application:
    """The application. Raises DottedNameError and HandlerError."""
    contracts(args.handlers)
    resolve_errors(args.caller_errors, field="caller_errors")
    common: dict[str, Any] = {"logging_config": {"encoding": args.log_encoding}}
    consumer = serve.deployment(
        name="Consumer",
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=args.drain_s + _MARGIN_S + args.store_timeout_s,
        autoscaling_config=_scaling(args),
        **common,
    )(Consumer)
    ingress = serve.deployment(
        name="Tasks",
        num_replicas=args.ingress_replicas,
        max_ongoing_requests=args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        backpressure_config={"status_code": 503, "retry_after_s": args.retry_after_s},
        **common,
    )(serve.ingress()(Tasks))
    return ingress.bind(args, consumer.bind(args))


def _scaling(args: TasksArgs) -> AutoscalingConfig | None:
    """In code and not in YAML, since the dashboard would import the policy from YAML."""
    scaling = args.autoscaling
    if scaling is None:
        return None
    policy = AutoscalingPolicy(
        policy_function=TasksPolicy,
        policy_kwargs={
            "store_url": args.store_url or args.broker_url,
            "queue": args.queue,
            "per_replica": float(scaling.per_replica or args.concurrency),
            "poll_s": scaling.poll_s,
            "timeout_s": args.store_timeout_s,
        },
    )
    return AutoscalingConfig(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s,
        policy=policy,
    )
