"""Routes and their schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serve_runtime.errors import Refusal
from serve_runtime.predictor.catalog import HEADER
from serve_runtime.predictor.contract import Contract
from serve_runtime.web import answers
from serve_runtime.web.bodies import CONTENT_TYPES

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Service(Protocol):
    """What answers."""

    async def predict(self, request: Request) -> Response:
        """One answer."""

    async def stream(self, request: Request) -> Response:
        """An answer in parts."""

    def models(self) -> dict[str, Any]:
        """What is loaded."""

    def model(self, model_id: str) -> dict[str, Any]:
        """How one model is."""


class Application(FastAPI):  # type: ignore[misc] # an Any where Ray is not installed
    """FastAPI for the schema, the documentation and whatever is rare; the routes that are asked all day are called
    without its middleware and dependencies, which take as long as all that happens in them here.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._direct: dict[str, Endpoint] = {}

    def add_direct(self, path: str, endpoint: Endpoint) -> None:
        """``POST path``, which FastAPI knows too. What the endpoint raises, but for refusals, is no answer."""
        self._direct[path] = endpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._direct.get(scope["path"].removeprefix(scope.get("root_path", "")))
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except Refusal as error:
            response = answers.refusal(error, request)
        await response(scope, receive, send)


def build(service: Service, contract: Contract) -> FastAPI:
    """The web application. Bodies are read by :class:`Reader` and not by FastAPI, which reads JSON only; so their
    schema is written here.
    """
    app = Application(title=contract.cls.__name__, description=contract.cls.__doc__ or "")
    item, result = contract.schemas()
    definitions = {**item.pop("$defs", {}), **result.pop("$defs", {})}

    answers.refusals_are_answers(app)

    def add(path: str, endpoint: Endpoint, about: str, answer: dict[str, Any]) -> None:
        body = {name: {"schema": item} for kind in contract.accepts for name in CONTENT_TYPES[kind]}
        header = {"name": HEADER, "in": "header", "required": False, "schema": {"type": "string"}}
        extra = {"requestBody": {"required": True, "content": body}, "parameters": [header]}
        statuses: dict[int | str, dict[str, Any]] = {200: {"content": answer}}
        statuses.update({status: {"description": why} for status, why in _REFUSALS.items()})
        app.add_api_route(
            path, endpoint, methods=["POST"], summary=about, openapi_extra=extra, responses=statuses,
            response_class=Response,
        )  # fmt: skip
        app.add_direct(path, endpoint)

    if contract.one or contract.batch:
        add("/predict", service.predict, "One answer", {"application/json": {"schema": result}})
    if contract.stream:
        streams = {
            name: dict[str, Any]() for name in ("text/event-stream", "application/x-ndjson", "application/octet-stream")
        }
        add("/stream", service.stream, "An answer in parts", streams)
    app.add_api_route("/models", service.models, methods=["GET"], summary="What this replica has loaded")
    app.add_api_route("/models/{model_id:path}", service.model, methods=["GET"], summary="How one model is")
    schema = app.openapi()  # made once; kept by FastAPI, with what the types refer to
    schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
    return app


_REFUSALS = {
    400: "The body is malformed, or no model is named",
    404: "No such model",
    413: "The body is too large",
    415: "A content type that is not taken",
    422: "The body is not what the predictor takes",
    500: "The predictor failed; the log has the reason under the request id",
    503: "Not now; Retry-After says when",
}
