"""What a person asks of an upgrade by annotation: pause, promote, abort. The command line puts verbs on them.

A request names what it is about, so one that was left behind does nothing to the next upgrade: the new RayCluster
(``status.upgrade.to``), or the revision that is rolled out inside of one (``status.upgrade.revision``). ``pause`` is a
state, not a request: it holds until it is taken away.
"""

from __future__ import annotations

from typing import Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, annotations_of

_ON: Final = frozenset({"true", "yes", "on", "1"})


def paused(service: Manifest) -> bool:
    """``upgradeStrategy.paused``, or the annotation ``ray.io/pause: "true"``."""
    strategy = service["spec"].get("upgradeStrategy") or {}
    return strategy.get("paused") is True or annotations_of(service).get(names.PAUSE, "").strip().lower() in _ON


def promotion_asked(service: Manifest, cluster: str) -> bool:
    """``ray.io/promote`` names this RayCluster: what holds it back, but for its own health, is to be passed over."""
    return bool(cluster) and annotations_of(service).get(names.PROMOTE, "").strip() == cluster


def abort_asked(service: Manifest, target: str) -> bool:
    """``ray.io/abort`` names this RayCluster, or this revision: the upgrade to it is to be given up."""
    return bool(target) and annotations_of(service).get(names.ABORT, "").strip() == target
