"""The deployment: HTTP in front, models behind, health and numbers beside them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ray import serve
from serve_runtime.errors import Refusal, UnknownModel
from serve_runtime.observe import logs, tracing
from serve_runtime.predictor import contract as contracts
from serve_runtime.predictor import http
from serve_runtime.predictor.args import PredictorArgs, UserConfig
from serve_runtime.predictor.batcher import Batcher
from serve_runtime.predictor.batches import Outcome
from serve_runtime.predictor.engine import Engine, Job, value_of
from serve_runtime.predictor.fleet import Fleet
from serve_runtime.predictor.loaded import Loaded, RetiredError
from serve_runtime.predictor.meters import Meters
from serve_runtime.web import answers
from serve_runtime.web.bodies import Reader
from serve_runtime.web.dotted import resolve_class, resolve_errors
from serve_runtime.web.streams import Limits, Sending


@dataclass(slots=True)
class _Use:
    """A request's use of a model."""

    loaded: Loaded
    item: Any
    outcome: str = "ok"


class Predictor:
    """One replica. ``args`` have passed :func:`build`, on a machine with the same code."""

    async def __init__(self, args: PredictorArgs) -> None:  # type: ignore[misc] # Ray Serve awaits it
        """Raises what the predictor's constructor raises; Ray Serve tries three times."""
        self._args = args
        self._contract = contracts.of(resolve_class(args.predictor, field="predictor"), args)
        self._caller_errors = resolve_errors(args.caller_errors, field="caller_errors")
        self._reader = Reader(self._contract.accepts, self._contract.item)
        self._meters = Meters()
        logs.with_trace_ids()
        self._pool = ThreadPoolExecutor(args.threads, thread_name_prefix="predictor")
        self._engine = Engine(self._contract, self._pool, self._caller_errors, self._note)
        self._limits = Limits(args.stream_timeout_s, args.max_stream_bytes)
        self._config = UserConfig()
        self._in_flight = 0
        self._batcher: Batcher[Job, Outcome] | None = None
        if batching := args.batching:
            self._batcher = Batcher(
                self._engine.batch, batching.max_batch_size, batching.wait_s, batching.max_concurrent_batches
            )
        self._fleet = Fleet(
            args, self._contract, self._pool,
            started=self._load_noted, looked_up=self._looked_up, configure=self._configure,
        )  # fmt: skip
        await self._fleet.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once this is constructed."""
        return http.build(self, self._contract)

    # What requests do.

    async def predict(self, request: Request) -> Response:
        """``POST /predict``."""
        async with self._answering(request) as use:
            async with asyncio.timeout(self._args.timeout_s):
                if self._batcher is None:
                    value = await self._engine.one(use.loaded, use.item)
                else:
                    value = value_of(await self._batcher.submit(Job(use.loaded, use.item)))
            return answers.result(value, self._args.media_type)

    async def stream(self, request: Request) -> Response:
        """``POST /stream``. The first item is awaited before there is an answer, so that a mistake has its status."""
        form = answers.form_of(request.headers.get("accept", ""))
        media_types = {"sse": "text/event-stream", "lines": "application/x-ndjson", "raw": self._args.media_type}
        # Handed over to the answer, which outlives this method; closed here only if there is none.
        async with contextlib.AsyncExitStack() as stack:
            begun = asyncio.get_running_loop().time()
            use = await stack.enter_async_context(self._answering(request))
            items = await stack.enter_async_context(self._engine.stream(use.loaded, use.item))
            sending = Sending(items, lambda item: answers.encode(item, form), self._limits, begun)
            first = await sending.next(within_s=self._args.timeout_s)
            self._note("first", asyncio.get_running_loop().time() - begun, use.loaded.model)
            tracing.event("first item")
            held = stack.pop_all()
            rest = self._rest(first, sending, use, form, request)
            return answers.StreamedAnswer(rest, lambda: _close(held), media_types[form])
        raise AssertionError("unreachable")

    async def _rest(
        self, part: bytes | None, sending: Sending, use: _Use, form: answers.Form, request: Request
    ) -> AsyncIterator[bytes]:
        """The first part, what follows it, and how it ended."""
        try:
            while part is not None:
                if part:
                    yield part
                asked = time.monotonic()
                part = await sending.next()
                self._note("gap", time.monotonic() - asked, use.loaded.model)
            ending = answers.encode_end(form)
        except Exception as error:
            refusal = self._refusal(error)
            use.outcome = refusal.code
            ending = answers.encode_error(refusal, form, request)
        if ending:
            yield ending

    @contextlib.asynccontextmanager
    async def _answering(self, request: Request) -> AsyncIterator[_Use]:
        """A request's use of its model, held for the length of the block; counted and timed.

        Everything that is raised in it leaves it as a Refusal.
        """
        begun = time.monotonic()
        asked = serve.get_multiplexed_model_id() if self._args.models else ""
        outcome, label = "ok", self._fleet.label(asked)
        self._in_flight += 1
        try:
            item = await answers.read_item(request, self._reader, self._args.max_body_bytes)
            loaded = await self._fleet.take(asked)
            label = self._fleet.label(loaded.model)
            use = _Use(loaded, item)
            try:
                yield use
            finally:
                loaded.give_back()
                outcome = use.outcome
        except Exception as error:
            refusal = self._refusal(error)
            outcome = refusal.code
            raise refusal from (None if refusal is error else error)
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            self._in_flight -= 1
            tracing.annotate(model=label, outcome=outcome)
            self._meters.request.observe(time.monotonic() - begun, {"model": label, "outcome": outcome})

    def _refusal(self, error: Exception) -> Refusal:
        return answers.as_refusal(error, self._caller_errors, self._args.retry_after_s, "the prediction")

    # What Ray Serve asks.

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called at start and when ``user_config`` changes. Raises ValueError that names the field."""
        try:
            config = UserConfig.model_validate(user_config)
        except ValidationError as error:
            raise ValueError(f"user_config of the deployment Predictor: {error}") from None
        if config.predictor is not None and not hasattr(self._contract.cls, "reconfigure"):
            raise ValueError(f"user_config.predictor: {self._args.predictor} has no reconfigure(config)")
        if self._batcher is None and config.batching != UserConfig().batching:
            raise ValueError("user_config.batching: batching is off; args.batching turns it on, with a restart")
        before, self._config = self._config, config
        try:
            for loaded in self._fleet.loaded():
                with contextlib.suppress(RetiredError), loaded.lease() as predictor:
                    await self._configure(predictor)
        except BaseException:
            self._config = before
            raise
        if self._args.batching and self._batcher is not None:
            now, first = config.batching, self._args.batching
            self._batcher.max_batch_size = now.max_batch_size or first.max_batch_size
            self._batcher.wait_s = first.wait_s if now.wait_s is None else now.wait_s

    async def _configure(self, predictor: Any) -> None:
        """Hands the present config over, and again if it has changed meanwhile: a model that is being loaded is not
        among those that :meth:`reconfigure` goes through.
        """
        while (config := self._config).predictor is not None:
            await self._engine.call(predictor.reconfigure, config.predictor)
            if config is self._config:
                return

    async def check_health(self) -> None:
        """Asks each model. Raises RuntimeError when none is well: then another replica may do better."""
        fleet = self._fleet.loaded()
        for loaded in fleet:
            loaded.illness = await _illness(loaded)
            self._meters.ill.set(1 if loaded.illness else 0, {"model": self._fleet.label(loaded.model)})
        if fleet and all(loaded.illness for loaded in fleet):
            reasons = "; ".join(f"{loaded.model or self._args.predictor}: {loaded.illness}" for loaded in fleet)
            raise RuntimeError(f"no model is well: {reasons}")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For autoscaling policies: requests in this replica, streams included, and those in no batch yet."""
        waiting = self._batcher.waiting if self._batcher else 0
        return {"in_flight": float(self._in_flight), "waiting": float(waiting)}

    def record_routing_stats(self) -> dict[str, Any]:
        """For request routers."""
        return {"in_flight": self._in_flight, "models": [loaded.model for loaded in self._fleet.loaded()]}

    async def __del__(self) -> None:
        """Called by Ray Serve when the replica ends."""
        fleet = getattr(self, "_fleet", None)
        if fleet is not None:
            await fleet.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def models(self) -> dict[str, Any]:
        """``GET /models``: what this replica knows; another one may have others loaded."""
        catalog = self._fleet.catalog
        return {
            "in_flight": self._in_flight,
            "loaded": [
                {"id": each.model, "in_flight": each.users, "healthy": not each.illness, "reason": each.illness}
                for each in self._fleet.loaded()
            ],
            "known": sorted(catalog.models.known) if catalog else [],
            "default": catalog.models.default if catalog else None,
            "failed": {model: reason for model, (_, reason) in catalog.failures.items()} if catalog else {},
        }

    def model(self, model_id: str) -> dict[str, Any]:
        """``GET /models/{id}``: how one model is. Raises UnknownModel."""
        found = self.models()
        for each in found["loaded"]:
            if each["id"] == model_id:
                return {**each, "loaded": True}
        catalog = self._fleet.catalog
        if catalog is None or not catalog.models.allows(model_id):
            raise UnknownModel(f"no model {model_id!r}", details={"known": found["known"]})
        reason = found["failed"].get(model_id, "")
        return {"id": model_id, "in_flight": 0, "healthy": not reason, "reason": reason, "loaded": False}

    # What is measured.

    def _note(self, what: str, value: float, model: str) -> None:
        getattr(self._meters, what).observe(value, {"model": self._fleet.label(model)})

    def _load_noted(self, model: str, seconds: float, outcome: str) -> None:
        self._meters.load.observe(seconds, {"model": self._fleet.label(model), "outcome": outcome})

    def _looked_up(self, model: str, found: bool) -> None:
        self._meters.cache.inc(1, {"model": self._fleet.label(model), "found": "loaded" if found else "absent"})


def _close(held: contextlib.AsyncExitStack) -> None:
    """Leaves the blocks of a stream. They await nothing on their way out, so one step of the coroutine does it, also
    in a request that was cancelled, where each await would raise.
    """
    closing = held.aclose()
    try:
        closing.send(None)
    except StopIteration:
        return
    raise AssertionError("closing a stream must not wait")


async def _illness(loaded: Loaded) -> str:
    """What the model's own check raises; empty without one. In a thread apart: a busy model is not an ill one."""
    check = getattr(loaded.predictor, "check_health", None)
    if check is None:
        return ""
    try:
        await (check() if inspect.iscoroutinefunction(check) else asyncio.to_thread(check))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def build(args: PredictorArgs) -> serve.Application:
    """The application. Raises DottedNameError and ContractError."""
    contracts.of(resolve_class(args.predictor, field="predictor"), args)
    resolve_errors(args.caller_errors, field="caller_errors")
    made = serve.deployment(
        name="Predictor",
        max_ongoing_requests=args.in_flight(),
        max_queued_requests=args.max_queued_requests,
        backpressure_config={"status_code": 503, "retry_after_s": args.retry_after_s},
        logging_config={"encoding": args.log_encoding},
    )(serve.ingress()(Predictor))
    return made.bind(args)
