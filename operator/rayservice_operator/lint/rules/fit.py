"""Rules about what a replica needs and what the groups of the cluster offer.

A node's amounts come from the code that builds ``ray start`` for it, so they are the ones Ray will count with. What
Ray finds out only on the node is taken for enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.nodes import CPU, DETECTED, GPU, GPU_TYPES, MEMORY, Node, gpu_type
from rayservice_operator.lint.reading import as_list, as_map, counted, plain
from rayservice_operator.lint.room_for import ordinary
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Deployment, Subject
from rayservice_operator.lint.workload import Bundle, total

_PLAIN: Final = (CPU, GPU, MEMORY)


def _demands(subject: Subject) -> Iterator[tuple[Deployment, Bundle]]:
    """Each different thing that has to be on one node."""
    if not subject.nodes:
        return
    for deployment in subject.deployments:
        work = deployment.workload
        bundles = work.bundles
        if work.one_node and len(bundles) > 1:
            bundles = (Bundle(total(bundles), bundles[0].paths, bundles[0].path),)
        seen: list[Bundle] = []
        for bundle in bundles:
            if bundle not in seen:
                seen.append(bundle)
                yield deployment, bundle


def _best(nodes: Sequence[Node], resource: str) -> Node | None:
    """The group whose pods have most of a resource; None when one of them may have any amount."""
    offers = [(amount, node) for node in nodes if (amount := node.offers(resource)) is not None]
    return None if len(offers) < len(nodes) else max(offers, key=lambda offer: offer[0])[1]


def _too_large(subject: Subject, resource: str) -> Iterator[tuple[Deployment, Bundle, float, float, Node]]:
    """Demands that no pod can meet: what is wanted, what the best group has, and which that is."""
    for deployment, bundle in _demands(subject):
        wanted = bundle.amounts.get(resource, 0.0)
        best = _best(subject.nodes, resource) if wanted else None
        if best is not None and (has := best.offers(resource) or 0.0) < wanted:
            yield deployment, bundle, wanted, has, best


def _gpus(subject: Subject) -> Iterator[Problem]:
    for _, bundle, wanted, has, best in _too_large(subject, GPU):
        if has == 0:
            problem = f"asks for {counted(wanted, 'GPU')} on one node, but no group has any"
            fix = "Give a worker group GPUs in the limits of its Ray container (nvidia.com/gpu), or ask for none"
        else:
            problem = f"asks for {counted(wanted, 'GPU')} on one node, but the most is {plain(has)} ({best.name!r})"
            fix = f"Ask for at most {plain(has)}, or give a worker group pods with {counted(wanted, 'GPU')}"
        yield Problem(bundle.at(GPU), problem, fix)


def _cpus(subject: Subject) -> Iterator[Problem]:
    for _, bundle, wanted, has, best in _too_large(subject, CPU):
        problem = f"asks for {counted(wanted, 'CPU')} on one node, but the most is {plain(has)} ({best.name!r})"
        if CPU not in bundle.paths:
            problem = f"asks for {counted(wanted, 'CPU')}, the default, but the most on one node is {plain(has)}"
        fix = "Ask for fewer, or raise the CPUs of a worker group (limits.cpu or rayStartParams.num-cpus)"
        yield Problem(bundle.at(CPU), problem, fix)


def _memory(subject: Subject) -> Iterator[Problem]:
    for _, bundle, wanted, has, best in _too_large(subject, MEMORY):
        problem = f"asks for {_size(wanted)} on one node, but the most is {_size(has)} ({best.name!r})"
        yield Problem(bundle.at(MEMORY), problem, "Write bytes; ask for less, or raise limits.memory of a worker group")


def _size(amount: float) -> str:
    for unit, power in (("Gi", 3), ("Mi", 2), ("Ki", 1)):
        if amount >= 1024**power:
            return f"{amount / 1024**power:.3g} {unit}B"
    return f"{amount:.0f} bytes"


def _custom(subject: Subject) -> Iterator[Problem]:
    for _, bundle in _demands(subject):
        for resource in bundle.amounts:
            if resource in _PLAIN or DETECTED.fullmatch(resource):
                continue
            wanted = bundle.amounts[resource]
            best = _best(subject.nodes, resource)
            has = best.offers(resource) if best else None
            if has is not None and has < wanted:
                known = sorted({name for node in subject.nodes for name in node.amounts} - set(_PLAIN))
                offered = f"; the groups have {', '.join(known)}" if known else ""
                problem = f"asks for {plain(wanted)} of {resource!r} on one node, but the most is {plain(has)}{offered}"
                fix = f"Add {resource}: {plain(wanted)} to resources of the worker group that has it"
                yield Problem(bundle.at(resource), problem, fix)


def _together(subject: Subject) -> Iterator[Problem]:
    """Only where each resource alone can be had: else another rule has said it."""
    for _, bundle in _demands(subject):
        needs = ordinary(bundle.amounts)
        alone = all(any(node.holds({key: amount}) for node in subject.nodes) for key, amount in needs.items())
        if alone and not any(node.holds(needs) for node in subject.nodes):
            wanted = ", ".join(f"{key}: {plain(amount)}" for key, amount in sorted(needs.items()))
            problem = f"asks for {{{wanted}}} on one node; each is offered by some group, together by none"
            yield Problem(bundle.path, problem, "Ask for less of one of them, or add a group whose pods have all")


def _accelerators(subject: Subject) -> Iterator[Problem]:
    for deployment in subject.deployments:
        wanted = deployment.workload.accelerator
        if wanted is None or not subject.nodes:
            continue
        path, name = wanted
        custom = f"accelerator_type:{name}"
        if any(custom in node.amounts for node in subject.nodes) or name.upper() not in _GPU_NAMES:
            continue
        having = [node for node in subject.nodes if node.offers(GPU) != 0]
        if not having:
            fix = "Give a worker group GPUs in the limits of its Ray container (nvidia.com/gpu)"
            yield Problem(path, f"is {name!r}, but no group has a GPU", fix)
        elif all(node.types for node in having) and not any(_same_type(name, node) for node in having):
            types = sorted({kind for node in having for kind in node.types})
            problem = f"is {name!r}, but the node selectors of the groups with GPUs ask for {', '.join(types)}"
            yield Problem(path, problem, f"Write {types[0]}, or select nodes with {name} in a worker group")


_GPU_NAMES: Final = frozenset(name.upper() for name in GPU_TYPES)


def _same_type(name: str, node: Node) -> bool:
    wanted = gpu_type(name)
    return any(kind == wanted or kind.split("-")[0] == wanted.split("-")[0] for kind in node.types)


def _accelerator_names(subject: Subject) -> Iterator[Problem]:
    """Only what differs from a known name in case or punctuation, or has a vendor before it: newer types come."""
    known = {_letters(name): name for name in GPU_TYPES}
    for deployment in subject.deployments:
        wanted = deployment.workload.accelerator
        if wanted is None or wanted[1] in GPU_TYPES:
            continue
        path, name = wanted
        meant = known.get(_letters(name)) or known.get(re.sub(r"^(NVIDIA|AMD|TESLA)+", "", _letters(name)))
        if meant and not any(f"accelerator_type:{name}" in node.amounts for node in subject.nodes):
            problem = f"is {name!r}; Ray's name of this accelerator is {meant!r}"
            yield Problem(path, problem, f"Write {meant}")


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _selectors(subject: Subject) -> Iterator[Problem]:
    if not subject.nodes or any("labels-file" in node.group.spec.ray_start_params for node in subject.nodes):
        return
    for deployment in subject.deployments:
        options = as_map(deployment.data.get("ray_actor_options"))
        if as_list(options.get("fallback_strategy")):
            continue  # somewhere else will do
        path = deployment.at("ray_actor_options", "label_selector")
        yield from _unmatched(subject, as_map(options.get("label_selector")), path)
        for index, selector in enumerate(as_list(deployment.data.get("placement_group_bundle_label_selector"))):
            at = deployment.at("placement_group_bundle_label_selector", index)
            yield from _unmatched(subject, as_map(selector), at)


def _unmatched(subject: Subject, selector: Mapping[str, object], path: Path) -> Iterator[Problem]:
    declared = {label for node in subject.nodes for label in node.labels}
    for key, condition in selector.items():
        if not isinstance(condition, str) or (key.startswith("ray.io/") and key not in declared):
            continue  # Ray finds out its own labels on the node
        if not any(_matches(node.labels.get(key), condition) for node in subject.nodes):
            values = sorted({node.labels[key] for node in subject.nodes if key in node.labels})
            offered = f"the groups have {', '.join(values)}" if values else "no group has this label"
            fix = f"Set labels of a worker group to {key}: {condition}, or select what there is"
            yield Problem((*path, key), f"is {condition!r}, but {offered}", fix)


def _matches(value: str | None, condition: str) -> bool:
    """Ray's conditions on labels: ``a``, ``!a``, ``in(a,b)``, ``!in(a,b)``."""
    negative, positive = condition.startswith("!"), condition.lstrip("!")
    listed = re.fullmatch(r"in\((.*)\)", positive)
    options = [item.strip() for item in listed[1].split(",")] if listed else [positive]
    return (value in options) != negative


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "gpus-do-not-fit",
        Severity.ERROR,
        "A replica needs more GPUs on one node than any group has",
        "Ray accepts the config and waits for such a node forever: the application stays DEPLOYING.",
        "Give a worker group GPUs in the limits of its Ray container, or ask for fewer.",
        "ray_actor_options:\n  num_gpus: 2   # and no worker has more than nvidia.com/gpu: 1",
        _gpus,
    ),
    Rule(
        "cpus-do-not-fit",
        Severity.ERROR,
        "A replica needs more CPUs on one node than any group has",
        "Ray waits for such a node forever. A dictionary of ray_actor_options without num_cpus means one CPU.",
        "Ask for fewer, or raise limits.cpu or num-cpus of a group.",
        "ray_actor_options:\n  num_cpus: 16   # and the largest worker has 8",
        _cpus,
    ),
    Rule(
        "memory-does-not-fit",
        Severity.ERROR,
        "A replica needs more memory on one node than any group has",
        "Ray counts memory by the container's limit and waits for a node with enough forever.",
        "Write the bytes that a replica needs, and raise limits.memory of a group.",
        "ray_actor_options:\n  memory: 68719476736   # 64 GiB, and workers have 16Gi",
        _memory,
    ),
    Rule(
        "custom-resource-missing",
        Severity.ERROR,
        "A replica needs a custom resource that no group has enough of",
        "Custom resources exist only where a group declares them. Ray waits for one forever.",
        "Declare it in resources of the worker group, or correct its name.",
        "ray_actor_options:\n  resources: {fpga: 1}   # and no group has resources: {fpga: …}",
        _custom,
    ),
    Rule(
        "no-group-fits",
        Severity.ERROR,
        "No one group has all that a replica needs",
        "Each resource exists, but on different nodes; a replica, or a bundle of it, runs on one.",
        "Ask for less of one of them, or add a group whose pods have all.",
        "ray_actor_options:\n  num_gpus: 1\n  num_cpus: 16   # GPU workers have 8 CPUs, the others 32",
        _together,
    ),
    Rule(
        "accelerator-type-missing",
        Severity.ERROR,
        "A replica wants a type of accelerator that no group has",
        "Ray places it only on nodes where it finds that type, and waits for one forever.",
        "Name the type that the nodes have, or select other nodes in a worker group.",
        "ray_actor_options:\n  accelerator_type: H100   # and nodeSelector asks for nvidia-l4",
        _accelerators,
    ),
    Rule(
        "accelerator-type-name",
        Severity.ERROR,
        "An accelerator type is not written as Ray writes it",
        "Ray compares the names letter by letter, so no node ever matches.",
        "Write Ray's name of the type.",
        "ray_actor_options:\n  accelerator_type: nvidia-l4   # Ray: L4",
        _accelerator_names,
    ),
    Rule(
        "label-selector-unmatched",
        Severity.ERROR,
        "A label selector matches the nodes of no group",
        "Ray waits for a matching node forever.",
        "Set the label on a worker group (labels), or select what there is.",
        "ray_actor_options:\n  label_selector: {zone: a}   # and no group has labels: {zone: a}",
        _selectors,
    ),
)
