"""Send an open-loop load to a service: latency, time to first token, times between tokens, and goodput.

Requests are due at a rate that does not depend on the answers, and are timed from when they were due, so seconds in
which the service stood still are in the figures. Ctrl-C ends it and prints what there is. For services of your own.

  python -m serve_runtime bench http://svc:8000/predict --body '"text"' --rate 50 --duration 30 --slo-latency 0.2
  python -m serve_runtime bench http://svc:8000/v1/chat/completions --model tiny --rate 2 --slo-ttft 0.5 --svg p.svg
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from serve_runtime.commands import values

_MOST: Final = 2_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """As every command's."""
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--rate", type=values.positive, default=10.0, help="requests that are due in a second")
    parser.add_argument("--duration", type=values.positive, default=30.0, metavar="S", help="of sending")
    parser.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson")
    parser.add_argument("--seed", type=int, default=0, help="of the times of arrival")
    parser.add_argument("--max-in-flight", type=values.count, default=512, metavar="N", help="beyond it they wait")
    parser.add_argument("--timeout", type=values.positive, default=60.0, metavar="S", help="of one request")
    parser.add_argument("--body", action="append", default=[], help="posted as JSON, several in turn; {n}: its number")
    parser.add_argument("--bodies", metavar="FILE", default="", help="one --body, or prompt, a line")
    parser.add_argument("--model", default="", help="the URL speaks OpenAI's API: stream from this model")
    parser.add_argument("--prompt", action="append", default=[], help="with --model; several in turn; {n}: its number")
    parser.add_argument("--max-tokens", type=values.count, default=64, help="with --model")
    parser.add_argument("--extra", type=_object, default={}, metavar="JSON", help="with --model: into each body")
    parser.add_argument(
        "--header-env", action="append", default=[], type=values.header_env, metavar="NAME=VARIABLE", help="a header"
    )
    parser.add_argument("--slo-latency", type=values.positive, metavar="S", help="to the last byte")
    parser.add_argument("--slo-ttft", type=values.positive, metavar="S", help="to the first byte or token")
    parser.add_argument("--slo-gap", type=values.positive, metavar="S", help="between tokens, mean of a request")
    parser.add_argument("--min-goodput", type=_share, default=0.0, metavar="SHARE", help="exit with 1 below it")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout; without, lines for people")
    parser.add_argument("--out", metavar="FILE", default="", help="the report as JSON, too")
    parser.add_argument("--svg", metavar="FILE", default="", help="a picture")


def run(asked: argparse.Namespace) -> int:
    """0; 1 below --min-goodput or with no answer at all; 2 for arguments that do not fit; 130 when interrupted."""
    if complaint := _complaint(asked):
        sys.stderr.write(f"bench: {complaint}\n")
        return 2
    try:
        import aiohttp  # noqa: F401, PLC0415
    except ImportError:
        sys.stderr.write("bench: aiohttp is missing; it comes with ray[serve], or install rayservice-operator\n")
        return 2
    return asyncio.run(_run(asked))


def _complaint(asked: argparse.Namespace) -> str:
    parts = urlsplit(asked.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"{asked.url} is no http URL"
    if asked.model and not parts.path.endswith("/completions"):
        return f"--model: the URL ends with /v1/chat/completions or /v1/completions, not with {parts.path or 'nothing'}"
    if not asked.model and (asked.prompt or asked.extra):
        return "--prompt and --extra go with --model; else give --body"
    if asked.model and asked.body:
        return "--body goes without --model; else give --prompt and --extra"
    if asked.rate * asked.duration > _MOST:
        return f"--rate times --duration: at most {_MOST} requests, which are all kept until the end"
    return ""


async def _run(asked: argparse.Namespace) -> int:
    import aiohttp  # noqa: PLC0415

    from serve_runtime.commands.bench import load  # noqa: PLC0415
    from serve_runtime.commands.bench.picture import picture  # noqa: PLC0415
    from serve_runtime.commands.bench.report import Objective, lines, report  # noqa: PLC0415

    try:
        bodies = _bodies(asked)
    except OSError as error:
        sys.stderr.write(f"bench: --bodies {asked.bodies}: {error.strerror}\n")
        return 2
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    plan = load.Plan(asked.rate, asked.duration, asked.max_in_flight, asked.timeout + 1, asked.arrivals, asked.seed)
    # No limit of its own, which would make requests wait unseen.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        done = await load.run(plan, _target(asked, session, bodies).send, stop)
    objective = Objective(asked.slo_latency, asked.slo_ttft, asked.slo_gap)
    told = {
        "url": asked.url,
        "rate": asked.rate,
        "duration_s": asked.duration,
        "arrivals": asked.arrivals,
        **report(done, objective),
    }
    sys.stdout.write(json.dumps(told) + "\n" if asked.json else "\n".join(lines(told)) + "\n")
    title = f"{asked.url}, {asked.rate:g} requests/s due ({asked.arrivals})"
    try:
        if asked.out:
            Path(asked.out).write_text(json.dumps(told, indent=2) + "\n")  # noqa: ASYNC240  # the load is over
        if asked.svg:
            Path(asked.svg).write_text(picture(done, objective, told, title))  # noqa: ASYNC240
    except OSError as error:
        sys.stderr.write(f"bench: {error.filename}: {error.strerror}\n")
        return 2
    if done.interrupted:
        return 130
    return 1 if told["goodput"]["share"] < asked.min_goodput or not told["ok"] else 0


def _bodies(asked: argparse.Namespace) -> Sequence[str]:
    found = [*asked.body, *asked.prompt]
    if asked.bodies:
        found += [line for line in Path(asked.bodies).read_text().splitlines() if line.strip()]
    return found or (["Count from one to ten. ({n})"] if asked.model else [])


def _target(asked: argparse.Namespace, session: Any, bodies: Sequence[str]) -> Any:
    from serve_runtime.commands.bench import targets  # noqa: PLC0415

    headers = dict(asked.header_env)
    if not asked.model:
        return targets.HttpTarget(session, asked.url, bodies, headers, asked.timeout)
    request = {"model": asked.model, "max_tokens": asked.max_tokens, **asked.extra}
    return targets.OpenAITarget(session, asked.url, bodies, headers, asked.timeout, request)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a share is from 0 to 1")
    return value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('an object, as {"temperature": 0}')
    return value
