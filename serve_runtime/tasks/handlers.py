"""Handlers: functions of one argument, or classes with ``predict(item)``; plain or async."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from serve_runtime.tasks.args import Handler
from serve_runtime.web.bodies import Kind, Reader
from serve_runtime.web.dotted import resolve


class HandlerError(ValueError):
    """A handler and its arguments do not fit together; the text names the argument and says what to change."""


@dataclass(frozen=True, slots=True)
class Contract:
    """found: the function or the class. item: type of what it takes, Any where it says none."""

    name: str
    found: Any
    init: dict[str, Any]
    item: Any

    def reader(self, accepts: list[Kind] | None) -> Reader:
        """Reads what is submitted."""
        return Reader(accepts or (["bytes"] if self.item is bytes else ["json", "form"]), self.item)

    def make(self) -> Callable[[Any], Any]:
        """What is called with an item. Raises what a class's constructor raises."""
        if not isinstance(self.found, type):
            return typing.cast("Callable[[Any], Any]", self.found)
        return typing.cast("Callable[[Any], Any]", self.found(**self.init).predict)


def contracts(handlers: Mapping[str, Handler]) -> dict[str, Contract]:
    """Of each handler by name. Raises DottedNameError and HandlerError."""
    return {name: _contract(name, handler) for name, handler in handlers.items()}


def _contract(name: str, handler: Handler) -> Contract:
    where = f"handlers.{name}"
    found = resolve(handler.use, field=f"{where}.use")
    is_class = isinstance(found, type)
    called = getattr(found, "predict", None) if is_class else found
    if not callable(called):
        raise HandlerError(f"{where}.use: {handler.use} is no function, and no class with predict(item)")
    try:
        inspect.signature(called).bind(*((None, None) if is_class else (None,)))
        if is_class:
            inspect.signature(found).bind(**handler.init)
    except TypeError as error:
        field = f"{where}.init" if is_class and "predict" not in str(error) else f"{where}.use"
        raise HandlerError(f"{field}: {handler.use} takes something else: {error}") from None
    except ValueError:
        pass  # built-in code has no signature to look at
    if handler.init and not is_class:
        raise HandlerError(f"{where}.init: {handler.use} is a function; only a class is constructed")
    return Contract(name, found, dict(handler.init), _item(called))


def _item(called: Any) -> Any:
    """The annotation of the item, if it is a type that can be checked."""
    try:
        hints = typing.get_type_hints(called)
        names = [each for each in inspect.signature(called).parameters if each != "self"]
        item = hints.get(names[0], Any)
        TypeAdapter(item)
    except (PydanticUserError, TypeError, NameError, ValueError, IndexError, AttributeError):
        return Any
    return item
