"""What applying a RayService manifest does, told before it is done: by the functions that the operator decides with."""

from __future__ import annotations

from dataclasses import replace

from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.violations import Violation
from rayservice_operator.service.preview import forecast
from rayservice_operator.service.preview.result import Impact, Kind, Preview
from rayservice_operator.service.preview.scene import Live, alone, is_named, is_readable, scene

__all__ = ["Impact", "Kind", "Live", "Preview", "preview"]

_NO_MANIFEST = Violation("manifest", "is no RayService manifest", "Give it `metadata.name` and a mapping `spec`")


def preview(before: Manifest | None, after: Manifest, *, live: Live | None = None) -> Preview:
    """What applying ``after`` does to the RayService ``before``; None: there is none of that name.

    ``before`` is the object as stored, with its status (what is really applied is read from there), or a manifest
    without one, which counts as applied. live: its RayClusters, pods and ControllerRevisions where they are at hand;
    without them the clusters are told from the status, and ``exact`` says whether that was enough.

    Never raises for what a person wrote: a manifest that cannot be read is a refusal.
    """
    seen = live or Live()
    if not is_named(after):
        return forecast.refused((_NO_MANIFEST,), has_former=before is not None)
    if before is None:
        return forecast.of_new(alone(after, seen))
    if not is_named(before) or not is_readable(before):
        # The operator could not read it either, so nothing was built of it.
        return replace(forecast.of_new(alone(after, seen)), exact=False)
    return forecast.of_change(scene(before, after, seen))
