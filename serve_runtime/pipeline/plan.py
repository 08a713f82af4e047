"""The graph of a pipeline, checked and put in order. Pure: no Ray, no clock."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator
from dataclasses import dataclass

from serve_runtime.pipeline.args import INGRESS, INPUT, PipelineArgs, Step


class PlanError(ValueError):
    """A graph that cannot be run; the text names the place in ``args`` and what to change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """order: all steps, each after those it needs. output: whose results are the answer. looked_at: steps whose
    results the ingress has to see; those of the others go by reference from replica to replica.
    """

    steps: dict[str, Step]
    order: tuple[str, ...]
    output: tuple[str, ...]
    looked_at: frozenset[str]


def plan(args: PipelineArgs) -> Plan:
    """The plan. Raises PlanError: names that are taken or unknown, cycles, steps that nobody needs."""
    for name in args.steps:
        if name in {INPUT, INGRESS}:
            raise PlanError(f"steps.{name}: this name is taken; choose another")
    for name, step in args.steps.items():
        for place, needed in _needs(step):
            if needed != INPUT and needed not in args.steps:
                raise PlanError(f"steps.{name}.{place}: no step {needed!r}; there are {', '.join(sorted(args.steps))}")
    graph = {name: {needed for _, needed in _needs(step)} - {INPUT} for name, step in args.steps.items()}
    try:
        order = tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        cycle = error.args[1]  # each before the next one, the first again at the end
        raise PlanError(f"steps.{cycle[1]}: a cycle, {' -> '.join(cycle)}; no step can begin") from None
    output = _output(args, graph)
    _check_all_needed(graph, output)
    return Plan(dict(args.steps), order, output, frozenset(_looked_at(args.steps, output)))


def _needs(step: Step) -> Iterator[tuple[str, str]]:
    """The place of each name in the step, and the name."""
    for index, name in enumerate(step.after):
        yield f"after[{index}]", name
    if step.when is not None:
        yield "when.of", step.when.of


def _output(args: PipelineArgs, graph: dict[str, set[str]]) -> tuple[str, ...]:
    if args.output is not None:
        for index, name in enumerate(args.output):
            if name not in args.steps:
                raise PlanError(f"output[{index}]: no step {name!r}; there are {', '.join(sorted(args.steps))}")
        return tuple(args.output)
    needed = set().union(*graph.values())
    last = [name for name in args.steps if name not in needed]
    if len(last) != 1:
        raise PlanError(f"output: name what the answer is; nothing comes after {', '.join(sorted(last))}")
    return (last[0],)


def _check_all_needed(graph: dict[str, set[str]], output: tuple[str, ...]) -> None:
    """A step that the answer does not depend on would cost its time for nothing."""
    reached: set[str] = set()
    todo = list(output)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo.extend(graph[name])
    for name in graph:
        if name not in reached:
            raise PlanError(f"steps.{name}: the answer does not depend on it; name it in `output` or remove it")


def _looked_at(steps: dict[str, Step], output: tuple[str, ...]) -> Iterator[str]:
    yield from output
    for name, step in steps.items():
        if step.optional or step.combine:
            yield name
        if step.when is not None:
            yield step.when.of
        if step.combine or step.each or step.optional:  # else an optional step would swallow the failure before it
            yield from step.after
        if step.each:
            yield name
