"""Events (events.k8s.io/v1) that people read with ``kubectl describe``.

The same thing said again becomes a series of one event, not another event. Best effort: a lost event is a pity,
a reconcile that waits for one would be a fault.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.decision import Note
from rayservice_operator.core.objects import Manifest, name_of, ref
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.errors import AlreadyExists, ApiError, NotFound
from rayservice_operator.kube.resources import reference

log = logging.getLogger(__name__)

MAX_NOTE: Final = 1024
REPEAT_S: Final = 30.0
"""A repeated event is written at most this often; what comes in between is counted."""

_MAX_KNOWN: Final = 5000
_MAX_NAME: Final = 200


@dataclass(slots=True)
class _Known:
    """An event that we wrote. ``count`` is how often it was said, ``written_at`` when that was written last."""

    event: Manifest
    count: int = 1
    written_at: float = float("-inf")
    queued: bool = False


class EventRecorder:
    """Takes notes at once, writes them from :meth:`run`."""

    def __init__(
        self,
        api: KubeApi,
        *,
        now: Callable[[], float],
        instance: str = "",
        capacity: int = 1000,
    ) -> None:
        self._api = api
        self._now = now
        self._instance = (instance or socket.gethostname())[:128]
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._queue: asyncio.Queue[_Known] = asyncio.Queue(capacity)
        self.dropped = 0

    def record(self, obj: Manifest, note: Note, *, same_as: str = "", action: str = "Reconcile") -> None:
        """Say ``note`` about ``obj``. Never waits, never fails.

        Notes of one object and reason with the same message are one event. ``same_as`` stands in for the message
        where that varies in what does not matter.
        """
        about = ref(obj)
        digest = names.short_hash(about.uid, note.reason, same_as or note.message, length=12)
        name = f"{name_of(obj)[:_MAX_NAME]}.{digest}"
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known(self._event(name, obj, note, action), count=0)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        known.count += 1
        if known.queued or self._now() - known.written_at < REPEAT_S:
            return
        try:
            self._queue.put_nowait(known)
            known.queued = True
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write what was noted, until cancelled."""
        while True:
            known = await self._queue.get()
            known.queued = False
            try:
                await self._write(known)
            except ApiError as error:
                self.dropped += 1
                log.debug("event %s was not written: %s", name_of(known.event), error.message)
            except Exception:
                log.exception("event %s was not written", name_of(known.event))
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until everything noted so far has been tried."""
        await self._queue.join()

    async def _write(self, known: _Known) -> None:
        first = known.written_at == float("-inf")
        known.written_at = self._now()
        if not first:
            try:
                await self._repeat(known)
            except NotFound:  # the server forgets events after an hour
                known.count = 1
                known.event = {**known.event, "eventTime": _micro_time(self._now())}
            else:
                return
        try:
            await self._api.create(known.event)
        except AlreadyExists:  # said before this process started
            target = reference("Event", known.event["metadata"]["namespace"], name_of(known.event))
            existing = await self._api.get(target)
            known.count += int((existing.get("series") or {}).get("count") or 1)
            await self._repeat(known)

    async def _repeat(self, known: _Known) -> None:
        target = reference("Event", known.event["metadata"]["namespace"], name_of(known.event))
        series = {"count": max(2, known.count), "lastObservedTime": _micro_time(self._now())}
        await self._api.merge_patch(target, {"series": series})

    def _event(self, name: str, obj: Manifest, note: Note, action: str) -> Manifest:
        about = ref(obj)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": _micro_time(self._now()),
            "reportingController": names.FIELD_MANAGER,
            "reportingInstance": self._instance,
            "action": action,
            "reason": note.reason,
            "type": str(note.level),
            "note": shorten(note.message, MAX_NOTE),
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }


def _micro_time(epoch_seconds: float) -> str:
    """``metav1.MicroTime``: always six digits after the point."""
    moment = datetime.datetime.fromtimestamp(epoch_seconds, tz=datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
