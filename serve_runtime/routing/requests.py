"""What routers read from a request: a key to stick to, and the text of its prompt. No Ray needed.

At the HTTP proxy a request's argument is a pickled ASGI scope without the body; so headers can be read there, prompts
cannot. Behind an ingress deployment the argument is what the handle was called with.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def header(arguments: Sequence[Any], name: str, *, from_proxy: bool) -> str | None:
    """A request header, or None: of the ASGI scope that the proxy made, or of an argument with ``headers``.

    Bytes are unpickled only when ``from_proxy`` says that Ray's own proxy, in this process, pickled them.
    """
    for argument in arguments:
        if from_proxy and isinstance(argument, bytes):
            scope = getattr(pickle.loads(argument), "asgi_scope", None) or {}
            wanted = name.lower().encode("latin-1")
            for key, value in scope.get("headers", ()):
                if key.lower() == wanted:
                    return str(value.decode("latin-1")) or None
        headers = getattr(argument, "headers", None)
        if isinstance(headers, Mapping):
            for key, value in headers.items():
                if str(key).lower() == name.lower():
                    return str(value) or None
    return None


def prompt(arguments: Iterable[Any]) -> str | None:
    """The text of the first argument that has ``messages`` or ``prompt``, as attribute or key; None without one.

    Roles are part of it, since they are part of what a model is given; images and tool calls are not.
    """
    for argument in arguments:
        for name in ("messages", "prompt"):
            found = _get(argument, name)
            if isinstance(found, str | list | tuple) and (text := "".join(_texts(found))):
                return text
    return None


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        role, text = _get(value, "role"), _get(value, "text")
        if isinstance(role, str):
            yield f"<{role}>"
        yield from _texts(text if isinstance(text, str) else _get(value, "content"))


def _get(value: Any, name: str) -> Any:
    """An attribute, or a value of a mapping; None without it."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
