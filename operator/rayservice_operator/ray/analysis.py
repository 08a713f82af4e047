"""Takes the measurements that the analysis of a cluster orders: smoke requests, Prometheus queries, scrapes of pods.

One task for each check, so that one that hangs delays neither another check nor the look at the head. Every call has
a deadline of its own. What is measured is kept as raw samples; the verdict is ``service.analysis``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from rayservice_operator.core.measurements import (
    Address,
    AnalysisOrder,
    HistogramWindow,
    Measure,
    PrometheusQuery,
    QuerySample,
    RequestSample,
    Sample,
    SmokeRequest,
    WindowSample,
)
from rayservice_operator.ray import prometheus, smoke
from rayservice_operator.ray.client import CONNECT_S
from rayservice_operator.ray.http import TooLongError, netloc, read
from rayservice_operator.service.analysis.windows import Exported, Scrape, increase

_log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""Seconds before a smoke request is sent again."""
SCRAPE_S: Final = 5.0
"""Deadline of one pod's metrics; a head on a busy machine takes a second."""
TELL_S: Final = 5.0
"""How often requests that succeed are told of: each is a write of the status. What fails is told at once."""


class _Around(Protocol):
    @property
    def http(self) -> aiohttp.ClientSession: ...
    @property
    def clock(self) -> Callable[[], float]: ...


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both clusters' metrics at one moment."""

    candidate: Scrape
    stable: Scrape

    @property
    def at(self) -> float:
        """Epoch seconds at which it was begun."""
        return self.candidate.at


@dataclass(slots=True)
class _Row:
    """One check's samples that no decision has counted yet, and the number of the next one."""

    taken: int = 0
    last_at: float | None = None
    samples: list[Sample] = field(default_factory=list)


class Measurements:
    """``order`` says what is to be measured from now on; ``samples`` are what was measured and told of.

    Told of by ``news()``, from the event loop. Another subject begins anew; the same one goes on.
    """

    def __init__(self, around: _Around, news: Callable[[], None]) -> None:
        self._around = around
        self._news = news
        self.samples: tuple[Sample, ...] = ()
        self._order: AnalysisOrder | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._begin()

    def _begin(self) -> None:
        self._changed = asyncio.Event()
        self._rows: dict[str, _Row] = {}
        self._families: set[str] = set()
        self._pairs: list[_Pair] = []
        self._scraping = asyncio.Lock()
        self._told_at = -math.inf

    def order(self, order: AnalysisOrder | None) -> None:
        """Measure this; nothing for None. Returns at once."""
        if order == self._order:
            return
        old, self._order = self._order, order
        if old is None or order is None or old.subject != order.subject:
            self.cancel()
            self._order = order
        if order is None:
            return
        for measure in order.measures:
            if isinstance(measure.what, HistogramWindow):
                self._families.add(measure.what.family)
            if measure.check not in self._tasks:
                self._rows[measure.check] = _Row()
                task = asyncio.create_task(self._run(measure.check), name=f"measure {measure.check}")
                self._tasks[measure.check] = task
        self._changed.set()
        self._changed = asyncio.Event()

    def cancel(self) -> None:
        """Ends all measurements and forgets them."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks = {}
        self._order = None
        self._begin()

    # -- one check ---------------------------------------------------------------------------------------------

    async def _run(self, check: str) -> None:
        row = self._rows[check]
        while True:
            changed = self._changed
            measure = self._measure(check)
            if measure is not None:
                row.taken = max(row.taken, measure.number)
            if measure is None or row.taken >= measure.end:
                await changed.wait()
                continue
            due = measure.not_before
            if row.last_at is not None and not isinstance(measure.what, HistogramWindow):
                due = max(due, row.last_at + measure.interval_s)
            wait = min(due, measure.what.since) if isinstance(measure.what, HistogramWindow) else due
            if (left := wait - self._around.clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await changed.wait()
                continue
            what = await self._taken(measure, row.taken)
            at = what.ended if isinstance(what, WindowSample) and what.ended else self._around.clock()
            sample = Sample(self._subject(), check, row.taken, at, what)
            row.last_at = sample.at
            row.taken += 1
            self._keep(row, sample, last=row.taken >= measure.end)

    def _measure(self, check: str) -> Measure | None:
        measures = self._order.measures if self._order else ()
        return next((measure for measure in measures if measure.check == check), None)

    def _subject(self) -> str:
        return self._order.subject if self._order else ""

    def _keep(self, row: _Row, sample: Sample, *, last: bool) -> None:
        row.samples.append(sample)
        routine = isinstance(sample.what, RequestSample) and not sample.what.problem and not last
        if routine and sample.at < self._told_at + TELL_S:
            return
        self._told_at = sample.at
        for check, other in self._rows.items():
            measure = self._measure(check)
            counted = measure.number if measure else other.taken
            other.samples = [kept for kept in other.samples if kept.number >= counted]
        self.samples = tuple(kept for other in self._rows.values() for kept in other.samples)
        self._news()

    async def _taken(self, measure: Measure, number: int) -> RequestSample | QuerySample | WindowSample:
        what = measure.what
        try:
            if isinstance(what, SmokeRequest):
                return await self._request(what, number)
            if isinstance(what, PrometheusQuery):
                return await prometheus.query(self._around.http, what)
            return await self._window(what, measure)
        except Exception as error:  # a defect here must not look like the candidate's, nor end the check
            _log.exception("Measuring %s failed", measure.check)
            message = f"the operator failed to measure ({type(error).__name__})"
            if isinstance(what, SmokeRequest):
                return RequestSample(message)
            return QuerySample(error=message) if isinstance(what, PrometheusQuery) else WindowSample(0, error=message)

    # -- smoke requests ----------------------------------------------------------------------------------------

    async def _request(self, what: SmokeRequest, number: int) -> RequestSample:
        sample = RequestSample("no pod of the new cluster is ready")
        for attempt in range(what.retries + 1):
            if attempt:
                await asyncio.sleep(RETRY_S)
            proxies = self._order.proxies if self._order else ()
            if proxies:
                proxy = proxies[(number + attempt) % len(proxies)]
                sample = await smoke.send(self._around.http, what, proxy, attempt + 1)
                if not sample.problem:
                    break
        return sample

    # -- the pods' own metrics ---------------------------------------------------------------------------------

    async def _window(self, what: HistogramWindow, measure: Measure) -> WindowSample:
        first = await self._pair(what.since)
        due = max(measure.not_before, first.at + measure.interval_s)
        await asyncio.sleep(max(0.0, due - self._around.clock()))
        last = await self._pair(due)
        self._prune()
        candidate = increase(first.candidate, last.candidate, what.family, what.labels)
        stable = increase(first.stable, last.stable, what.family, what.labels) if what.stable else None
        error = "the metrics of the new cluster's pods cannot be read" if candidate is None else ""
        return WindowSample(last.at - first.at, candidate, stable, error, ended=last.at)

    async def _pair(self, since: float) -> _Pair:
        """The first scrape of both clusters that was begun at or after ``since``; made now where there is none."""
        async with self._scraping:
            found = next((pair for pair in self._pairs if pair.at >= since), None)
            if found is None:
                order = self._order
                at = self._around.clock()
                candidate, stable = await asyncio.gather(
                    self._scraped(order.candidate if order else ()), self._scraped(order.stable if order else ())
                )
                found = _Pair(Scrape(at, candidate), Scrape(at, stable))
                self._pairs.append(found)
            return found

    def _prune(self) -> None:
        """Keeps the newest scrape, and for each check the one that its window may go on from."""
        measures = self._order.measures if self._order else ()
        since = [measure.what.since for measure in measures if isinstance(measure.what, HistogramWindow)]
        firsts = [next((pair for pair in self._pairs if pair.at >= at), None) for at in since]
        self._pairs = [pair for pair in self._pairs if pair in firsts or pair is self._pairs[-1]]

    async def _scraped(self, pods: Sequence[Address]) -> dict[Address, Exported | None]:
        exported = await asyncio.gather(*(self._exported(pod) for pod in pods))
        return dict(zip(pods, exported, strict=True))

    async def _exported(self, pod: Address) -> Exported | None:
        timeout = aiohttp.ClientTimeout(total=SCRAPE_S, sock_connect=CONNECT_S)
        try:
            async with self._around.http.get(
                f"http://{netloc(pod)}/metrics", timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    return None
                return prometheus.histograms(await read(response), sorted(self._families))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, TooLongError):
            return None
