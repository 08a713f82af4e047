"""Consumers by the number of unfinished tasks, those that workers hold included; from zero and back to zero.

Ray calls a policy in its controller's event loop ten times a second, where nothing may wait. So the store is asked in a
task of its own, once each ``poll_s``, one question at a time, for ``timeout_s`` at most; the policy only reads the last
answer. Without one that is fresh, replicas stay as they are.

Ray pickles the module of a policy's class by value: this one stays small, and imports what it needs where it needs it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

_COMPLAIN_EVERY_S = 60.0


class TasksPolicy:
    """``policy_function`` of the deployment ``Consumer``; the builder sets its arguments.

    store_url: as in the application's args, with ``${NAME}`` for environment variables of the head.
    """

    def __init__(self, store_url: str, queue: str, per_replica: float, poll_s: float, timeout_s: float) -> None:
        from serve_runtime.autoscaling.policies import QueueDepth  # noqa: PLC0415

        self._policy = QueueDepth(per_replica=per_replica)
        self._store_url = store_url
        self._queue = queue
        self._poll_s = poll_s
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None
        self._asked_at = -float("inf")
        self._answered_at = -float("inf")
        self._complained_at = -float("inf")
        self._unfinished = 0

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Ray's protocol: the wanted replicas and the state for the next call."""
        now = time.monotonic()
        if (self._task is None or self._task.done()) and now - self._asked_at >= self._poll_s:
            self._asked_at = now
            self._task = asyncio.get_running_loop().create_task(self._ask())
        if now - self._answered_at > 3 * self._poll_s + self._timeout_s:
            return int(context.target_num_replicas), {}
        return self._wanted(context), {}

    def _wanted(self, context: Any) -> int:
        from serve_runtime.autoscaling.observation import Observation  # noqa: PLC0415

        seen = Observation(
            now=context.current_time, current=context.current_num_replicas, target=context.target_num_replicas,
            ongoing=float(self._unfinished), least=context.capacity_adjusted_min_replicas,
            most=context.capacity_adjusted_max_replicas,
        )  # fmt: skip
        wanted = self._policy.decide(seen, {}).replicas
        return seen.target if wanted is None else seen.bounded(wanted)

    async def _ask(self) -> None:
        from serve_runtime.tasks import depth  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._timeout_s):
                self._unfinished = await depth.unfinished(self._store_url, self._queue, self._timeout_s)
            self._answered_at = time.monotonic()
        except Exception as error:
            if time.monotonic() - self._complained_at > _COMPLAIN_EVERY_S:
                self._complained_at = time.monotonic()
                logging.getLogger("ray.serve").warning(
                    "Tasks of queue %s cannot be counted, consumers stay as they are: %s: %s",
                    self._queue, type(error).__name__, error,
                )  # fmt: skip
