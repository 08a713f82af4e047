"""The view of ``plan``: what differs between a manifest and the live object, and what applying it does."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Final

import yaml

from rayservice_operator.cli import merge
from rayservice_operator.cli.human import line
from rayservice_operator.core.objects import Manifest, annotations_of, labels_of, metadata, name_of
from rayservice_operator.service.preview import Live, preview

CONTEXT_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """``exists``: whether there is such an object. ``changes``: whether apply writes anything. ``diff``: unified.

    ``refused``: what the API server says against it; empty when it would take it. ``unasked``: why it was not asked.
    ``does``: sentences, the most important first; ``preview``: the same for programs (``service.preview``).
    """

    namespace: str
    name: str
    exists: bool
    changes: bool
    diff: tuple[str, ...]
    does: tuple[str, ...]
    preview: dict[str, Any]
    refused: tuple[str, ...] = ()
    unasked: str = ""


def build(
    live: Manifest | None,
    after: Manifest,
    seen: Live,
    *,
    refused: tuple[str, ...] = (),
    unasked: str = "",
) -> Plan:
    """The view. ``after``: the object as it will be (``merge.applied``, or the API server's answer)."""
    told = preview(live, after, live=seen)
    diff = difference(live, after)
    return Plan(
        namespace=str(metadata(after).get("namespace") or ""),
        name=name_of(after),
        exists=live is not None,
        changes=bool(diff),
        diff=tuple(diff),
        does=tuple(line(sentence) for sentence in told.lines()),
        preview=told.as_dict(),
        refused=refused,
        unasked=unasked,
    )


def difference(live: Manifest | None, after: Manifest) -> list[str]:
    """A unified diff of what people write: labels, annotations, spec. Keys are sorted on both sides."""
    before_text = "" if live is None else _text(live)
    name = f"{name_of(after)}.yaml"
    found = difflib.unified_diff(
        before_text.splitlines(),
        _text(after).splitlines(),
        f"live/{name}",
        f"file/{name}",
        lineterm="",
        n=CONTEXT_LINES,
    )
    return list(found)


def _text(obj: Manifest) -> str:
    annotations = {k: v for k, v in annotations_of(obj).items() if k != merge.LAST_APPLIED}
    meta = {"annotations": annotations, "labels": dict(labels_of(obj))}
    shown: dict[str, Any] = {"spec": obj.get("spec") or {}}
    if kept := {key: value for key, value in meta.items() if value}:
        shown["metadata"] = kept
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=1000)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that the serve config is compared line by line."""

    def ignore_aliases(self, _: Any) -> bool:
        """Everything is written out: a diff of anchors says nothing."""
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if "\n" not in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text)
    # YAML has no block for lines that end in spaces; they are no difference that matters here.
    plain = "\n".join(row.rstrip() for row in text.expandtabs(8).split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", plain, style="|")


_Dumper.add_representer(str, _represent)
