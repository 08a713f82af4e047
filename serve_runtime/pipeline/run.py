"""Runs a plan for one request: each step as soon as what it needs is there. No Ray: a call is whatever it is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from serve_runtime.errors import BadInput, Failed
from serve_runtime.pipeline.args import INPUT, Step, When
from serve_runtime.pipeline.plan import Plan


class Call(Protocol):
    """A call under way: awaited for its value, or passed on as an input of another call."""

    def __await__(self) -> Any: ...

    def cancel(self) -> Any:
        """Nobody needs it any more. Harmless once it is done."""


Caller = Callable[[str, tuple[str, ...], list[Any]], Call]
"""``call(step, names, inputs)``; no names: there is one input, and the step gets it as it is."""


class StepError(Exception):
    """A step has failed; ``__cause__`` says how."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@dataclass(frozen=True, slots=True)
class Done:
    """A step's end. passed: what goes to other steps, a call or a value. value: set where somebody looks at it."""

    passed: Any = None
    value: Any = None
    skipped: bool = False


SKIPPED = Done(skipped=True)


async def run(plan: Plan, body: Any, call: Caller, *, max_fan_out: int = 256) -> dict[str, Any]:
    """Output step to its value; those that were skipped are not in it.

    Raises StepError for the first step that fails, and BadInput; all calls that are under way are cancelled then, and
    when this is cancelled.
    """
    calls: list[Call] = []

    def counted(step: str, names: tuple[str, ...], inputs: list[Any]) -> Call:
        calls.append(call(step, names, inputs))
        return calls[-1]

    request = _Run(plan, body, counted, max_fan_out, {})
    try:
        async with asyncio.TaskGroup() as group:
            for name in plan.order:
                request.tasks[name] = group.create_task(request.step(name))
    except BaseExceptionGroup as group_error:
        _cancel(calls)
        raise group_error.exceptions[0] from group_error.exceptions[0].__cause__
    except BaseException:
        _cancel(calls)
        raise
    ends = {name: request.tasks[name].result() for name in plan.output}
    return {name: end.value for name, end in ends.items() if not end.skipped}


def _cancel(calls: list[Call]) -> None:
    for each in calls:
        each.cancel()


@dataclass(frozen=True, slots=True)
class _Run:
    """One request. tasks: the steps that are begun, those before a step among them."""

    plan: Plan
    body: Any
    call: Caller
    max_fan_out: int
    tasks: dict[str, asyncio.Task[Done]]

    async def done(self, name: str) -> Done:
        """The end of a step, or the input."""
        return Done(self.body, self.body) if name == INPUT else await self.tasks[name]

    async def step(self, name: str) -> Done:
        """One step, when those before it are done."""
        step = self.plan.steps[name]
        given = {needed: await self.done(needed) for needed in step.after}
        present = {needed: done for needed, done in given.items() if not done.skipped}
        if not present or (step.needs == "all" and len(present) < len(given)):
            return SKIPPED
        if step.when is not None:
            of = await self.done(step.when.of)
            if of.skipped or not holds(step.when, of.value):
                return SKIPPED
        if step.combine is not None:
            try:
                value = combined(step.combine, [done.value for done in present.values()])
            except (TypeError, ValueError) as error:
                raise StepError(name) from error
            return Done(value, value)
        return await self._called(name, step, present)

    async def _called(self, name: str, step: Step, present: dict[str, Done]) -> Done:
        made: list[Call] = []
        try:
            if step.each:
                (only,) = present.values()
                made.extend(self.call(name, (), [element]) for element in self._elements(name, only.value))
                value = list(await asyncio.gather(*made))
                return Done(value, value)
            names = tuple(present) if len(step.after) > 1 else ()
            made.append(self.call(name, names, [done.passed for done in present.values()]))
            return Done(made[0], await made[0] if name in self.plan.looked_at else None)
        except Exception as error:
            if not made and isinstance(error, BadInput):
                raise  # ours, about the input; a step's own comes back through Ray
            if not step.optional:
                raise StepError(name) from error
            _cancel(made)
            return SKIPPED

    def _elements(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            error = BadInput if value is self.body else Failed
            raise error(f"{name} is called for each element of a list, and got {type(value).__name__}")
        if len(value) > self.max_fan_out:
            raise BadInput(f"{name} would be called for {len(value)} elements; at most {self.max_fan_out} are taken")
        return value


def holds(when: When, value: Any) -> bool:
    """Whether a result meets a condition. One of another type, or without the place, does not."""
    for key in when.at:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return False
    match when.is_:
        case "true" | "false":
            return bool(value) is (when.is_ == "true")
        case "equal" | "unequal":
            return bool(value == when.to) is (when.is_ == "equal")
        case "in":
            return value in when.to
        case "above" | "below":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return bool(value > when.to if when.is_ == "above" else value < when.to)


def combined(how: str, values: list[Any]) -> Any:
    """One result of several, which are in the order of ``after``.

    mean: of numbers, or of lists of them place by place. vote: what most say, of several the one that comes first.
    Raises TypeError and ValueError for a mean of what has none.
    """
    if how == "list":
        return values
    if how == "first":
        return values[0]
    if how == "vote":
        keys = [repr(value) for value in values]  # results may be lists or mappings, which cannot be counted
        most = Counter(keys).most_common(1)[0][0]
        return values[keys.index(most)]
    if all(isinstance(value, list) for value in values):
        return [combined("mean", list(column)) for column in zip(*values, strict=True)]
    return sum(values) / len(values)
