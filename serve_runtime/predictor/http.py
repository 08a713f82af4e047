"""Routes and their schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serve_runtime.errors import Refusal
from serve_runtime.predictor.catalog import HEADER
from serve_runtime.predictor.contract import Contract
from serve_runtime.web import answers
from serve_runtime.web.bodies import CONTENT_TYPES


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


def build(service: Service, contract: Contract) -> FastAPI:
    """The web application. Bodies are read by :class:`Reader` and not by FastAPI, which reads JSON only; so their
    schema is written here.
    """
    app = FastAPI(title=contract.cls.__name__, description=contract.cls.__doc__ or "")
    item, result = contract.schemas()
    definitions = {**item.pop("$defs", {}), **result.pop("$defs", {})}

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return answers.refusal(error, request)

    app.add_exception_handler(Refusal, refused)

    def add(path: str, endpoint: Callable[[Request], Awaitable[Response]], about: str, answer: dict[str, Any]) -> None:
        body = {name: {"schema": item} for kind in contract.accepts for name in CONTENT_TYPES[kind]}
        header = {"name": HEADER, "in": "header", "required": False, "schema": {"type": "string"}}
        extra = {"requestBody": {"required": True, "content": body}, "parameters": [header]}
        statuses: dict[int | str, dict[str, Any]] = {200: {"content": answer}}
        statuses.update({status: {"description": why} for status, why in _REFUSALS.items()})
        app.add_api_route(
            path, endpoint, methods=["POST"], summary=about, openapi_extra=extra, responses=statuses,
            response_class=Response,
        )  # fmt: skip

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
