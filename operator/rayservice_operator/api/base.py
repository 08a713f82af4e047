"""What every model of the API shares: aliases, leniency, and the field types that a CRD schema knows.

The models are lenient where Kubernetes is: unknown keys are ignored (a newer KubeRay may have written them), an
explicit ``null`` is the same as an absent key, and scalars are converted where no meaning is lost. Only shapes are
checked here; rules are in ``api.validation``.

Docstrings of attributes become descriptions in the CRDs, so they are written for the person at ``kubectl explain``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

MAX_REPLICAS: Final = 2147483647
"""KubeRay's default of ``maxReplicas``: no bound."""

DEFAULT_KEY: Final = "x-default"
"""Schema key of a default that is written into CRDs of kinds whose defaults the Ray autoscaler needs."""

NULLABLE: Final[dict[str, Any]] = {"nullable": True}
"""Schema of a field that takes null because KubeRay's CRDs have a default for it: the API server refuses null in a
field without a default, and writes the default where there is one."""


class ApiModel(BaseModel):
    """Base of all models: frozen, camelCase on the wire, unknown keys ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


def _scalar_to_str(value: Any) -> Any:
    """``true`` -> "true", 4 -> "4"; anything that is no scalar is left for pydantic to refuse."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _string_map(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scalar_to_str(item) for key, item in value.items() if item is not None}
    return value


def _open_list(value: Any) -> Any:
    return [item for item in value if item is not None] if isinstance(value, list) else value


_OPEN: Final[dict[str, Any]] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

OpenObject: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(_OPEN)]
"""An object whose shape belongs to Kubernetes itself (pod template, Service …): kept as it is."""

OpenList: TypeAlias = Annotated[
    list[dict[str, Any]], BeforeValidator(_open_list), WithJsonSchema({"type": "array", "items": _OPEN})
]
"""A list of such objects (env, volume mounts …)."""

StringMap: TypeAlias = Annotated[
    dict[str, str],
    BeforeValidator(_string_map),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]
"""Strings to strings. Numbers and booleans are converted when a manifest is read from a file; the CRD takes strings
only, because typed clients of KubeRay's Go types (Kueue, ``kubectl ray``) cannot read anything else."""

StringList: TypeAlias = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string"}})]

Int32: TypeAlias = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Int64: TypeAlias = Annotated[int, Field(json_schema_extra={"format": "int64"})]

Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC. Kept as text: the core converts with ``core.timestamps``."""

Quantity: TypeAlias = Annotated[
    str, BeforeValidator(_scalar_to_str), WithJsonSchema({"x-kubernetes-int-or-string": True})
]
"""A Kubernetes quantity (``500m``, ``4Gi``, 2), as text."""


def cel(rule: str, message: str, **more: Any) -> dict[str, Any]:
    """One ``x-kubernetes-validations`` entry; ``more`` are further keys (``fieldPath``, ``reason``)."""
    return {"rule": rule, "message": message, **more}


def rules(*entries: dict[str, Any]) -> dict[str, Any]:
    """Schema extra that carries CEL rules."""
    return {"x-kubernetes-validations": list(entries)}
