"""Whether what the stored status tells of a cluster may stand for a while: after a restart of the operator."""

from __future__ import annotations

from rayservice_operator.api.conditions import ServiceCondition as Type
from rayservice_operator.core.conditions import find
from rayservice_operator.core.objects import Manifest, metadata, name_of
from rayservice_operator.core.timestamps import from_rfc3339
from rayservice_operator.service.context import ClusterView, Context


def carried(context: Context, view: ClusterView | None) -> bool:
    """Whether the stored news is kept: the operator has only begun to observe this head.

    After a restart of the operator nothing has been observed yet; saying «unknown» for a second and writing it
    would be noise. The grace is bounded (``first_observation_grace_s``). News of a former head is not kept, nor where
    there is nothing to observe yet, because the head has no address.
    """
    if view is None or view.head is None or not view.head_ip or not _news_is_of(context, view, view.head):
        return False
    observation = view.observation
    if observation is None:
        return True
    waited = context.now - observation.started_at
    return observation.seen_at is None and waited < context.config.first_observation_grace_s


def _news_is_of(context: Context, view: ClusterView, head: Manifest) -> bool:
    """Whether the stored conditions were derived with this head pod in sight.

    The head's name is written together with them. Ready's transition time alone would not tell: through an upgrade
    Ready stays True, so it is older than the head that serves.
    """
    stored = ((view.entry.get("rayClusterStatus") or {}).get("head") or {}).get("podName")
    if stored:
        return bool(stored == name_of(head))
    since = from_rfc3339((find(context.stored_conditions, Type.READY) or {}).get("lastTransitionTime"))
    created = from_rfc3339(metadata(head).get("creationTimestamp"))
    return since is None or created is None or created <= since
