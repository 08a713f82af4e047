"""What people do to the RayService in a history, as a table: each kind of edit with its variants.

Random histories (``histories``) and Hypothesis (``test_histories_shrunk``) draw from it. A new feature's fields and
annotations belong here, and what must be taken back before a history can come to its end into ``calm``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import thresholds
from tests.sim import manifests as m
from tests.sim.simulation import service, user
from tests.sim.world import World


@dataclass(frozen=True)
class Edit:
    """``patch`` makes a merge patch of the RayService from what is stored of it."""

    what: str
    patch: Callable[[Manifest], Manifest]

    def __repr__(self) -> str:
        return f"<{self.what}>"

    def apply(self, world: World) -> None:
        """As ``kubectl patch --type merge``; creates the service where there is none."""
        stored = service(world)
        if stored is None:
            world.server.create("kubectl", m.rayservice())
        else:
            user(world, self.patch(stored))


def spec(what: str, **fields: Any) -> Edit:
    """Fields of the spec."""
    return Edit(what, lambda _: {"spec": fields})


def annotation(key: str, value: str | Callable[[Manifest], str] | None) -> Edit:
    """``kubectl annotate``: a value, its removal, or one that follows from the status."""

    def patch(stored: Manifest) -> Manifest:
        text = value(stored.get("status") or {}) if callable(value) else value
        return {"metadata": {"annotations": {key: text}}}

    return Edit(f"{key} {'removed' if value is None else value if isinstance(value, str) else 'of the moment'}", patch)


def _upgraded_to(status: Manifest) -> str:
    return str((status.get("upgrade") or {}).get("to") or "nothing")


def _on_its_way(status: Manifest) -> str:
    """The revision that is rolled out in place, else the cluster that the upgrade goes to."""
    upgrade = status.get("upgrade") or {}
    return str(upgrade.get("revision") or upgrade.get("to") or "")


def _revision(status: Manifest) -> str:
    return str(max(1, int((status.get("applied") or {}).get("revision") or 2) - 1))


def _workers(stored: Manifest, image: str) -> Manifest:
    """Another image for the workers alone: what can be replaced in place."""
    groups = copy.deepcopy(stored["spec"]["rayClusterConfig"]["workerGroupSpecs"])
    for group in groups:
        group["template"]["spec"]["containers"][0]["image"] = image
    return {"spec": {"rayClusterConfig": {"workerGroupSpecs": groups}}}


MISSING: Final = "ray:missing"
"""An image that is not there."""

IMAGES: Final = ("ray:a", "ray:b", "ray:c")
GREETINGS: Final = ("hello", "good day", "good evening")
PATHS: Final = ("demo:app", "broken:app", "refused:app")
ANALYSED_PATHS: Final = ("demo:app", "wrong:app", "slow:app", "quiet:app")
_STEPS: Final = {"maxSurgePercent": 100, "stepSizePercent": 50, "intervalSeconds": 2}
_IN_STEPS: Final = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": _STEPS}
STRATEGIES: Final[Mapping[str, Manifest]] = {
    **{name: {"type": name, "clusterUpgradeOptions": None} for name in ("NewCluster", "InPlace", "Recreate", "None")},
    "in steps": _IN_STEPS,
    "by gateway": {**_IN_STEPS, "clusterUpgradeOptions": {**_STEPS, "gatewayClassName": "sim"}},
}

EDITS: Final[Mapping[str, tuple[Edit, ...]]] = {
    "image": tuple(spec(f"image {image}", rayClusterConfig=m.cluster_spec(image)) for image in IMAGES),
    "config": tuple(
        spec(f"config {path} {greeting}", serveConfigV2=m.serve_config(path, greeting=greeting))
        for path, greeting in product(("demo:app", *PATHS), GREETINGS)
    ),
    "both": tuple(
        spec(
            f"image {image} and config {path}",
            rayClusterConfig=m.cluster_spec(image),
            serveConfigV2=m.serve_config(path),
        )
        for image, path in product(IMAGES, PATHS)
    ),
    "threshold": tuple(
        spec(f"{field} {seconds} s", **{field: seconds})
        for field, seconds in product((thresholds.DEPLOYMENT, thresholds.SERVICE), (1, 10))
    ),
    "recovery": (
        annotation(names.AUTO_RECOVERY, "true"),
        annotation(names.AUTO_RECOVERY, None),
        spec("recovery at once", deploymentUnhealthySecondThreshold=1, serviceUnhealthySecondThreshold=1),
    ),
    "invalid": (spec("invalid config", serveConfigV2="applications: 5"),),
    "workers": tuple(
        spec(f"{workers} workers", rayClusterConfig=m.cluster_spec(workers=workers)) for workers in (1, 2, 3)
    ),
    "cluster suspend": (
        spec("suspend the clusters", rayClusterConfig={"suspend": True}),
        spec("resume the clusters", rayClusterConfig={"suspend": False}),
    ),
    "worker image": tuple(
        Edit(f"worker image {image}", lambda stored, image=image: _workers(stored, image))  # type: ignore[misc]
        for image in (*IMAGES, MISSING)
    ),
    "in place": tuple(
        spec(
            f"in place {pace}", upgradeStrategy={"type": "InPlace", "inPlace": pace, "progressDeadlineSeconds": seconds}
        )
        for pace in (None, {"maxSurge": 1}, {"maxUnavailable": 1, "maxSurge": 1})
        for seconds in (None, 30)
    ),
    "suspend": (spec("suspend", suspend=True), spec("resume", suspend=False)),
    "strategy": tuple(spec(f"strategy {name}", upgradeStrategy=how) for name, how in STRATEGIES.items()),
    "analysis": tuple(
        spec(
            f"image {image} and config {path}, analysed",
            rayClusterConfig=m.cluster_spec(image),
            serveConfigV2=m.serve_config(path),
            upgradeStrategy=strategy,
        )
        for image, path, strategy in product(IMAGES[:2], ANALYSED_PATHS, (m.CHECKED, {"analysis": None}))
    ),
    "pause": (annotation(names.PAUSE, "true"), annotation(names.PAUSE, None)),
    "budget": tuple(annotation(names.DISRUPTION_BUDGET, value) for value in ("workers", "none", None)),
    "verbs": (
        annotation(names.PROMOTE, _upgraded_to),
        annotation(names.ABORT, _on_its_way),
        annotation(names.UNDO, _revision),
        *(annotation(names.RETRY, value) for value in ("1", "2")),
    ),
}


def calm(stored: Manifest) -> Manifest:
    """Merge patch after which every history must come right. Pods that are replaced in place go on in place."""
    in_place = (stored["spec"].get("upgradeStrategy") or {}).get("type") == "InPlace"
    strategy = {"paused": None, "inPlace": None, "progressDeadlineSeconds": None} if in_place else None
    patch: Manifest = {
        "metadata": {"annotations": {names.PAUSE: None, names.UNDO: None}},
        "spec": {
            "suspend": False,
            "serveConfigV2": m.serve_config(greeting="fixed"),
            "upgradeStrategy": strategy,
            "rayClusterConfig": {"suspend": False},
        },
    }
    if MISSING in json.dumps(stored["spec"]["rayClusterConfig"]):
        patch["spec"]["rayClusterConfig"] |= _workers(stored, "ray:a")["spec"]["rayClusterConfig"]
    return patch
