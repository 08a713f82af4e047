"""From pydantic's JSON schema to the structural OpenAPI v3 schema that a CRD takes."""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api.base import DEFAULT_KEY, NULLABLE, ApiModel

Schema = dict[str, Any]

# Keys of JSON schema that a structural schema does not know, or that say nothing to a reader of the CRD.
_DROPPED: Final = frozenset({"title", "default", "$defs", DEFAULT_KEY})


def structural(model: type[ApiModel], *, defaults: bool) -> Schema:
    """The schema of ``model`` without references, titles and null types.

    ``defaults``: whether the defaults marked with ``DEFAULT_KEY`` are written. They are for RayCluster only: the Ray
    autoscaler's JSON patches need the fields to be there, whereas defaults in a RayService, which users keep in Git,
    would show as drift. There such a field takes null instead, as it does where null stands for the default.
    """
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), defaults)


def _convert(node: Schema, defs: dict[str, Schema], defaults: bool) -> Schema:
    node = _resolve(node, defs)
    result: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if DEFAULT_KEY in node:
        result |= {"default": node[DEFAULT_KEY]} if defaults else NULLABLE
    if "description" in result:
        result["description"] = " ".join(str(result["description"]).split())
    if "properties" in result:
        result["properties"] = {key: _convert(value, defs, defaults) for key, value in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _convert(result[key], defs, defaults)
    return result


def _resolve(node: Schema, defs: dict[str, Schema]) -> Schema:
    """``node`` with ``$ref`` and ``anyOf: [X, null]`` written out; what stands beside them wins."""
    while True:
        if "$ref" in node:
            inner = defs[str(node["$ref"]).rpartition("/")[2]]
            own = {key: value for key, value in node.items() if key != "$ref"}
        elif "anyOf" in node:
            (inner,) = (option for option in node["anyOf"] if option != {"type": "null"})
            own = {key: value for key, value in node.items() if key != "anyOf"}
        else:
            return node
        node = {**inner, **own}
