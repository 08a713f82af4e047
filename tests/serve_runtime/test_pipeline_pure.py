"""Planning and running a pipeline, without Ray."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_runtime.errors import BadInput
from serve_runtime.pipeline import PipelineArgs
from serve_runtime.pipeline.args import INPUT, When
from serve_runtime.pipeline.plan import Plan, PlanError, plan
from serve_runtime.pipeline.run import StepError, combined, holds, run

ADD = "tests.serve_runtime.sample_steps:Add"


def arguments(steps: dict[str, Any], **more: Any) -> PipelineArgs:
    """Arguments with these steps, each of them Add unless it says otherwise."""
    full = {name: step if "combine" in step else {"use": ADD, **step} for name, step in steps.items()}
    return PipelineArgs.model_validate({"steps": full, **more})


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Step to what it is after, without cycles, in any order of the mapping."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    found = {
        name: draw(st.lists(st.sampled_from([INPUT, *names[:index]]), min_size=1, max_size=3, unique=True))
        for index, name in enumerate(names)
    }
    return {name: found[name] for name in draw(st.permutations(names))}


class FakeCall:
    """A call that ends when the loop comes round to it."""

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self.value, self.error, self.cancelled = value, error, False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        if self.error:
            raise self.error
        return self.value

    def cancel(self) -> None:
        """Noted."""
        self.cancelled = True


class Calls:
    """Sums what it gets, calls among it awaited by nobody: by reference. ``fails`` is a step that raises."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.made: dict[str, FakeCall] = {}

    def __call__(self, step: str, _names: tuple[str, ...], inputs: list[Any]) -> FakeCall:
        assert step not in self.made
        values = [each.value if isinstance(each, FakeCall) else each for each in inputs]
        assert None not in values
        self.made[step] = FakeCall(sum(values) + 1, KeyError(step) if step == self.fails else None)
        return self.made[step]


def planned(graph: dict[str, list[str]]) -> Plan:
    """A plan whose answer is every step."""
    return plan(arguments({name: {"after": after} for name, after in graph.items()}, output=sorted(graph)))


@given(graphs())
def test_each_step_is_ordered_after_what_it_needs(graph: dict[str, list[str]]) -> None:
    order = planned(graph).order
    assert sorted(order) == sorted(graph)
    for name, after in graph.items():
        assert all(order.index(needed) < order.index(name) for needed in after if needed != INPUT)


@given(graphs(), st.data())
def test_a_cycle_is_refused_and_named(graph: dict[str, list[str]], data: st.DataObject) -> None:
    first = data.draw(st.sampled_from(sorted(graph)))
    last = first
    while data.draw(st.booleans()) and (later := [name for name in sorted(graph) if last in graph[name]]):
        last = data.draw(st.sampled_from(later))
    looped = {**graph, first: list(dict.fromkeys([*graph[first], last]))}
    with pytest.raises(PlanError, match=r"^steps\.\w+: a cycle, ") as refused:
        planned(looped)
    cycle = str(refused.value).split("a cycle, ")[1].split(";")[0].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert all(before in looped[after] for before, after in itertools.pairwise(cycle))


@given(graphs())
async def test_every_step_is_called_once_and_the_answer_is_what_the_graph_says(graph: dict[str, list[str]]) -> None:
    calls = Calls()
    found = await run(planned(graph), 1, calls)

    def value(name: str) -> int:
        return 1 if name == INPUT else sum(value(needed) for needed in graph[name]) + 1

    assert found == {name: value(name) for name in graph}
    assert set(calls.made) == set(graph)


@given(graphs(), st.data())
async def test_a_failure_is_named_and_ends_all_calls(graph: dict[str, list[str]], data: st.DataObject) -> None:
    fails = data.draw(st.sampled_from(sorted(graph)))
    calls = Calls(fails)
    with pytest.raises(StepError) as failed:
        await run(planned(graph), 1, calls)
    assert (failed.value.step, repr(failed.value.__cause__)) == (fails, repr(KeyError(fails)))
    assert all(call.cancelled for call in calls.made.values())


@pytest.mark.parametrize(
    ("steps", "more", "told"),
    [
        ({"a": {"after": ["b"]}}, {}, r"steps\.a\.after\[0\]: no step 'b'; there are a"),
        ({"a": {"when": {"of": "b"}}}, {}, r"steps\.a\.when\.of: no step 'b'"),
        ({"a": {}, "b": {}}, {}, "output: name what the answer is; nothing comes after a, b"),
        ({"a": {}}, {"output": ["b"]}, r"output\[0\]: no step 'b'"),
        ({"a": {}, "b": {}}, {"output": ["a"]}, r"steps\.b: the answer does not depend on it"),
        ({"input": {}}, {}, r"steps\.input: this name is taken"),
        ({"Pipeline": {}}, {}, r"steps\.Pipeline: this name is taken"),
        ({"a": {"after": ["a"]}}, {}, r"steps\.a: a cycle, a -> a"),
    ],
)
def test_a_graph_that_cannot_be_run_is_refused_with_the_place(steps: Any, more: Any, told: str) -> None:
    with pytest.raises(PlanError, match=told):
        plan(arguments(steps, **more))


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"combine": "mean", "use": ADD}, "either `use`, a class, or `combine`"),
        ({"combine": "sum"}, "steps.a.combine"),
        ({"each": True, "after": ["b", "c"]}, "each: takes one input"),
        ({"after": []}, "steps.a.after"),
        ({"after": ["b", "b"]}, "names a step twice"),
        ({"when": {"of": "b", "is": "above", "to": "x"}}, "above needs a number"),
        ({"afte": ["b"]}, "afte"),
    ],
)
def test_a_step_that_means_nothing_is_refused(step: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        arguments({"a": step})
    assert told in str(refused.value)


async def test_branches_that_are_not_taken_are_skipped_with_what_follows_them() -> None:
    steps = {
        "low": {"when": {"of": INPUT, "is": "below", "to": 10}},
        "high": {"when": {"of": INPUT, "is": "above", "to": 10}},
        "after-low": {"after": ["low"]},
        "joined": {"after": ["after-low", "high"], "needs": "any"},
        "both": {"after": ["low", "high"]},
    }
    made = plan(arguments(steps, output=["joined", "both"]))
    for body, called in ((5, {"low", "after-low", "joined"}), (50, {"high", "joined"}), (10, set())):
        calls = Calls()
        found = await run(made, body, calls)
        assert set(calls.made) == called
        assert set(found) == called & {"joined"}


async def test_an_ensemble_goes_on_without_the_optional_member_that_fails() -> None:
    steps = {
        "a": {"optional": True},
        "b": {"optional": True},
        "all": {"combine": "mean", "after": ["a", "b"], "needs": "any"},
    }
    assert await run(plan(arguments(steps)), 1, Calls("a")) == {"all": 2.0}


async def test_a_list_is_taken_apart_within_limits() -> None:
    made = plan(arguments({"a": {"each": True}}))

    def call(_step: str, _names: tuple[str, ...], inputs: list[Any]) -> FakeCall:
        return FakeCall(inputs[0] + 1)

    assert await run(made, [1, 2, 3], call) == {"a": [2, 3, 4]}
    for body in (7, [1] * 5):
        with pytest.raises(BadInput):
            await run(made, body, call, max_fan_out=4)


@pytest.mark.parametrize(
    ("is_", "to", "value", "met"),
    [
        ("above", 1, {"score": 2}, True),
        ("above", 1, {"score": "2"}, False),
        ("above", 1, {"score": True}, False),
        ("below", 1, {}, False),
        ("equal", "cat", {"score": "cat"}, True),
        ("unequal", "cat", {"score": "dog"}, True),
        ("in", ["cat", "dog"], {"score": "dog"}, True),
        ("true", None, {"score": 0}, False),
        ("false", None, {"score": 0}, True),
        ("false", None, [], False),
    ],
)
def test_conditions(is_: str, to: Any, value: Any, met: bool) -> None:
    assert holds(When.model_validate({"of": "a", "at": ["score"], "is": is_, "to": to}), value) is met


@given(st.lists(st.sampled_from([1, 2, "x", [1], {"a": 1}]), min_size=1))
def test_a_vote_is_won_by_what_most_say(values: list[Any]) -> None:
    won = combined("vote", values)
    assert values.count(won) == max(values.count(each) for each in values)


def test_ways_to_combine() -> None:
    assert combined("mean", [[1, 2], [3, 4]]) == [2, 3]
    assert combined("first", [3, 4]) == 3
    assert combined("list", [3, 4]) == [3, 4]
    with pytest.raises(ValueError, match="argument 2"):
        combined("mean", [[1], [1, 2]])
