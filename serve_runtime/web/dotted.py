"""Python objects that arguments name: ``package.module:Class`` or ``package.module.Class``."""

from __future__ import annotations

import importlib
import re
from typing import Any

PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*$"
"""At least a module and a name in it."""


class DottedNameError(ValueError):
    """The text says what is named, where it was looked for, and what to do."""


def resolve(dotted: str, *, field: str) -> Any:
    """The object that ``dotted`` names; ``field`` is the argument that it comes from, for messages.

    Raises DottedNameError: not a dotted name, no such module, a module that fails to import, no such name in it.
    """
    if not re.match(PATTERN, dotted):
        raise DottedNameError(f"{field}: {dotted!r} is no dotted name; write package.module:Name")
    module_name, _, name = dotted.replace(":", ".").rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = (
            "put it into the image or into runtime_env.working_dir"
            if module_name == missing or module_name.startswith(f"{missing}.")
            else f"{module_name} needs it: install it in the image or by runtime_env.pip"
        )
        raise DottedNameError(f"{field}: no module named {missing!r}; {where}") from error
    except Exception as error:
        raise DottedNameError(f"{field}: importing {module_name} raised {type(error).__name__}: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        public = sorted(n for n in vars(module) if not n.startswith("_"))
        raise DottedNameError(
            f"{field}: {module_name} has no {name!r}; it has {', '.join(public) or 'nothing'}"
        ) from None


def resolve_class(dotted: str, *, field: str) -> type[Any]:
    """The class that ``dotted`` names. Raises DottedNameError, also for what is no class."""
    found = resolve(dotted, field=field)
    if not isinstance(found, type):
        raise DottedNameError(f"{field}: {dotted} is a {type(found).__name__}, no class")
    return found


def resolve_errors(dotted: list[str], *, field: str) -> tuple[type[Exception], ...]:
    """Exception classes. Raises DottedNameError with the place in the list."""
    found = []
    for index, name in enumerate(dotted):
        error = resolve_class(name, field=f"{field}[{index}]")
        if not issubclass(error, Exception):
            raise DottedNameError(f"{field}[{index}]: {name} is no exception class")
        found.append(error)
    return tuple(found)
