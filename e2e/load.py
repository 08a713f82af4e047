"""An open-loop load generator: requests leave at a fixed rate, however slowly the answers come.

A closed loop would send less while the service stands still, and so hide just the gap that an upgrade test looks for.

As a library (the target must be on loopback)::

    async with running(f"http://127.0.0.1:{node_port}/", rate=20) as load:
        ...                     # upgrade something
    report = load.report()      # ends the load, waits for requests under way
    assert not report.failures, report

In a pod, from this one file (``support.LoadPod`` does so)::

    python load.py --url http://quickstart-serve-svc:8000/ --rate 20 --seconds 60    # prints the report as JSON
"""

import argparse
import asyncio
import ipaddress
import json
import math
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

_MAX_SECONDS = 3600.0
_MAX_RATE = 500.0


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 2xx. ``at`` is seconds since the load began."""

    at: float
    seconds: float
    what: str


@dataclass(frozen=True)
class Report:
    """What became of all requests; times in seconds. ``times``, if asked for: when each answer came, as Unix time."""

    sent: int
    answered: int
    failures: list[Failure]
    duration: float
    longest_gap: float
    p50: float
    p99: float
    slowest: float
    late_starts: int
    answers: dict[str, int]
    times: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        head = (
            f"{self.sent} sent, {self.answered} answered, {len(self.failures)} failed in {self.duration:.1f} s; "
            f"longest gap {self.longest_gap:.2f}, p50 {self.p50:.3f}, p99 {self.p99:.3f}, slowest {self.slowest:.2f}"
        )
        return "\n".join([head, *(f"  at {f.at:.2f} s after {f.seconds:.2f} s: {f.what}" for f in self.failures[:20])])

    @classmethod
    def from_json(cls, text: str) -> "Report":
        data = json.loads(text)
        data["failures"] = [Failure(**failure) for failure in data["failures"]]
        return cls(**data)


@dataclass
class Load:
    """One run. ``keep_alive`` False opens a new connection for each request, as a load balancer in front may do."""

    url: str
    rate: float
    seconds: float = _MAX_SECONDS
    keep_alive: bool = False
    timeout: float = 30.0
    headers: dict[str, str] = field(default_factory=dict)
    times: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate <= _MAX_RATE or not 0 < self.seconds <= _MAX_SECONDS:
            msg = f"rate up to {_MAX_RATE:.0f}/s and up to {_MAX_SECONDS:.0f} s"
            raise ValueError(msg)
        self._began = time.monotonic()
        self._ended: float | None = None
        self._latencies: list[float] = []
        self._answered_at: list[float] = []
        self._failures: list[Failure] = []
        self._answers: Counter[str] = Counter()
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._sent = 0
        self._late = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send until ``stop`` or the time is over, then wait for what is under way."""
        self._began = time.monotonic()
        connector = aiohttp.TCPConnector(limit=0, force_close=not self.keep_alive)
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self.headers) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(int(self.rate * self.seconds)):
                due = self._began + number / self.rate
                if await self._stopped_before(due):
                    break
                # A generator that can't keep its own pace would report a gap that is not the service's.
                self._late += time.monotonic() - due > max(0.1, 1 / self.rate)
                self._sent += 1
                group.create_task(self._one(session))
            self._ended = time.monotonic()

    async def _stopped_before(self, due: float) -> bool:
        wait = due - time.monotonic()
        if wait <= 0:
            await asyncio.sleep(0)
            return self._stop.is_set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), wait)
        return self._stop.is_set()

    async def _one(self, session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        try:
            async with session.get(self.url) as answer:
                body = await answer.text()
                problem = "" if answer.status < 300 else f"HTTP {answer.status}: {body[:200]}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            body = ""
            problem = f"{type(error).__name__}: {error}"
        ended = time.monotonic()
        if problem:
            self._failures.append(Failure(round(began - self._began, 3), round(ended - began, 3), problem))
        else:
            self._latencies.append(ended - began)
            self._answered_at.append(ended)
            if len(self._answers) < 100 or body in self._answers:
                self._answers[body] += 1
                if self.times:
                    self._times[body].append(round(time.time(), 3))

    def stop(self) -> None:
        self._stop.set()

    def report(self) -> Report:
        ended = self._ended or time.monotonic()
        moments = [self._began, *sorted(self._answered_at)]
        gaps = [
            later - earlier for earlier, later in zip(moments, [*moments[1:], max(ended, moments[-1])], strict=True)
        ]
        latencies = sorted(self._latencies)
        return Report(
            sent=self._sent,
            answered=len(latencies),
            failures=sorted(self._failures, key=lambda failure: failure.at),
            duration=round(ended - self._began, 3),
            longest_gap=round(max(gaps), 3),
            p50=round(_quantile(latencies, 0.5), 4),
            p99=round(_quantile(latencies, 0.99), 4),
            slowest=round(latencies[-1], 4) if latencies else math.inf,
            late_starts=self._late,
            answers=dict(self._answers),
            times=dict(self._times),
        )


def _quantile(ordered: list[float], share: float) -> float:
    """Nearest rank; infinite when nothing was answered."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.inf


@asynccontextmanager
async def running(url: str, *, rate: float, **options: Any) -> AsyncIterator[Load]:
    """Load for the length of the block, on loopback only; the report is complete after it."""
    host = urlsplit(url).hostname or ""
    if host != "localhost" and not _loopback(host):
        msg = f"load goes to loopback only, not to {host}; from elsewhere use a load pod"
        raise ValueError(msg)
    load = Load(url, rate, **options)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await task


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _main(args: argparse.Namespace) -> Report:
    load = Load(args.url, args.rate, args.seconds, keep_alive=args.keep_alive, timeout=args.timeout, times=args.times)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, load.stop)
    await load.run()
    return load.report()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--keep-alive", action="store_true", help="keep connections instead of one for each request")
    parser.add_argument("--times", action="store_true", help="report when each answer came")
    report = asyncio.run(_main(parser.parse_args()))
    print(json.dumps(asdict(report)), flush=True)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
