"""Which fields of two serve configs differ, in the words of the table of fields."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.serveconfig.drift import CASELESS, same_scalar
from rayservice_operator.serveconfig.fields import DEFAULTS, FIELDS, Field, subtree

ABSENT: Final = object()
"""In place of a value that is not set; ``null`` is one that is."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. ``path`` is its place in the table; ``key`` is what a person finds it by, from the start
    of the mapping that was compared (``autoscaling_config.min_replicas``). ``field``: None where Ray has no such field.
    """

    path: str
    key: str
    before: Any
    after: Any
    field: Field | None

    @property
    def whole(self) -> bool:
        """It is inside of something that Ray hashes as it is written."""
        around = FIELDS.get(self.path.rpartition(".")[0].removesuffix("[]"))
        return around is not None and around.whole

    @property
    def added(self) -> bool:
        """It was not set before."""
        return self.before is ABSENT

    @property
    def removed(self) -> bool:
        """It is not set any more."""
        return self.after is ABSENT


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "", skip: Collection[str] = ()
) -> list[Change]:
    """Fields below ``prefix`` (a path of the table with its dot) that differ, in the order of ``after``.

    skip: fields that are compared by somebody else.
    """
    return list(_walk(before, after, prefix, "", skip))


def _walk(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str, label: str, skip: Collection[str]
) -> Iterator[Change]:
    for name in (*after, *(name for name in before if name not in after)):
        if name in skip:
            continue
        path, key = f"{prefix}{name}", f"{label}{name}"
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        if _is_group(path, old, new):
            yield from _walk(_mapping(old), _mapping(new), f"{path}.", f"{key}.", ())
        elif _are_rows(path, old, new):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from _walk(one, other, f"{path}[].", f"{key}[{index}].", ())
        elif not same(path, old, new):
            yield Change(path, key, old, new, FIELDS.get(path) or _around(path))


def _around(path: str) -> Field | None:
    """In place of an unknown field the one that it is in, if that is hashed as it is written."""
    around = FIELDS.get(path.rpartition(".")[0].removesuffix("[]"))
    return around if around is not None and around.whole else None


_ALWAYS_THERE: Final = frozenset({"http_options", "grpc_options"})
"""Mappings that Ray fills with its defaults: absent or empty is the same."""


def _is_group(path: str, old: Any, new: Any) -> bool:
    """Whether the fields inside are compared one by one: adding or removing the whole may mean something of its own."""
    if not subtree(path):
        return False
    if path in _ALWAYS_THERE:
        return all(value is ABSENT or isinstance(value, Mapping) for value in (old, new))
    return isinstance(old, Mapping) and isinstance(new, Mapping)


def _are_rows(path: str, old: Any, new: Any) -> bool:
    rows = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    return rows and subtree(f"{path}[]") and all(isinstance(row, Mapping) for row in (*old, *new))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def same(path: str, old: Any, new: Any) -> bool:
    """Whether Ray sees no difference: by text where it hashes the field, else by the meaning of the value's type."""
    if old is ABSENT or new is ABSENT:
        default = DEFAULTS.get(path, ABSENT)
        old, new = (default if old is ABSENT else old), (default if new is ABSENT else new)
        if old is ABSENT or new is ABSENT:
            return old is new
    if type(old) is type(new) and isinstance(old, str | int | float) and old == new:
        return True
    if repr(old) == repr(new):  # most are; it is sooner known than from the text
        return True
    field = FIELDS.get(path)
    if field is not None and field.hashed:
        return text(old) == text(new)
    name = path.rpartition(".")[2]
    if name in CASELESS and isinstance(old, str) and isinstance(new, str):
        return old.casefold() == new.casefold()
    return text(old) == text(new) or same_scalar(old, new)


def text(value: Any) -> str:
    """The JSON text that Ray hashes: keys sorted, ``1`` is not ``1.0``."""
    return json.dumps(value, sort_keys=True)
