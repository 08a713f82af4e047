"""What a predictor class offers, found by looking at it: no base class is asked for.

| method | is called |
|---|---|
| ``__init__(**init)`` | once for each model; with many models of free names it gets ``model_id`` |
| ``predict(item)`` | for one request |
| ``predict_batch(items) -> list`` | for several; a result for each, or an exception for that one alone |
| ``stream(item)`` | for one request; yields the parts of the answer |
| ``reconfigure(config)`` | at start and when ``user_config.predictor`` changes |
| ``check_health()`` | every ``health_check_period_s``; raises where it is ill |
| ``close()`` | when the model is unloaded or the replica ends |

Each but ``close`` may be async. Those that are not run in threads, so that they hold nothing else up.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from serve_runtime.predictor.args import PredictorArgs
from serve_runtime.web.bodies import Kind


class ContractError(ValueError):
    """A class or its arguments do not fit together; the text names the argument and says what to change."""


@dataclass(frozen=True, slots=True)
class Contract:
    """cls: the class. one, batch, stream: whether it has these methods. item: type of what they take, Any where it
    says none. result: type of one result. accepts: kinds of bodies.
    """

    cls: type[Any]
    one: bool
    batch: bool
    stream: bool
    item: Any
    result: Any
    accepts: tuple[Kind, ...]

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON schemas of an item and of a result; empty, which allows everything, where the type has none."""
        return _schema(self.item, "validation"), _schema(self.result, "serialization")


def of(cls: type[Any], args: PredictorArgs) -> Contract:
    """The contract of ``cls`` under these arguments. Raises ContractError."""
    name = args.predictor
    one, batch, stream = (_method(cls, each, name) for each in ("predict", "predict_batch", "stream"))
    if not (one or batch or stream):
        raise ContractError(f"predictor: {name} has none of predict(item), predict_batch(items), stream(item)")
    if args.batching and not batch:
        raise ContractError(f"batching: {name} has no predict_batch(items); add it, or leave `batching` out")
    if inspect.iscoroutinefunction(getattr(cls, "close", None)):
        raise ContractError(f"predictor: {name}.close must not be async: it is called where no event loop is")
    item, result = _types(one, batch, stream)
    accepts: tuple[Kind, ...] = tuple(args.accepts or (("bytes",) if item is bytes else ("json", "form")))
    if item is not Any and item is not bytes and "bytes" in accepts:
        raise ContractError(f"accepts: bytes reach {name} as they are, but it takes {item!r}")
    for model, extra in (args.models.known if args.models else {"": {}}).items():
        _check_constructor(cls, args, model, extra)
    return Contract(cls, one is not None, batch is not None, stream is not None, item, result, accepts)


def constructor_arguments(args: PredictorArgs, model: str) -> dict[str, Any]:
    """What the instance for ``model`` is constructed with; ``model`` is empty where there is only one."""
    if args.models is None:
        return dict(args.init)
    named = {"model_id": model} if args.models.any else {}
    return {**args.init, **named, **args.models.known.get(model, {})}


def _method(cls: type[Any], method: str, name: str) -> Callable[..., Any] | None:
    found = inspect.getattr_static(cls, method, None)
    if found is None:
        return None
    bound = getattr(cls, method)
    if not callable(bound):
        raise ContractError(f"predictor: {name}.{method} is no method")
    if isinstance(found, staticmethod | classmethod):
        raise ContractError(f"predictor: {name}.{method} must be a plain method, with self")
    try:
        inspect.signature(bound).bind(None, None)
    except TypeError:
        raise ContractError(f"predictor: {name}.{method} must take one argument besides self") from None
    except ValueError:
        pass  # built-in code has no signature to look at
    return typing.cast("Callable[..., Any]", bound)


def _check_constructor(cls: type[Any], args: PredictorArgs, model: str, extra: dict[str, Any]) -> None:
    where = f"models.known.{model}" if extra else "init"
    try:
        signature = inspect.signature(cls)
    except ValueError:
        return
    try:
        signature.bind(**constructor_arguments(args, model))
    except TypeError as error:
        raise ContractError(f"{where}: {args.predictor}{signature} cannot be constructed: {error}") from None


def _types(one: Any, batch: Any, stream: Any) -> tuple[Any, Any]:
    """Types of an item and of a result, as the annotations of the first method that has any say."""
    for method, listed in ((one, False), (batch, True), (stream, False)):
        if method is None:
            continue
        try:
            hints = typing.get_type_hints(method)
        except Exception:  # an annotation may be any expression, and need what is only there for type checkers
            continue
        names = [n for n in inspect.signature(method).parameters if n != "self"]
        item, result = hints.get(names[0], Any) if names else Any, hints.get("return", Any)
        if listed:
            item, result = _element(item), _element(result)
        if method is stream:
            result = Any
        if item is Any and result is Any:
            continue
        usable = item is bytes or _schema_of(item) is not None
        return (item if usable else Any), (result if _schema_of(result) is not None else Any)
    return Any, Any


def _element(annotation: Any) -> Any:
    """The X of ``list[X]`` and other sequences; Any for everything else, arrays for example."""
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    is_sequence = isinstance(origin, type) and issubclass(origin, Sequence) and len(parameters) in {1, 2}
    return parameters[0] if is_sequence else Any


def _schema_of(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError, NameError):
        return None


def _schema(annotation: Any, mode: typing.Literal["validation", "serialization"]) -> dict[str, Any]:
    adapter = _schema_of(annotation)
    if adapter is None or annotation is Any:
        return {}
    try:
        return adapter.json_schema(mode=mode, ref_template="#/components/schemas/{model}")
    except PydanticUserError:
        return {}
