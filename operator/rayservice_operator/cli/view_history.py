"""The view of ``history``: the revisions of a RayService, what changed in each, and which one is in force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.cli.view import Objects, status_of
from rayservice_operator.core.objects import Manifest, metadata, name_of
from rayservice_operator.serveconfig.canonical import ServeConfigError
from rayservice_operator.service import hashing, revisions
from rayservice_operator.service.context import load_config

MAX_CHANGES: Final = 8


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs from the revision before; ``before`` and ``after`` are short texts, None for absent."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Revision:
    """``marks``: active (in force), spec (the present spec), failed, good (what a failed update goes back to)."""

    number: int
    name: str
    created: str | None
    marks: tuple[str, ...]
    image: str
    changes: tuple[Change, ...]
    more_changes: int


@dataclass(frozen=True, slots=True)
class History:
    """``revisions``: newest first."""

    namespace: str
    service: str
    revisions: tuple[Revision, ...]


def build(objects: Objects) -> History:
    """The view, from the RayService and its ControllerRevisions."""
    ordered = revisions.by_number(objects.revisions)
    found = []
    for index, revision in enumerate(ordered):
        before = ordered[index - 1]["data"]["spec"] if index else None
        changes = list(differences(before, revision["data"]["spec"])) if before is not None else []
        found.append(
            Revision(
                number=int(revision.get("revision") or 0),
                name=name_of(revision),
                created=metadata(revision).get("creationTimestamp"),
                marks=_marks(revision, objects.service),
                image=_image(revision["data"]["spec"]),
                changes=tuple(changes[:MAX_CHANGES]),
                more_changes=max(0, len(changes) - MAX_CHANGES),
            )
        )
    meta = metadata(objects.service)
    return History(str(meta.get("namespace") or ""), name_of(objects.service), tuple(reversed(found)))


def _marks(revision: Manifest, service: Manifest) -> tuple[str, ...]:
    status = status_of(service)
    spec = revision["data"]["spec"]
    config, cluster = config_hash(spec), hashing.cluster_hash(spec.get("rayClusterConfig") or {})
    failed, applied = status.failed_update, status.applied
    found = {
        "active": applied is not None and applied.revision == int(revision.get("revision") or 0),
        "spec": revisions.hash_of(revision) == present_hash(service),
        "failed": failed is not None and failed.config_hash == config and failed.cluster_hash in {"", cluster},
        "good": applied is not None and bool(applied.good_config_hash) and applied.good_config_hash == config,
    }
    return tuple(mark for mark, holds in found.items() if holds)


def present_hash(service: Manifest) -> str:
    """Hash of the present spec, empty for one that is of no use."""
    try:
        return revisions.spec_hash(service["spec"])
    except (KeyError, TypeError, AttributeError):
        return ""


def config_hash(spec: Manifest) -> str:
    """Hash of a spec's serve config; empty without one."""
    try:
        config = load_config(spec.get("serveConfigV2"))
    except ServeConfigError:
        return ""
    return config.hash if config else ""


def _image(spec: Manifest) -> str:
    head = (spec.get("rayClusterConfig") or {}).get("headGroupSpec") or {}
    containers = ((head.get("template") or {}).get("spec") or {}).get("containers") or [{}]
    return str(containers[0].get("image") or "")


def differences(before: Manifest, after: Manifest) -> Iterator[Change]:
    """Fields of two RayService specs that differ; the serve config is compared as what it means."""
    old, new = dict(before), dict(after)
    texts = old.pop("serveConfigV2", None), new.pop("serveConfigV2", None)
    if texts[0] != texts[1]:
        documents = [_document(text) for text in texts]
        inside = list(_walk(documents[0], documents[1], "serveConfigV2")) if all(documents) else []
        yield from inside or [Change("serveConfigV2", None if texts[0] is None else "…", "(another text)")]
    yield from _walk(old, new, "")


def _document(text: str | None) -> Manifest | None:
    try:
        config = load_config(text)
    except ServeConfigError:
        return None
    return dict(config.parsed.document) if config else None


def _walk(before: Any, after: Any, path: str) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from _walk(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return
    if isinstance(before, list | None) and isinstance(after, list | None):
        old, new = before or [], after or []
        named = _by_name(old), _by_name(new)
        if len(named[0]) == len(old) and len(named[1]) == len(new):
            for key in dict.fromkeys((*named[0], *named[1])):
                yield from _walk(named[0].get(key), named[1].get(key), f"{path}[{key}]")
            return
        if len(old) == len(new):
            for index, pair in enumerate(zip(old, new, strict=True)):
                yield from _walk(*pair, f"{path}[{index}]")
            return
    yield Change(path, _short(before), _short(after))


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Items by what names them, if each has a name of its own; else empty."""
    for key in ("name", "groupName"):
        found = {str(i[key]): i for i in items if isinstance(i, dict) and key in i}
        if len(found) == len(items):
            return found
    return {}


def _short(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        if value.keys() == {"name", "value"}:  # as in env
            return _short(value["value"])
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return f"[{len(value)} items]"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
