"""What is asked: any HTTP route, or an OpenAI-compatible one whose answer is a stream of tokens (aiohttp)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from serve_runtime.commands.bench.load import OK, Sample

Clock = Callable[[], float]


@dataclass(frozen=True)
class HttpTarget:
    """``bodies`` are sent in turn, as POST; with none it is a GET. ``{n}`` in a body is the request's number."""

    session: aiohttp.ClientSession
    url: str
    bodies: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0

    def body(self, number: int) -> bytes | None:
        """Of that request."""
        if not self.bodies:
            return None
        return self.bodies[number % len(self.bodies)].replace("{n}", str(number)).encode()

    async def send(self, number: int, sample: Sample, clock: Clock) -> str:
        """As load.Send. The outcome is ``ok``, a status, or what broke."""
        body = self.body(number)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self.session.request(
                "GET" if body is None else "POST",
                self.url,
                data=body,
                headers={**headers, **self.headers},
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            ) as answer:
                if not 200 <= answer.status < 300:
                    await answer.read()
                    return f"status {answer.status}"
                return await self.receive(answer.content, sample, clock)
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientConnectorError:
            return "not connected"
        except (aiohttp.ClientError, ConnectionError):
            return "connection broke"

    async def receive(self, content: aiohttp.StreamReader, sample: Sample, clock: Clock) -> str:
        """Read the answer; returns the outcome."""
        async for _ in content.iter_any():
            if sample.first is None:
                sample.first = clock()
        return OK


@dataclass(frozen=True)
class OpenAITarget(HttpTarget):
    """``/v1/chat/completions`` or ``/v1/completions``; ``bodies`` are prompts.

    The first token is the first part with text in it: what comes before only opens the stream. ``request`` is what
    else the body has.
    """

    request: Mapping[str, Any] = field(default_factory=dict)

    def body(self, number: int) -> bytes:
        """Of that request."""
        prompt = self.bodies[number % len(self.bodies)].replace("{n}", str(number))
        chat = self.url.partition("?")[0].endswith("/chat/completions")
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps({**asked, **stream, **self.request}).encode()

    async def receive(self, content: aiohttp.StreamReader, sample: Sample, clock: Clock) -> str:
        """As HttpTarget; a stream that ends without its end, or with an error in it, is a failure."""
        last, parts, whole = 0.0, 0, False
        async for data in events(content):
            now = clock()
            if data == "[DONE]":
                whole = True
                continue
            try:
                told = json.loads(data)
                if "error" in told:
                    return "error in the stream"
                text = "".join(map(_text, told.get("choices") or ()))
                sample.tokens = int((told.get("usage") or {}).get("completion_tokens") or sample.tokens)
            except (ValueError, TypeError, AttributeError):
                return "no OpenAI stream"
            if text:
                parts += 1
                if sample.first is None:
                    sample.first = now
                else:
                    sample.gaps.append(now - last)
                last = now
        sample.tokens = sample.tokens or parts
        return OK if whole else "stream was cut"


def _text(choice: Mapping[str, Any]) -> str:
    delta = choice.get("delta") or {}
    return str(choice.get("text") or delta.get("content") or delta.get("reasoning_content") or "")


async def events(content: aiohttp.StreamReader) -> AsyncIterator[str]:
    """``data`` of server-sent events (WHATWG HTML, 9.2), each as soon as its lines are there."""
    rest, lines = b"", list[str]()
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for raw in whole:
            line = raw.rstrip(b"\r").decode(errors="replace")
            if line.startswith("data:"):
                lines.append(line[5:].removeprefix(" "))
            elif not line and lines:
                yield "\n".join(lines)
                lines.clear()
    if lines:
        yield "\n".join(lines)
