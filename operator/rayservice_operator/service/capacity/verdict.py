"""From what is wanted and what was surveyed to numbers and one sentence that a person can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from rayservice_operator.cluster import quantity
from rayservice_operator.cluster.requests import PODS, Amounts, pod_requests
from rayservice_operator.core.room import PodsWanted, Room
from rayservice_operator.service.capacity.packing import Load, Packed, fits, pack
from rayservice_operator.service.capacity.placement import obstacle, one_per_node
from rayservice_operator.service.capacity.quotas import Admitted, admit
from rayservice_operator.service.capacity.survey import Node, Survey

_PLACES: Final = "places for pods"
_ZERO: Final = Decimal(0)


def evaluate(wanted: Sequence[PodsWanted], survey: Survey) -> Room:
    """Whether the pods would find room, all at once, as things stood at the time of the survey."""
    pods = sum(want.to_place for want in wanted)
    admitted = admit(wanted, survey.quotas or ())
    admissible = {want.group: want.to_place - want.to_create + admitted.counts[want.group] for want in wanted}
    if survey.nodes is None:
        let_in = sum(admissible.values())
        refused = _refusals(admitted)
        fit = let_in if let_in < pods else None
        return Room(pods, fit, _sentence(pods, fit, refused, [], survey))
    groups = [_group(want, admissible[want.group], survey.nodes) for want in wanted]
    by_name = {node.name: node for node in survey.nodes}
    packed = pack([group.load for group in groups if group.load.count], {n: node.free for n, node in by_name.items()})
    missing = [text for group in groups if (text := _missing(group, packed, by_name))]
    fit = sum(packed.placed.values())
    return Room(pods, fit, _sentence(pods, fit, _refusals(admitted), missing, survey))


@dataclass(frozen=True, slots=True)
class _Group:
    """A group's load, and why the other nodes are none for it: how many for each reason."""

    load: Load
    obstacles: Mapping[str, int]


def _group(want: PodsWanted, count: int, nodes: Sequence[Node]) -> _Group:
    spec = want.pod["spec"]
    obstacles: Counter[str] = Counter()
    matching = []
    for node in nodes:
        why = obstacle(spec, node)
        if why is None:
            matching.append(node.name)
        else:
            obstacles[why] += 1
    return _Group(Load(want.group, pod_requests(spec), count, tuple(matching), one_per_node(want.pod)), obstacles)


def _missing(group: _Group, packed: Packed, nodes: Mapping[str, Node]) -> str:
    """What keeps the group's other pods from a node; empty when all have found one."""
    load = group.load
    unplaced = load.count - packed.placed.get(load.name, 0)
    if unplaced <= 0:
        return ""
    if not load.nodes:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(group.obstacles.items()))
        return f"no node matches group {load.name} ({f'{why} of {len(nodes)}' if why else 'there is no node at all'})"
    if too_big := _too_big(load, [nodes[name].allocatable for name in load.nodes]):
        return f"a pod of group {load.name} asks for {too_big}"
    left = [packed.left[name] for name in load.nodes]
    lacking = {key: value * unplaced - sum((f.get(key, _ZERO) for f in left), _ZERO) for key, value in _sorted(load)}
    short = [f"{_amount(key, value)} {_word(key)}" for key, value in lacking.items() if value > 0]
    if short:
        return f"nodes that match group {load.name} lack {_listed(short)}"
    if load.one_per_node and any(fits(load.requests, free) for free in left):
        return f"group {load.name} lacks {_count(unplaced, 'node')}, as its anti-affinity allows one pod on each"
    scattered = [(k, v) for k, v in _sorted(load) if all(free.get(k, _ZERO) < v for free in left)]
    needs = _listed([f"{_amount(key, value)} {_word(key)}" for key, value in scattered or _sorted(load)])
    return f"no node that matches group {load.name} has {needs} free by itself"


def _too_big(load: Load, sizes: Sequence[Amounts]) -> str:
    """The resources of which no matching node has enough for one pod, even when it is empty."""
    found = []
    for key, value in _sorted(load):
        largest = max((size.get(key, _ZERO) for size in sizes), default=_ZERO)
        if value > largest:
            found.append(
                f"{_amount(key, value)} {_word(key)}, and the largest node that matches has {_amount(key, largest)}"
            )
    return "; ".join(found)


def _refusals(admitted: Admitted) -> list[str]:
    return [
        f"ResourceQuota {name} lacks {_amount(key.removeprefix('requests.').removeprefix('limits.'), value)} of {key}"
        for (name, key), value in sorted(admitted.refusals.items())
    ]


def _sentence(pods: int, fit: int | None, refused: list[str], missing: list[str], survey: Survey) -> str:
    """``2 of 3 pods fit now: nodes that match group gpu lack 1 nvidia.com/gpu. They wait until …``."""
    unseen = _unseen(survey)
    if fit is None:
        return f"Whether {_count(pods, 'pod')} would find room is not known: {survey.blind or 'nodes cannot be seen'}."
    said = f"{fit} of {_count(pods, 'pod')} {'fits' if pods == 1 else 'fit'} now"
    if not (missing or refused):
        return f"{said}{unseen}."
    ways = [
        "room is made",
        *(["the quota is raised"] if refused else []),
        *([f"{survey.autoscaler} adds nodes" if survey.autoscaler else "nodes are added"] if missing else []),
    ]
    who = "The others wait" if fit else "All wait" if pods > 1 else "It waits"
    return f"{said}{unseen}: {'; '.join([*refused, *missing])}. {who} until {' or '.join(ways)}."


def _unseen(survey: Survey) -> str:
    if survey.nodes is None:
        return f" by the quotas ({survey.blind or 'nodes cannot be seen'})"
    return "" if survey.pods_seen else " on nodes without their other pods, which cannot be seen"


def _sorted(load: Load) -> list[tuple[str, Decimal]]:
    """Devices first: they are what is short."""
    return sorted(load.requests.items(), key=lambda item: ("/" not in item[0], item[0] == PODS, item[0]))


def _word(key: str) -> str:
    return _PLACES if key == PODS else key


def _amount(key: str, value: Decimal) -> str:
    if key in ("memory", "ephemeral-storage") or key.startswith("hugepages-"):
        return quantity.format_binary(value)
    return quantity.format_decimal(value)


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
