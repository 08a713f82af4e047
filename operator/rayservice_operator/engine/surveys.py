"""Looks whether there is room in the cluster, beside the reconciles: it may take seconds, and nobody waits for it.

Nodes and pods are listed page by page, summed up and forgotten, so 5,000 nodes with 50,000 pods need some megabytes
for as long as it takes. Nothing of it is watched. What must not be seen is said, not complained of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from rayservice_operator.core.decision import AskRoom
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.room import RoomAnswer
from rayservice_operator.engine.clock import Clock
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.errors import ApiError, Forbidden, NotFound
from rayservice_operator.kube.resources import reference
from rayservice_operator.service.capacity.survey import (
    CLUSTER_AUTOSCALER_CONFIG,
    Node,
    Quota,
    Survey,
    Usage,
    autoscaler_of,
    node,
    quota,
)
from rayservice_operator.service.capacity.verdict import evaluate

log = logging.getLogger(__name__)

FRESH_S: Final = 5.0
"""A look at the nodes answers every question that comes within this time of its beginning."""

SHARE: Final = 20.0
"""And where it takes long, it is not repeated within so many times as long."""

KEEP_S: Final = 120.0
LIMIT_S: Final = 120.0
MAX_PER_KEY: Final = 8
RUNNING_PODS: Final = "status.phase!=Succeeded,status.phase!=Failed"

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A look at the nodes; ``began``, ``ended``: monotonic seconds."""

    survey: Survey
    began: float
    ended: float

    def good(self, now: float) -> bool:
        """Whether it still answers."""
        return now - self.began < max(FRESH_S, SHARE * (self.ended - self.began))


@dataclass
class Surveyor:
    """Answers ``AskRoom`` actions. ``on_answer`` is told whose question was answered; ``spawn`` runs the work."""

    api: KubeApi
    clock: Clock
    on_answer: Callable[[Key], None]
    spawn: Callable[[Work], None] | None = None
    _answers: dict[Key, dict[str, RoomAnswer]] = field(default_factory=dict)
    _open: dict[tuple[Key, str], AskRoom] = field(default_factory=dict)
    _working: bool = False
    _seen: _Seen | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def ask(self, key: Key, question: AskRoom) -> None:
        """Begin to look, unless that goes on already. The former answer stands until there is another."""
        mine = self._answers.setdefault(key, {})
        now = self.clock.now()
        before = mine.pop(question.key, RoomAnswer(now))
        mine[question.key] = replace(before, asked_at=now)
        while len(mine) > MAX_PER_KEY:
            del mine[next(iter(mine))]
        self._open[key, question.key] = question
        if not self._working:
            self._working = True
            (self.spawn or self._as_task)(self._work)

    def view(self, key: Key) -> Mapping[str, RoomAnswer]:
        """A copy of the answers for ``key``."""
        if self._seen is not None and self.clock.monotonic() - self._seen.ended > KEEP_S:
            self._seen = None
        return dict(self._answers.get(key, ()))

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._answers.pop(key, None)
        for name in [name for name in self._open if name[0] == key]:
            del self._open[name]

    async def close(self) -> None:
        """End what goes on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _as_task(self, work: Work) -> None:
        task = asyncio.create_task(self._limited(work), name="look for room")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _limited(self, work: Work) -> None:
        try:
            await asyncio.wait_for(work(), LIMIT_S)
        except TimeoutError:
            log.warning("looking for room in the cluster took longer than %g s", LIMIT_S)
        finally:
            self._working = False

    # --- the work

    async def _work(self) -> None:
        try:
            while self._open:
                (key, name), question = next(iter(self._open.items()))
                del self._open[key, name]
                await self._answer(key, question)
        except ApiError as error:
            # What was asked stays unanswered; who asked goes on without, and asks again when it matters.
            self._open.clear()
            log.warning("cannot look for room in the cluster: %s", error.message)
        except Exception:
            self._open.clear()
            log.exception("looking for room failed by a mistake in the operator")
        finally:
            self._working = False

    async def _answer(self, key: Key, question: AskRoom) -> None:
        survey = replace(await self._cluster(question.since), quotas=await self._quotas(question.namespace))
        answer = self._answers.get(key, {}).get(question.key)
        if answer is not None:
            room = evaluate(question.wanted, survey)
            self._answers[key][question.key] = replace(answer, at=survey.at, room=room)
            self.on_answer(key)

    async def _cluster(self, since: float) -> Survey:
        """Nodes and what their pods leave of them; a recent look is used again."""
        began = self.clock.monotonic()
        if self._seen is None or not self._seen.good(began) or self._seen.survey.at < since:
            survey = await self._look()
            self._seen = _Seen(survey, began, self.clock.monotonic())
        return self._seen.survey

    async def _look(self) -> Survey:
        at = self.clock.now()
        usage, pods_seen = Usage(), True
        try:
            await self._each_page("Pod", usage.add, fields=RUNNING_PODS)
        except Forbidden:
            usage, pods_seen = Usage(), False
        nodes: list[Node] = []
        signs: list[str] = []

        def take(page: tuple[Manifest, ...]) -> None:
            nodes.extend(node(item, usage) for item in page)
            signs.extend(sign for item in page if (sign := autoscaler_of(item)))

        try:
            await self._each_page("Node", take)
        except Forbidden:
            return Survey(at, None, blind="nodes cannot be seen, the operator may not list them")
        autoscaler = signs[0] if signs else await self._cluster_autoscaler()
        return Survey(at, tuple(nodes), pods_seen=pods_seen, autoscaler=autoscaler)

    async def _each_page(self, kind: str, take: Callable[[tuple[Manifest, ...]], None], fields: str = "") -> None:
        more = ""
        while True:
            page = await self.api.page(kind, fields=fields, more=more)
            take(page.items)
            more = page.more
            if not more:
                return

    async def _cluster_autoscaler(self) -> str:
        namespace, name = CLUSTER_AUTOSCALER_CONFIG
        try:
            found = await self.api.get(reference("ConfigMap", namespace, name))
        except (NotFound, Forbidden):
            return ""
        return "the cluster autoscaler" if name_of(found) else ""

    async def _quotas(self, namespace: str) -> tuple[Quota, ...] | None:
        """None when they must not be seen."""
        try:
            listing = await self.api.list("ResourceQuota", namespace)
        except Forbidden:
            return None
        return tuple(quota(item) for item in listing.items)
