"""Rules of single values that are no matter of type or bounds: import paths, routes, URIs, labels, names of things."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

BAD_VALUE: Final = "bad_value"
"""The type of an error whose message and fix are ours; ``ctx`` has ``problem`` and ``fix``."""

Complaint = tuple[str, str]
"""What is wrong with a value, and what to do."""


def refuse(problem: str, fix: str) -> PydanticCustomError:
    """For a validator to raise."""
    return PydanticCustomError(BAD_VALUE, "{problem}. {fix}", {"problem": problem, "fix": fix})


def shown(value: Any) -> str:
    """A value as a message names it, short."""
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= 60 else f"{text[:60]}…"
    return f"{text!r}" if isinstance(value, str) else _NAMES.get(text, text)


_NAMES: Final = {"None": "null", "True": "true", "False": "false"}


def _not_null(value: Any) -> Any:
    if value is None:
        raise refuse("is null, which Ray refuses here", "Leave it out to have what the code says")
    return value


NOT_NULL: Final = BeforeValidator(_not_null)
"""For a field that may be absent (None in the model) but not null."""

# -- names of code ---------------------------------------------------------------------------------------------------

# package.module:attribute, or with a dot in place of the colon.
_IMPORT_PATH: Final = re.compile(r"[^\s:]+:[^\s:]+|[^\s:]+\.[^\s:.]+")


def import_path_complaint(value: object) -> Complaint | None:
    """None for what Ray can split into a module and a name in it."""
    if isinstance(value, str) and _IMPORT_PATH.fullmatch(value) and not value.startswith("."):
        return None
    return f"{value!r} is no import path", "Write module:application, for example my_package.app:app"


def code_path(what: str, example: str) -> Callable[[str], str]:
    """A validator of a field that names a function or class."""

    def validate(value: str) -> str:
        if not _IMPORT_PATH.fullmatch(value) or value.startswith("."):
            raise refuse(f"{shown(value)} does not name {what}", f"Write {example}")
        return value

    return validate


# -- routes ----------------------------------------------------------------------------------------------------------


def route_prefix_complaint(prefix: object) -> Complaint | None:
    """None for null, which is an application that only others call, and for a prefix that Ray takes."""
    if prefix is None:
        return None
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        return f"{prefix!r} does not start with a slash", "Write for example /app"
    if len(prefix) > 1 and prefix.endswith("/"):
        return f"{prefix!r} ends with a slash", f"Write {prefix.rstrip('/') or '/'}"
    if "{" in prefix or "}" in prefix:
        return f"{prefix!r} has a wildcard", "Write a fixed prefix; route further in the application"
    return None


# -- URIs of runtime environments ------------------------------------------------------------------------------------

_REMOTE: Final = ("http", "https", "s3", "gs", "azure", "abfss", "file")
_OTHER_SCHEMES: Final = ("gcs", "conda", "pip", "uv")
_LOCAL: Final = "local"

_ARCHIVES: Final = (".zip", ".whl", ".jar", ".tar.gz", ".tgz", ".tar")


def uri_complaint(value: str) -> Complaint | None:
    """None for a URI that names a package which every node can fetch, or with ``local://`` a directory in the image."""
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        return f"{shown(value)} is no URI", _URI_FIX
    if not scheme:
        return f"{shown(value)} is a local path, which other nodes do not have", _URI_FIX
    if scheme == _LOCAL:
        return _local_complaint(value)
    if scheme not in _REMOTE and scheme not in _OTHER_SCHEMES:
        return f"{shown(value)} has the scheme {scheme!r}, which Ray does not know", _URI_FIX
    return None


_URI_FIX: Final = f"Write the URI of an archive ({'://, '.join(_REMOTE)}://), or put the code into the image"


def is_archive_uri(value: str) -> bool:
    """Whether a URI, which :func:`uri_complaint` has nothing against, has to name an archive."""
    return urlsplit(value).scheme in _REMOTE


def _local_complaint(value: str) -> Complaint | None:
    path = value[len("local://") :]
    if value[:8].lower() != "local://" or not (path.startswith("/") or re.match(r"[a-zA-Z]:[\\/]", path)):
        return f"{shown(value)} names no absolute path", "Write local:///path/in/the/image"
    if path.endswith(_ARCHIVES):
        return f"{shown(value)} names an archive", "Name a directory; local:// is used in place and never unpacked"
    return None


# -- labels ----------------------------------------------------------------------------------------------------------

_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
# Labels and dots as in Ray's expression, which takes hours for some texts of 250 characters; this one is linear.
_LABEL_PREFIX: Final = re.compile(r"(?:[a-zA-Z0-9.](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9.])?)?")
_LABEL_NAME: Final = re.compile(_LABEL)
_SELECTOR: Final = re.compile(rf"!?(?:in)?\({_LABEL}(?:, ?{_LABEL})*\)|!?{_LABEL}")


def label_complaints(selector: Mapping[str, str]) -> Iterator[tuple[str, Complaint]]:
    """Keys of a label selector that are wrong, or have a wrong value."""
    for key, value in selector.items():
        prefix, slash, name = key.rpartition("/")
        if (slash and (len(prefix) > 253 or not _LABEL_PREFIX.fullmatch(prefix))) or not _LABEL_NAME.fullmatch(name):
            yield (
                key,
                (f"{shown(key)} is no label", "Write a label key as Kubernetes has them, for example ray.io/zone"),
            )
        elif value and not _SELECTOR.fullmatch(value):
            yield key, (f"{shown(value)} is no label selector", "Write a value, !value, in(a, b) or !in(a, b)")
