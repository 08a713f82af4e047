"""The deployment that takes HTTP: ray.serve.llm's, with every refusal in OpenAI's shape and with the right status.

Needs Ray and vLLM.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ray.serve.llm.ingress import OpenAiIngress
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_runtime.errors import Refusal, Unavailable, UnknownModel
from serve_runtime.llm import failures
from serve_runtime.llm.meters import family
from serve_runtime.observe import tracing
from serve_runtime.web import answers

_LOG = logging.getLogger("ray.serve")
ADAPTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""Names of adapters. They become parts of paths, so there is no slash in them and no dot at the beginning."""
ENDPOINTS: Final = ("chat", "completions", "embeddings", "transcriptions", "score", "tokenize", "detokenize")


class Ingress(OpenAiIngress):  # type: ignore[misc]
    """One replica. timeout_s: until an answer, or the first part of a stream. retry_after_s: in what is 503."""

    def __init__(self, *arguments: Any, timeout_s: float, retry_after_s: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timeout_s, self._retry_after_s = timeout_s, retry_after_s
        meters = family()
        self._requests = meters.histogram(
            "request_seconds",
            "From the body to the end of the answer, as the ingress sees it.",
            ("model", "endpoint", "outcome"),
        )
        self._first = meters.histogram(
            "first_part_seconds",
            "From the body to the first part of a stream: what the engine calls TTFT, and waiting for a replica.",
            ("model",),
        )

    async def _get_model_id(self, model: str | None) -> str:
        """The model that is meant. Raises UnknownModel, for adapters too: before there is a handle for them, which
        would stay.
        """
        found: str = await super()._get_model_id(model)
        if found not in self._model_cards and found not in self._configured_serve_handles:
            await self._adapter(found)
        return found

    async def _adapter(self, model: str) -> None:
        """Raises UnknownModel where there is no such adapter. Answers are remembered: an hour for yes, 30 s for no."""
        base, _, adapter = model.partition(":")
        if (path := self._lora_paths.get(base)) is None or ADAPTER.fullmatch(adapter) is None:
            raise UnknownModel(f"no model {model!r}; GET /v1/models lists them")
        try:
            await self._get_lora_model_metadata_func(model, path)
        except Exception as error:
            refusal = failures.as_refusal(error, self._retry_after_s)
            if refusal.status == 404:
                raise UnknownModel(f"no model {model!r}: {path} has no such adapter") from None
            if isinstance(error, ValueError):
                raise failures.BadAdapter(f"{model}: its adapter_config.json cannot be read: {error}") from None
            raise

    async def model(self, model_id: str) -> Any:
        """What one model is, None where there is none; also the path of ``GET /v1/models/{id}``."""
        if model_id not in self._model_cards:
            base, _, adapter = model_id.partition(":")
            if base not in self._lora_paths or ADAPTER.fullmatch(adapter) is None:
                return None
        try:
            return await super().model(model_id)
        except ValueError as error:  # one adapter that is no good must not hide the others
            _LOG.warning("The adapter %s is left out: its adapter_config.json cannot be read: %s", model_id, error)
            return None

    async def _get_response(self, *, body: Any, call_method: str, raw_request: Request | None = None) -> Any:
        """What a replica sends. What it raises becomes a Refusal, or, once something was sent, a last event."""
        base = str(getattr(body, "model", None) or "").partition(":")[0]
        label = base if base in self._model_cards else "other" if base else next(iter(self._model_cards))
        request_id = answers.request_id(raw_request) if raw_request is not None else ""
        begun, sent, outcome = time.monotonic(), False, "ok"
        try:
            async for item in super()._get_response(body=body, call_method=call_method, raw_request=raw_request):
                if not sent and getattr(body, "stream", False):
                    self._first.observe(time.monotonic() - begun, {"model": label})
                    tracing.event("first part")
                sent = True
                yield item
        except Exception as error:
            refusal = self._told(error, call_method)
            outcome = refusal.code
            if not sent:
                raise refusal from None
            yield failures.event(refusal, request_id)
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            tags = {"model": label, "endpoint": call_method, "outcome": outcome}
            self._requests.observe(time.monotonic() - begun, tags)
            tracing.annotate(model=label, outcome=outcome)

    def _told(self, error: Exception, what: str) -> Refusal:
        refusal = failures.as_refusal(error, self._retry_after_s)
        if refusal.status >= 500 and not isinstance(refusal, Unavailable):
            answers.log_failure(failures.cause_of(error), what)
        return refusal

    async def answered(self, request: Request | None, answering: Coroutine[Any, Any, Any], what: str) -> Any:
        """The answer, or what is told instead of it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answering
        except Exception as error:
            refusal = self._told(error, what)
            request_id = answers.request_id(request) if request is not None else ""
            return JSONResponse(failures.body(refusal, request_id), refusal.status, refusal.headers())


def _guarded(name: str) -> Callable[..., Any]:
    """The endpoint of the parent, answering in place of raising. FastAPI sees the parent's signature."""
    endpoint = getattr(OpenAiIngress, name)

    @functools.wraps(endpoint)
    async def guarded(self: Ingress, *arguments: Any, **named: Any) -> Response:
        request = next((each for each in (*arguments, *named.values()) if isinstance(each, Request)), None)
        return await self.answered(request, endpoint(self, *arguments, **named), name)

    guarded.__qualname__ = f"{Ingress.__qualname__}.{name}"  # Ray tells routes of a class by it
    return guarded


for _name in (*ENDPOINTS, "models", "model_data"):
    setattr(Ingress, _name, _guarded(_name))
