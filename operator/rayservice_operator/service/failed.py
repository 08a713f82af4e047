"""What is remembered of a revision that failed, and until when it holds. Who decides that: ``rollback``, ``abort``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service.hashing import analysis_hash

FAILED: Final = "failedUpdate"
"""Field of the status: which serve config failed, or which cluster spec with it, when and why."""

_OFF: Final = frozenset({"false", "no", "off", "0"})


def net_wanted(service: Manifest) -> bool:
    """Whether a failed config shall give way to the last good one: unless ``ray.io/rollback: "false"``."""
    return annotations_of(service).get(names.ROLLBACK, "").strip().lower() not in _OFF


def record(
    service: Manifest,
    now: float,
    message: str,
    *,
    config_hash: str,
    rolled_back_to: str,
    cluster_hash: str = "",
    asked: bool = False,
    revision: int = 0,
    analysed: bool = False,
) -> Manifest:
    """What is remembered: hashes of what failed and of what is in its place. ``cluster_hash``: of an upgrade.

    asked: a person gave it up. revision: number of the one to be built again, where its cluster is gone. analysed: its
    analysis failed; by another one it may pass.
    """
    return {
        "configHash": config_hash,
        **({"clusterHash": cluster_hash} if cluster_hash else {}),
        "rolledBackTo": rolled_back_to,
        **({"asked": True} if asked else {}),
        **({"revision": revision} if revision else {}),
        **({"analysisHash": analysis_hash(service)} if analysed else {}),
        "message": shorten(message),
        "time": to_rfc3339(now),
        **_retry_of(service),
    }


def _retry_of(service: Manifest) -> dict[str, str]:
    """The value of ``ray.io/retry`` as it is remembered beside a failure; another value asks for another try."""
    value = annotations_of(service).get(names.RETRY, "")
    return {"retry": value} if value else {}


def still_holds(
    failed: Mapping[str, Any], service: Manifest, config_hash: str, cluster_hash: str, *, valid: bool = True
) -> bool:
    """Whether a remembered failure is that of this config (and, if an upgrade failed, of this cluster spec).

    Not once somebody has asked for another try, or, where no person gave it up, for no net.
    valid: whether the present spec is; the analysis of one that is not is no other analysis.
    """
    retry = {"retry": failed["retry"]} if failed.get("retry") else {}
    same_cluster = failed.get("clusterHash") in (None, "", cluster_hash)
    same = failed.get("configHash", "") == config_hash and same_cluster
    wanted = failed.get("asked") is True or net_wanted(service)
    same_analysis = not valid or failed.get("analysisHash") in (None, "", analysis_hash(service))
    return same and same_analysis and retry == _retry_of(service) and wanted
