"""``bench``: what is late is told as late, tokens are timed, and an end comes when it should."""

from __future__ import annotations

import asyncio
import json
import signal
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from serve_runtime.commands.bench import load
from serve_runtime.commands.bench.load import CUT, OK, Load, Plan, Sample
from serve_runtime.commands.bench.picture import picture
from serve_runtime.commands.bench.report import Objective, lines, quantile, report, spread
from serve_runtime.commands.bench.targets import events
from tests.serve_runtime.commands.running import ended, run, serving, start, until

# --- the loop itself


async def test_what_waits_for_a_slot_counts_from_when_it_was_due() -> None:
    """One at a time, and the first stands still until 60 others are overdue: all of them say so."""
    stop = asyncio.Event()

    async def send(number: int, sample: Sample, clock: Any) -> str:
        if number == 0:
            await asyncio.sleep(0.3)
        if number == 59:
            stop.set()
        return OK

    done = await load.run(Plan(200, 600, 1, 60, "constant"), send, stop)
    assert done.most_in_flight == 1
    first, *others = done.samples[:60]
    assert all(s.began >= first.ended and s.latency >= first.ended - s.due for s in others)
    assert report(done, Objective())["latency_s"]["max"] >= 0.3


async def test_what_never_got_a_slot_is_not_forgotten() -> None:
    plan = Plan(rate=100, duration_s=0.2, max_in_flight=2, grace_s=0.05, arrivals="constant")

    async def send(number: int, sample: Sample, clock: Any) -> str:
        await asyncio.Event().wait()
        return OK

    done = await load.run(plan, send, asyncio.Event())
    told = report(done, Objective())
    assert (told["sent"], told["unsent"], told["cut"], told["ok"]) == (2, 18, 2, 0)
    assert told["goodput"] == {"met": 0, "share": 0.0, "per_s": 0.0}


async def test_a_stop_ends_it_and_keeps_what_there_is() -> None:
    stop = asyncio.Event()

    async def send(number: int, sample: Sample, clock: Any) -> str:
        if number == 3:
            stop.set()
            await asyncio.Event().wait()
        return OK

    done = await load.run(Plan(1000, 3600, 10, 3600, "constant"), send, stop)
    assert done.interrupted
    assert [s.outcome for s in done.samples[:4]] == [OK, OK, OK, CUT]


@given(st.floats(0.1, 500), st.floats(0.01, 5), st.integers(0, 99))
def test_arrivals(rate: float, duration: float, seed: int) -> None:
    constant = list(Plan(rate, duration, 1, 1, "constant").due())
    assert abs(len(constant) - rate * duration) <= 1
    poisson = Plan(rate, duration, 1, 1, "poisson", seed)
    due = list(poisson.due())
    assert due == sorted(due)
    assert due == list(poisson.due())
    assert all(0 <= at < duration for at in due)


# --- figures

samples = st.builds(
    lambda due, wait, first, rest, outcome, gaps: Sample(
        due, due + wait, due + wait + first, due + wait + first + rest, outcome, len(gaps) + 1, gaps
    ),
    *[st.floats(0, 10)] * 4,
    st.sampled_from([OK, OK, OK, CUT, "status 503", "timeout"]),
    st.lists(st.floats(0, 1), max_size=4),
)
limits = st.none() | st.floats(0.01, 20)


@given(st.lists(samples, max_size=40), st.integers(0, 5), st.builds(Objective, limits, limits, limits))
def test_every_request_is_in_the_report_once(found: list[Sample], unsent: int, objective: Objective) -> None:
    done = Load(found, unsent, 10.0, 3)
    told = report(done, objective)
    assert told["due"] == told["ok"] + sum(told["failed"].values()) + told["cut"] + told["unsent"]
    assert told["goodput"]["met"] <= told["ok"]
    assert 0 <= told["goodput"]["share"] <= 1
    assert report(done, Objective())["goodput"]["met"] == told["ok"]
    if told["latency_s"]:
        ordered = [told["latency_s"][q] for q in ("p50", "p90", "p95", "p99", "max") if q in told["latency_s"]]
        assert ordered == sorted(ordered)
    assert json.loads(json.dumps(told)) == told
    assert lines({"url": "u", **told})
    ET.fromstring(picture(done, objective, told, "a < b"))


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0.01, 0.999))
def test_a_quantile_is_not_exceeded_by_that_share(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert sum(v <= found for v in ordered) >= share * len(ordered) - 1e-9


def test_quantiles_that_too_few_values_cannot_have_are_left_out() -> None:
    assert set(spread([1.0] * 10) or {}) == {"p50", "p90", "max", "mean"}
    assert spread([]) is None


def test_objectives() -> None:
    sample = Sample(0, 0.5, 1.0, 2.0, OK, 3, [0.1, 0.3])
    assert Objective(2.0, 1.0, 0.2).met(sample)
    assert not Objective(latency_s=1.9).met(sample)
    assert not Objective(ttft_s=0.9).met(sample)
    assert not Objective(gap_s=0.19).met(sample)


# --- streams


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))), st.data())
async def test_events_are_read_wherever_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    raw = b"".join(b"data: " + text.encode() + end + end for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))

    class Content:
        async def iter_any(self) -> Any:
            for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True):
                yield raw[a:b]

    assert [each async for each in events(Content())] == texts  # type: ignore[arg-type]


def chat(*parts: str, whole: bool = True) -> web.RouteDef:
    """A route that streams these texts after the part that only opens the stream."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        assert asked["stream"]
        assert asked["max_tokens"] == 64
        response = web.StreamResponse()
        await response.prepare(request)
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": each} for each in parts)]
        for delta in deltas:
            await response.write(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode())
        if whole:
            await response.write(b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\ndata: [DONE]\n\n')
        return response

    return web.post("/v1/chat/completions", answer)


@pytest.mark.parametrize("whole", [True, False])
async def test_an_openai_stream(tmp_path: Path, whole: bool) -> None:
    async with serving(chat("a", "b", "c", whole=whole)) as url:
        asked = ("--model", "tiny", "--rate", "40", "--duration", "0.5", "--arrivals", "constant")
        files = ("--svg", str(tmp_path / "p.svg"), "--out", str(tmp_path / "r.json"))
        got = await run("bench", f"{url}/v1/chat/completions", *asked, *files, "--json")
    told = json.loads(got.out)
    assert json.loads((tmp_path / "r.json").read_text()) == told
    ET.fromstring((tmp_path / "p.svg").read_text())
    if not whole:
        assert (got.code, told["failed"]) == (1, {"stream was cut": 20})
        return
    assert (got.code, told["ok"], told["tokens"]) == (0, 20, 140)
    assert told["ttft_s"]["p50"] <= told["latency_s"]["p50"]
    assert told["gap_s"]["max"] >= 0


# --- the command


async def test_bodies_in_turn_with_their_number_and_failures_by_name() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {await request.text()} {request.headers['Authorization']}")
        return web.Response(status=503 if len(seen) % 4 == 0 else 200)

    async with serving(web.route("*", "/p", answer)) as url:
        asked = ("--body", '"a{n}"', "--body", '"b"', "--rate", "40", "--duration", "0.5", "--arrivals", "constant")
        more = ("--header-env", "Authorization=T", "--max-in-flight", "1", "--json", "--min-goodput", "0.9")
        got = await run("bench", f"{url}/p", *asked, *more, T="Bearer t")
    told = json.loads(got.out)
    assert got.code == 1, "goodput is below what was asked for"
    assert seen[:3] == ['POST "a0" Bearer t', 'POST "b" Bearer t', 'POST "a2" Bearer t']
    assert told["failed"] == {"status 503": len(seen) // 4}


async def test_interrupted_it_prints_what_there_is() -> None:
    asked: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(1)
        return web.Response()

    async with serving(web.get("/", answer)) as url:
        process = await start("bench", f"{url}/", "--rate", "50", "--duration", "3600", "--json")
        await until(lambda: len(asked) >= 5)
        process.send_signal(signal.SIGINT)
        got = await ended(process)
    told = json.loads(got.out)
    assert (got.code, told["interrupted"]) == (130, True)
    assert told["ok"] >= 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftp://x"], "no http URL"),
        (["http://127.0.0.1:9/", "--model", "m"], "ends with"),
        (["http://127.0.0.1:9/", "--prompt", "x"], "--body"),
        (["http://127.0.0.1:9/", "--rate", "0"], "more than 0"),
        (["http://127.0.0.1:9/", "--rate", "1000000"], "at most"),
        (["http://127.0.0.1:9/", "--bodies", "/no/such"], "No such file"),
        (["http://127.0.0.1:9/v1/completions", "--model", "m", "--extra", "[]"], "an object"),
        (["http://127.0.0.1:9/", "--header-env", "A=NO_SUCH_VARIABLE"], "there is no variable"),
    ],
)
async def test_arguments_that_do_not_fit(arguments: list[str], says: str) -> None:
    got = await run("bench", *arguments)
    assert (got.code, got.out) == (2, "")
    assert says in got.err
    assert "Traceback" not in got.err


async def test_nobody_there() -> None:
    got = await run("bench", "http://127.0.0.1:9/", "--rate", "20", "--duration", "0.3", "--json")
    told = json.loads(got.out)
    assert (got.code, told["failed"]) == (1, {"not connected": told["sent"]})
