"""What matters of a version of Ray for the effect of a change."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rayservice_operator.serveconfig.model import Deploy, Part, fields_of, minor_version

RESTORES_SINCE: Final = (2, 60)
"""From this Ray version on, removing an override brings back the value from code. Before it the override stays."""


@dataclass(frozen=True, slots=True)
class Traits:
    """``restores_unset_config_options``: as Ray's details have it. ``unknown``: paths (of :mod:`fields`) it lacks."""

    restores_unset_config_options: bool = True
    unknown: frozenset[str] = frozenset()

    @classmethod
    def of(cls, ray_version: str | None) -> Traits:
        """Those of ``rayVersion`` (``2.54.0``); of the newest where it is unset or no version."""
        version = minor_version(ray_version)
        return NEWEST if version is None else _of(version)


NEWEST: Final = Traits()


@functools.lru_cache(maxsize=64)
def _of(version: tuple[int, int]) -> Traits:
    unknown = frozenset(path for path, since in fields_below(Deploy, "") if since > version)
    return Traits(version >= RESTORES_SINCE, unknown)


def fields_below(part: type[Part], prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each field below ``part`` with the version that it came with."""
    for name, field in fields_of(part).items():
        path, shape = f"{prefix}{name}", field.shape
        yield path, field.since
        if shape.item is not None:
            path, shape = f"{path}[]", shape.item
        if shape.part is not None:
            yield from fields_below(shape.part, f"{path}.")
