"""Addresses of brokers and stores: checked, with secrets filled in where they are used and nowhere before."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

STORES: Final = ("redis", "rediss", "unix")
BROKERS: Final = (*STORES, "amqp", "amqps")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_]\w*)\}")


class AddressError(ValueError):
    """The text names the argument and says what to change; it never has the address, which may hold a password."""


class MissingExtraError(ImportError):
    """A library is not installed; the text says which extra has it."""


def need_extra() -> None:
    """Raises MissingExtraError where Celery or the Redis client is missing."""
    missing = [name for name in ("celery", "redis") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"serve_runtime.tasks needs {' and '.join(missing)}: install rayservice-operator[tasks] in the image"
        )


def check(address: str, *, field: str, schemes: tuple[str, ...]) -> str:
    """The address as it is. Raises AddressError for a scheme that is not among these, and for no host."""
    # A variable may stand for any part, also for the whole.
    if _VARIABLE.match(address):
        return address
    parts = urlsplit(_VARIABLE.sub("x", address))
    if parts.scheme not in schemes:
        raise AddressError(f"{field}: begins with {parts.scheme or 'no scheme'!r}; write one of {', '.join(schemes)}")
    if parts.scheme != "unix" and not parts.netloc.rpartition("@")[2]:
        raise AddressError(f"{field}: names no host; write {parts.scheme}://host:port/…")
    return address


def expand(address: str, *, field: str, schemes: tuple[str, ...], variables: Mapping[str, str] = os.environ) -> str:
    """The address with each ``${NAME}`` replaced by that environment variable. Raises AddressError."""
    missing = [name for name in _VARIABLE.findall(address) if name not in variables]
    if missing:
        raise AddressError(
            f"{field}: environment variable {missing[0]} is not set here; set it in the pods, the head's too"
        )
    return check(_VARIABLE.sub(lambda found: variables[found[1]], address), field=field, schemes=schemes)
