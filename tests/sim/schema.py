"""What the API server fills in, drops and refuses: from our CRDs' own schemas, and by hand for built-in kinds.

Only what decisions can notice: structural defaults, pruning, types, enums and bounds of the CRDs; the defaults of
Services and Pods; fields that never change. CEL rules are left to ``tests/api``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rayservice_operator.core.objects import Manifest, metadata

CRDS = Path(__file__).parents[2] / "crds"

STATUS_KINDS = frozenset(
    {
        "RayService",
        "RayCluster",
        "Pod",
        "Service",
        "Job",
        "Ingress",
        "PodDisruptionBudget",
        "PersistentVolumeClaim",
        "Gateway",
        "HTTPRoute",
    }
)
"""Kinds with a status subresource: a write to the object leaves ``status`` alone."""

GENERATION_KINDS = frozenset(
    {
        "RayService",
        "RayCluster",
        "Pod",
        "Job",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "EndpointSlice",
        "Gateway",
        "HTTPRoute",
    }
)
"""Kinds whose ``metadata.generation`` counts changes of what they ask for."""


def clone(value: Any) -> Any:
    """A deep copy of JSON."""
    if isinstance(value, dict):
        return {key: clone(inner) if isinstance(inner, (dict, list)) else inner for key, inner in value.items()}
    if isinstance(value, list):
        return [clone(inner) if isinstance(inner, (dict, list)) else inner for inner in value]
    return value


def admit(obj: Manifest, old: Manifest | None) -> list[str]:
    """Fill in and prune ``obj`` in place; the problems for which it is refused."""
    schema = crd_schema(obj["kind"])
    if schema is not None:
        _walk(obj, schema)
        return list(_problems(obj, schema, ""))
    if obj["kind"] in BUILTIN:
        BUILTIN[obj["kind"]](obj, old)
    return list(_immutable(obj, old))


def admit_status(obj: Manifest) -> list[str]:
    """The same for a write to the status subresource, where only ``status`` is new."""
    schema = crd_schema(obj["kind"])
    if schema is None or "status" not in obj:
        return []
    known = schema["properties"]["status"]
    _walk(obj["status"], known, top=False)
    return list(_problems(obj["status"], known, "status"))


@functools.cache
def crd_schema(kind: str) -> Mapping[str, Any] | None:
    """The structural schema of one of our kinds, None for a built-in one."""
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        return None
    crd = yaml.safe_load(path.read_text())
    (version,) = (v for v in crd["spec"]["versions"] if v["storage"])
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _walk(value: Any, schema: Mapping[str, Any], top: bool = True) -> None:
    """Defaults first, then unknown fields go; nothing is looked at below an open object."""
    if isinstance(value, dict):
        known: Mapping[str, Any] = schema.get("properties") or {}
        for key, inner in known.items():
            if "default" in inner and value.get(key) is None:
                value[key] = clone(inner["default"])
        keep = schema.get("x-kubernetes-preserve-unknown-fields")
        extra = schema.get("additionalProperties")
        for key in list(value):
            if top and key in ("apiVersion", "kind", "metadata"):
                continue
            if key in known:
                _walk(value[key], known[key], top=False)
            elif isinstance(extra, dict):
                _walk(value[key], extra, top=False)
            elif not keep and not extra:
                del value[key]
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            _walk(item, schema["items"], top=False)


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def _problems(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    wanted = schema.get("type")
    if wanted and not (isinstance(value, _TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))):
        if not (value is None and schema.get("nullable")) and not schema.get("x-kubernetes-int-or-string"):
            yield f"{path}: Invalid value: must be of type {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value: {value!r}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: Invalid value: should be greater than or equal to {schema['minimum']}"
    if isinstance(value, dict):
        for key in schema.get("required") or ():
            if key not in value:
                yield f"{path}.{key}: Required value"
        for key, inner in (schema.get("properties") or {}).items():
            if key in value and not (path == "" and key == "metadata"):
                yield from _problems(value[key], inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _problems(item, schema["items"], f"{path}[{index}]")


def _service(obj: Manifest, old: Manifest | None) -> None:
    spec = obj.setdefault("spec", {})
    before = (old or {}).get("spec") or {}
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    address = before.get("clusterIP") or f"10.96.0.{_last_octet(obj)}"
    spec.setdefault("clusterIP", address)
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    obj.setdefault("status", {"loadBalancer": {}})


def _pod(obj: Manifest, old: Manifest | None) -> None:
    spec = obj["spec"]
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": "Burstable"}


BUILTIN = {"Service": _service, "Pod": _pod}


def _last_octet(obj: Manifest) -> int:
    return sum(map(ord, str(metadata(obj).get("name")))) % 250 + 1


_FIXED: Mapping[str, tuple[str, ...]] = {
    "ControllerRevision": ("data",),
    "Service": ("spec.clusterIP",),
    "RoleBinding": ("roleRef",),
}


def _immutable(obj: Manifest, old: Manifest | None) -> Iterator[str]:
    if old is None:
        return
    for path in _FIXED.get(obj["kind"], ()):
        before, after = _at(old, path), _at(obj, path)
        if before != after:
            yield f"{path}: Invalid value: field is immutable"


def _at(obj: Any, path: str) -> Any:
    for key in path.split("."):
        obj = (obj or {}).get(key)
    return obj
