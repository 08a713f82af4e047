"""What of ``rayClusterConfig`` changes, how, and what that needs in pods and GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from rayservice_operator.cluster.requests import pod_requests
from rayservice_operator.cluster.resources import is_gpu
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import hashing, inplace
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.strategies import needs
from rayservice_operator.service.strategies.base import Plan
from rayservice_operator.service.strategies.needs import Needs

MAX_FIELDS: Final = 12
"""Fields that are named at most; there is a diff for the rest."""

_GROUP: Final = re.compile(r"^/spec/workerGroupSpecs/(\d+)")


def size(wanted: Needs) -> tuple[int, float]:
    """Pods and GPUs of :class:`Needs`."""
    gpus = 0.0
    for each in wanted.pods:
        asked = pod_requests(each.pod.get("spec") or {})
        gpus += each.to_place * sum(float(amount) for key, amount in asked.items() if is_gpu(key))
    return wanted.count, gpus


def growth(has: Manifest, wanted: Manifest, config: OperatorConfig) -> tuple[int, float]:
    """Pods and GPUs that ``wanted`` has beyond ``has``, both RayClusterSpecs."""
    (pods, gpus), (more, more_gpus) = (size(needs.second_cluster(spec, config)) for spec in (has, wanted))
    return max(0, more - pods), max(0.0, more_gpus - gpus)


def changed_in_place(view: ClusterView, wanted: Manifest) -> tuple[str, ...]:
    """Fields below ``rayClusterConfig`` that the operator writes into this cluster, which must match ``wanted``."""
    operations = [
        operation
        for change in (inplace.patch(view.manifest, wanted), inplace.suspension(view.manifest, wanted))
        if change is not None
        for operation in change.operations
    ]
    paths = [op["path"] for op in operations if op["op"] != "test" and op["path"].startswith("/spec/")]
    groups = view.manifest["spec"].get("workerGroupSpecs") or []
    names = [str(group.get("groupName")) for group in groups]
    return tuple(dict.fromkeys(_named(path, names) for path in paths))


def in_place(context: Context, target: Target, plan: Plan) -> tuple[str, ...]:
    """:func:`changed_in_place` of the clusters that have a role and match the spec."""
    views = [view for name in (plan.active, plan.pending) if (view := context.live(name)) is not None]
    fitting = [view for view in views if hashing.matches(view.manifest, target.cluster_spec)]
    return tuple(dict.fromkeys(key for view in fitting for key in changed_in_place(view, target.cluster_spec)))


def _named(path: str, groups: list[str]) -> str:
    """``/spec/workerGroupSpecs/0/replicas`` as ``workerGroupSpecs[gpu].replicas``."""
    found = _GROUP.match(path)
    if found is None:
        return "workerGroupSpecs (a new group)" if path == "/spec/workerGroupSpecs/-" else path[6:].replace("/", ".")
    index = int(found[1])
    group = groups[index] if index < len(groups) else found[1]
    return f"workerGroupSpecs[{group}]{path[found.end() :].replace('/', '.')}"


def reasons(view: ClusterView, wanted: Manifest) -> tuple[str, ...]:
    """Fields that a running cluster cannot take over, as far as they are known: why it is not enough to change it."""
    has = view.manifest["spec"]
    count = len(has.get("workerGroupSpecs") or [])
    old, new = (hashing.essence(hashing.frozen_part(spec, groups=count)) for spec in (has, wanted))
    found = list(_differences(old, new, ""))
    more = len(found) - MAX_FIELDS
    return (*found[:MAX_FIELDS], *([f"and {more} more"] if more > 0 else []))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*new, *(key for key in old if key not in new)):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and _by_name(old) and _by_name(new):
        before, after = ({_name(item): item for item in items} for items in (old, new))
        for name in dict.fromkeys((*after, *before)):
            yield from _differences(before.get(name), after.get(name), f"{path}[{name}]")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif old != new:
        yield path


def _by_name(items: list[Any]) -> bool:
    named = [_name(item) for item in items if isinstance(item, dict)]
    return len(named) == len(items) and all(named) and len(set(named)) == len(named)


def _name(item: Any) -> str:
    return str(item.get("groupName") or item.get("name") or "")
