"""The deployments: one for each step that is a class, and the ingress, which runs the plan."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ray import serve
from serve_runtime.errors import Refusal
from serve_runtime.observe import logs, tracing
from serve_runtime.observe.meters import Family
from serve_runtime.pipeline.args import INGRESS, PipelineArgs
from serve_runtime.pipeline.plan import Plan, plan
from serve_runtime.pipeline.run import StepError, run
from serve_runtime.web import answers
from serve_runtime.web.bodies import Reader
from serve_runtime.web.dotted import DottedNameError, resolve_class, resolve_errors


class StepReplica:
    """One replica of a step."""

    def __init__(self, step: str, dotted: str, init: dict[str, Any]) -> None:
        """Raises what the class's constructor raises."""
        self._step = step
        self._made = resolve_class(dotted, field=f"steps.{step}.use")(**init)
        self._seconds = Family("pipeline").histogram("step_seconds", "In a step's own code.", ("step", "outcome"))
        logs.with_trace_ids()

    async def __call__(self, names: tuple[str, ...], *inputs: Any) -> Any:
        """The result for one input, or for a mapping of several. Calls arrive as values; Ray Serve has fetched them."""
        item = dict(zip(names, inputs, strict=True)) if names else inputs[0]
        begun = time.monotonic()
        outcome = "failed"
        try:
            predict = self._made.predict
            with tracing.span(f"step {self._step}", step=self._step):
                call = predict(item) if inspect.iscoroutinefunction(predict) else asyncio.to_thread(predict, item)
                result = await call
            outcome = "ok"
            return result
        finally:
            self._seconds.observe(time.monotonic() - begun, {"step": self._step, "outcome": outcome})

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called at start and when the step's ``user_config`` changes. Raises ValueError where the class has no say."""
        method = getattr(self._made, "reconfigure", None)
        if method is None:
            raise ValueError(f"user_config of {self._step}: its class has no reconfigure(config)")
        await (method(user_config) if inspect.iscoroutinefunction(method) else asyncio.to_thread(method, user_config))

    async def check_health(self) -> None:
        """The class's own, if it has one."""
        check = getattr(self._made, "check_health", None)
        if check is not None:
            await (check() if inspect.iscoroutinefunction(check) else asyncio.to_thread(check))


class _UnderWay:
    """A call of a step."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self._done = False

    def __await__(self) -> Any:
        try:
            return (yield from self.response.__await__())
        finally:
            self._done = True

    def cancel(self) -> None:
        """Nobody needs it any more. Ray Serve may raise what a call that has ended by itself ended with."""
        if not self._done:
            with contextlib.suppress(Exception):
                self.response.cancel()


class Pipeline:
    """The ingress. ``handles`` are those of the steps that are classes."""

    def __init__(self, args: PipelineArgs, handles: dict[str, Any]) -> None:
        self._args = args
        self._plan: Plan = plan(args)
        self._handles = handles
        self._caller_errors = resolve_errors(args.caller_errors, field="caller_errors")
        self._reader = Reader(("json", "form", "bytes"))
        self._in_flight = 0
        self._seconds = Family("pipeline").histogram(
            "request_seconds", "From the body to the answer.", ("outcome", "step")
        )
        logs.with_trace_ids()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once this is constructed."""
        app = FastAPI(title="Pipeline", description=" -> ".join(self._plan.order))
        answers.refusals_are_answers(app)
        app.add_api_route("/run", self.run, methods=["POST"], summary="One answer", response_class=Response)
        app.add_api_route("/graph", self.graph, methods=["GET"], summary="The steps")
        return app

    async def run(self, request: Request) -> Response:
        """``POST /run``."""
        begun = time.monotonic()
        outcome, at = "ok", ""
        self._in_flight += 1
        try:
            body = await answers.read_item(request, self._reader, self._args.max_body_bytes)
            async with asyncio.timeout(self._args.timeout_s):
                found = await run(self._plan, body, self._call, max_fan_out=self._args.max_fan_out)
            single = self._plan.output[0] if len(self._plan.output) == 1 else None
            return answers.result(found.get(single) if single else found, "application/octet-stream")
        except Exception as error:
            at = error.step if isinstance(error, StepError) else ""
            refusal = self._refusal(error)
            outcome = refusal.code
            raise refusal from (None if refusal is error else error)
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            self._in_flight -= 1
            tracing.annotate(outcome=outcome, failed_step=at)
            self._seconds.observe(time.monotonic() - begun, {"outcome": outcome, "step": at})

    def _call(self, step: str, names: tuple[str, ...], inputs: list[Any]) -> _UnderWay:
        # Calls among the inputs are passed on by Ray Serve as references: their values never come here.
        passed = [each.response if isinstance(each, _UnderWay) else each for each in inputs]
        return _UnderWay(self._handles[step].remote(names, *passed))

    def _refusal(self, error: Exception) -> Refusal:
        """What a failure of a step means to the caller. Ray wraps what was raised elsewhere; ``cause`` is that."""
        what = "the pipeline"
        if isinstance(error, StepError):
            what = f"step {error.step!r}"
            origin: Any = error.__cause__ or error
            while isinstance(getattr(origin, "cause", None), Exception):
                origin = origin.cause
            error = origin
        return answers.as_refusal(error, self._caller_errors, self._args.retry_after_s, what)

    def graph(self) -> dict[str, Any]:
        """``GET /graph``: the plan, and requests under way in this replica."""
        steps = {name: self._plan.steps[name].model_dump(exclude={"init"}, by_alias=True) for name in self._plan.order}
        return {"steps": steps, "output": self._plan.output, "in_flight": self._in_flight}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For autoscaling policies."""
        return {"in_flight": float(self._in_flight)}


def build(args: PipelineArgs) -> serve.Application:
    """The application. Raises PlanError and DottedNameError."""
    made = plan(args)
    resolve_errors(args.caller_errors, field="caller_errors")
    common = {"max_ongoing_requests": args.max_ongoing_requests, "logging_config": {"encoding": args.log_encoding}}
    handles = {}
    for name in made.order:
        step = made.steps[name]
        if step.use is None:
            continue
        _check_class(resolve_class(step.use, field=f"steps.{name}.use"), name, step.use, step.init)
        handles[name] = serve.deployment(name=name, **common)(StepReplica).bind(name, step.use, step.init)
    ingress = serve.deployment(
        name=INGRESS,
        max_queued_requests=args.max_queued_requests,
        backpressure_config={"status_code": 503, "retry_after_s": args.retry_after_s},
        **common,
    )(serve.ingress()(Pipeline))
    return ingress.bind(args, handles)


def _check_class(cls: type[Any], name: str, dotted: str, init: dict[str, Any]) -> None:
    if not callable(getattr(cls, "predict", None)):
        raise DottedNameError(f"steps.{name}.use: {dotted} has no predict(item)")
    with contextlib.suppress(ValueError):  # built-in code has no signature to look at
        signature = inspect.signature(cls)
        try:
            signature.bind(**init)
        except TypeError as error:
            raise DottedNameError(f"steps.{name}.init: {dotted}{signature} cannot be constructed: {error}") from None
