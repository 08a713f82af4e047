"""What all parts of the schema share: when a field came, what replaced it, and rules between fields.

The models describe Ray Serve's ``ServeDeploySchema`` as of Ray 2.60, compared field by field with each minor version
from 2.46 on. A field without :class:`Since` is in all of those.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Strict

Version = tuple[int, int]
"""Major and minor version of Ray; schemas do not change in patch releases."""

NEWEST: Final[Version] = (2, 60)
"""The version that the models describe, and what an unknown version is taken for."""

STRICT_TYPES_SINCE: Final[Version] = (2, 55)
"""From here on Ray uses pydantic 2, which no longer turns numbers into text, nor fractions into whole numbers."""


def minor_version(text: str | None) -> Version | None:
    """``2.54.1`` or ``2.54.0.dev0`` as a version; None for anything that does not start like one."""
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?!\d)", text or "")
    return (int(found[1]), int(found[2])) if found else None


def version_text(version: Version) -> str:
    """As people write it."""
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True, slots=True)
class Since:
    """The field is there from this version of Ray on; older ones do not know it."""

    major: int
    minor: int

    @property
    def version(self) -> Version:
        return (self.major, self.minor)


@dataclass(frozen=True, slots=True)
class Deprecated:
    """The field still works, but is to go: what to write in its place, as a sentence."""

    instead: str


@dataclass(frozen=True, slots=True)
class FormerlyWhole:
    """Before Ray 2.55 numbers, and text that is one, became whole numbers here."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that Ray refuses although each field by itself is right. ``path`` starts at the model."""

    path: tuple[str | int, ...]
    problem: str
    fix: str
    severity: Literal["error", "warning"] = "error"
    since: Version = (0, 0)
    until: Version | None = None
    """Last version in which it is refused."""


class Part(BaseModel):
    """A mapping of the serve config. Types and bounds are Ray's own, so that pydantic converts as Ray does."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)

    LABEL: ClassVar[str]
    """How messages call it, for example ``a deployment``."""

    STRICT_SINCE: ClassVar[Version | None] = None
    """Since when Ray refuses keys that it does not know here; None where it ignores them."""

    VERBATIM: ClassVar[bool] = False
    """Whether Ray takes its fields as they are, in any version, instead of letting pydantic convert them."""

    MOVED: ClassVar[Mapping[str, str]] = {}
    """Keys that people write here although Ray has them elsewhere or no more: what to do, as a sentence."""

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: it cannot change. Pydantic copies defaults for every part it reads, half of all the time else."""
        return self

    @classmethod
    def plain_faults(cls, value: Mapping[str, Any]) -> Iterator[Fault]:  # noqa: ARG003
        """What is wrong whatever else is: ``value`` is the mapping as written, nothing of it is sure."""
        return iter(())

    def faults(self) -> Iterator[Fault]:
        """What is wrong between its fields; they are all right by themselves."""
        return iter(())


# -- the shape of the models, for walking through documents ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be: a part, a list, a mapping with any keys, or a scalar (``int``, ``float``, ``str``, …).

    Nothing of it is set for values that are the user's own.
    """

    part: type[Part] | None = None
    item: Shape | None = None
    value: Shape | None = None
    scalar: type | None = None
    strict: bool = False
    """Ray converts nothing here."""
    formerly_whole: bool = False
    """See :class:`FormerlyWhole`."""


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A field of a part."""

    name: str
    shape: Shape
    since: Version = (0, 0)
    deprecated: str | None = None


_ANY: Final = Shape()


@functools.cache
def fields_of(part: type[Part]) -> Mapping[str, FieldShape]:
    """The fields of a part by the name they have in the config."""
    return {name: _field_shape(name, info) for name, info in part.model_fields.items()}


def _field_shape(name: str, info: Any) -> FieldShape:
    since: Version = (0, 0)
    deprecated = None
    for item in info.metadata:
        if isinstance(item, Since):
            since = item.version
        elif isinstance(item, Deprecated):
            deprecated = item.instead
    shape = _shape(info.annotation)
    if any(isinstance(item, Strict) and item.strict for item in info.metadata):
        shape = replace(shape, strict=True)
    if any(isinstance(item, FormerlyWhole) for item in info.metadata):
        shape = replace(shape, formerly_whole=True)
    return FieldShape(name, shape, since, deprecated)


def _shape(annotation: Any) -> Shape:
    if typing.get_origin(annotation) is typing.Annotated:
        return _shape(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        choices = [choice for choice in typing.get_args(annotation) if choice is not types.NoneType]
        return _shape(choices[0]) if len(choices) == 1 else _ANY
    if typing.get_origin(annotation) is list:
        return Shape(item=_shape(typing.get_args(annotation)[0]))
    if typing.get_origin(annotation) is dict:
        return Shape(value=_shape(typing.get_args(annotation)[1]))
    if isinstance(annotation, type):
        if issubclass(annotation, Part):
            return Shape(part=annotation)
        if annotation in (int, float, str, bool):
            return Shape(scalar=annotation)
    return _ANY
