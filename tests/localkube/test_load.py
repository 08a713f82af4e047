"""The load generator tells what happened: failures, gaps, and no load but on loopback."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest
from aiohttp import web

from e2e.load import Load, Report, running


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Answers, but for every tenth request, and makes the fifteenth wait."""
    count = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal count
        count += 1
        number = count
        if number == 15:
            await asyncio.sleep(0.3)
        return web.Response(text="here") if number % 10 else web.Response(status=503, text="not now")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@pytest.mark.parametrize("keep_alive", [False, True])
async def test_report(url: str, keep_alive: bool) -> None:
    load = Load(url, rate=100, seconds=0.3, keep_alive=keep_alive, times=True)
    began = time.time()
    await load.run()
    report = load.report()
    assert (report.sent, report.answered, len(report.failures)) == (30, 27, 3)
    assert all(failure.what == "HTTP 503: not now" for failure in report.failures)
    assert report.slowest >= 0.3
    assert report.answers == {"here": 27}
    assert len(report.times["here"]) == 27
    assert began - 0.01 <= min(report.times["here"]) <= max(report.times["here"]) <= time.time() + 0.01
    assert Report.from_json(json.dumps(asdict(report))) == report
    assert "3 failed" in str(report)


async def test_refused_connections_are_failures() -> None:
    async with running("http://127.0.0.1:1/", rate=50) as load:
        await asyncio.sleep(0.1)
    report = load.report()
    assert report.answered == 0
    assert len(report.failures) == report.sent > 0


async def test_only_loopback() -> None:
    with pytest.raises(ValueError, match="loopback only"):
        async with running("http://10.0.0.1/", rate=1):
            pass


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1e6, 1), (1, 1e9)])
async def test_bounded(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="rate up to"):
        Load("http://127.0.0.1/", rate, seconds)
