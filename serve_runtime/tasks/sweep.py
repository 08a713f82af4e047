"""The sweep: tasks whose worker, retry time or message is due get a message. Every ingress replica does it; the ledger
lets each task be found by one of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from serve_runtime.tasks.args import TasksArgs
from serve_runtime.tasks.ledger import Ledger, LedgerError, Swept
from serve_runtime.tasks.transport import BrokerError, Transport

_LOG = logging.getLogger("ray.serve")
PERIOD_S: Final = 1.0


class Sweeper:
    """Call :meth:`once` each ``PERIOD_S``.

    For most of a lease after its start and after each failure it leaves everything as it is: when Redis has been away,
    all leases look run out until the workers reach it again.
    """

    def __init__(
        self, args: TasksArgs, ledger: Ledger, transport: Transport, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._args = args
        self._ledger = ledger
        self._transport = transport
        self._clock = clock
        self._quiet_until = clock() + args.lease_s * 2 / 3
        self._unsent: list[str] = []
        self.healthy = False

    def once(self) -> Swept | None:
        """One sweep; None where nothing was done. Raises nothing that a later sweep could do better."""
        try:
            if self._unsent:
                self._send([])
            empty = self._transport.is_empty()
            if self._clock() < self._quiet_until:
                self._ledger.ping()
                self.healthy = True
                return None
            swept = self._ledger.sweep(
                max_losses=self._args.max_losses, slack_s=self._args.lease_s, empty=empty,
                dead_ttl_s=self._args.dead_letter_ttl_s,
            )  # fmt: skip
            self._send(swept.publish)
        except (LedgerError, BrokerError) as error:
            if self.healthy:
                _LOG.warning("broker or store are away (%s)", type(error).__name__)
            self.healthy = False
            self._quiet_until = self._clock() + self._args.lease_s * 2 / 3
            return None
        self.healthy = True
        if swept.lost or swept.missing:
            _LOG.warning(
                "%d runs had lost their worker (%d of them for the last time), %d tasks their message",
                swept.lost, swept.dead, swept.missing,
            )  # fmt: skip
        return swept

    def _send(self, task_ids: list[str]) -> None:
        """What cannot be sent is kept for the next time; should this process end, the ledger still has it as queued."""
        self._unsent += task_ids
        sent = 0
        try:
            sent = self._transport.publish(self._unsent)
        except BrokerError as error:
            sent = error.sent
            raise
        finally:
            self._unsent = self._unsent[sent:]
