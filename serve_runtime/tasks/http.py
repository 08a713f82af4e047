"""Routes and their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from starlette.requests import Request
from starlette.responses import Response

from serve_runtime.errors import BadInput
from serve_runtime.tasks.handlers import Contract
from serve_runtime.web import answers

_ROUTES: Final = (
    ("POST", "/tasks/{handler}", "submit", "Submit a task"),
    ("POST", "/batches/{handler}", "submit_many", "Submit many tasks"),
    ("GET", "/tasks/{task_id}", "status", "How a task is"),
    ("GET", "/tasks/{task_id}/result", "result", "What a task resulted in"),
    ("POST", "/tasks/{task_id}/cancel", "cancel", "Cancel a task"),
    ("GET", "/dead-letters", "dead_letters", "Tasks that failed, or that cannot be processed"),
    ("POST", "/dead-letters/{task_id}/requeue", "requeue", "Try a dead letter again"),
    ("DELETE", "/dead-letters/{task_id}", "drop", "Delete a dead letter"),
    ("GET", "/queue", "queue", "How many tasks are in each state"),
)
_STATUSES: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "No such task or handler"},
    409: {"description": "The task's state does not allow it, or the task has failed"},
    410: {"description": "The task was cancelled"},
    422: {"description": "Not what the handler takes"},
    503: {"description": "Not now: broker away or queue full; Retry-After says when"},
}


def build(service: Any, contracts: Mapping[str, Contract]) -> FastAPI:
    """The web application of a service that has a method for each route."""
    handlers = "\n".join(f"- `{name}`: {_about(contract)}" for name, contract in sorted(contracts.items()))
    app = FastAPI(title="Tasks", description=f"Handlers:\n{handlers}")

    async def misread(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        details = [{"at": list(each["loc"]), "message": each["msg"]} for each in error.errors()]
        first = f"{details[0]['at'][-1]}: {details[0]['message']}"
        return answers.refusal(BadInput(first, details=details), request)

    answers.refusals_are_answers(app)
    app.add_exception_handler(RequestValidationError, misread)
    for method, path, name, about in _ROUTES:
        app.add_api_route(
            path, getattr(service, name), methods=[method], summary=about, response_class=Response,
            responses=_STATUSES, status_code=204 if method == "DELETE" else 200,
        )  # fmt: skip
    schemas = {f"input of {name}": _schema(contract.item) for name, contract in contracts.items()}
    app.openapi().setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    return app


def _about(contract: Contract) -> str:
    return (getattr(contract.found, "__doc__", None) or "").strip().partition("\n")[0]


def _schema(item: Any) -> dict[str, Any]:
    """Empty, which allows everything, where the type has none."""
    try:
        return {} if item is Any else TypeAdapter(item).json_schema()
    except PydanticUserError:
        return {}
