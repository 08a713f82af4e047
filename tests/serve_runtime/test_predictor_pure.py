"""The parts of the predictor application that need no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_runtime.errors import BadInput, Failed, MalformedInput, NoModelNamed, Unavailable, UnknownModel
from serve_runtime.predictor import PredictorArgs, batches, contract
from serve_runtime.predictor.args import Models
from serve_runtime.predictor.batcher import Batcher
from serve_runtime.predictor.batches import Outcome
from serve_runtime.predictor.catalog import Catalog
from serve_runtime.predictor.loaded import Loaded, RetiredError
from serve_runtime.web.bodies import File, Reader, kind_of, write_event
from serve_runtime.web.dotted import DottedNameError, resolve, resolve_class, resolve_errors
from tests.serve_runtime import sample_predictors

HERE = sample_predictors.__name__


def args(cls: str = "Linear", **more: Any) -> PredictorArgs:
    """Arguments that name a class of the samples."""
    return PredictorArgs.model_validate({"predictor": f"{HERE}:{cls}", **more})


# Arguments.


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batchin": {}}, "batchin"),
        ({"batching": {"max_batch_size": 0}}, "batching.max_batch_size"),
        ({"batching": {"max_batch_size": "8"}}, "batching.max_batch_size"),
        ({"predictor": "no name"}, "predictor"),
        ({"models": {}}, "at least one model in `known`"),
        ({"models": {"known": {"a": {}}, "default": "b"}}, "default: 'b' is not in `known`: a"),
        ({"batching": {"max_batch_size": 32}, "max_ongoing_requests": 8}, "at least max_batch_size"),
        ({"max_queued_requests": 0}, "-1 means no limit"),
        ({"accepts": ["xml"]}, "accepts.0"),
        ({"timeout_s": float("inf")}, "timeout_s"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_arguments_that_mean_nothing_are_refused_with_their_field(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        args(**wrong)
    assert told in str(refused.value)


@given(st.integers(1, 1000), st.integers(1, 20))
def test_a_replica_takes_enough_requests_to_fill_the_next_batch_meanwhile(size: int, concurrent: int) -> None:
    batching = {"max_batch_size": size, "max_concurrent_batches": concurrent}
    assert args("Batched", batching=batching).in_flight() >= 2 * size * concurrent


# Names.


@pytest.mark.parametrize(
    ("dotted", "told"),
    [
        ("nowhere", "is no dotted name"),
        ("nowhere.at_all:It", "no module named 'nowhere'; put it into the image"),
        (f"{HERE}:It", f"{HERE} has no 'It'; it has"),
        (f"{HERE}:asyncio", "is a module, no class"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_its_field(dotted: str, told: str) -> None:
    with pytest.raises(DottedNameError, match=r"^predictor: ") as refused:
        resolve_class(dotted, field="predictor")
    assert told in str(refused.value)


def test_names_are_written_in_two_ways() -> None:
    assert resolve(f"{HERE}:Linear", field="f") is resolve(f"{HERE}.Linear", field="f") is sample_predictors.Linear
    assert resolve_errors(["builtins.ValueError"], field="f") == (ValueError,)
    with pytest.raises(DottedNameError, match=r"^f\[1\]: "):
        resolve_errors(["builtins.ValueError", "builtins.int"], field="f")


# Classes.


def test_a_contract_is_read_off_the_class() -> None:
    found = contract.of(sample_predictors.Linear, args())
    assert (found.one, found.batch, found.stream) == (True, False, False)
    assert (found.item, found.accepts) == (sample_predictors.Point, ("json", "form"))
    assert contract.of(sample_predictors.Batched, args("Batched")).item is int
    assert contract.of(sample_predictors.Raw, args("Raw")).accepts == ("bytes",)


class Nothing:
    """Offers nothing."""


class NoSelf:
    """Has a method that cannot be called."""

    def predict(self) -> None:
        """Takes nothing."""


@pytest.mark.parametrize(
    ("cls", "more", "told"),
    [
        (Nothing, {}, "has none of predict"),
        (NoSelf, {}, "must take one argument"),
        (sample_predictors.Linear, {"batching": {}}, "^batching: .* no predict_batch"),
        (sample_predictors.Linear, {"init": {"slip": 1}}, "^init: .*unexpected keyword argument 'slip'"),
        (sample_predictors.Linear, {"accepts": ["bytes"]}, "^accepts: bytes"),
        (sample_predictors.Linear, {"models": {"known": {"a": {"slip": 1}}}}, r"^models\.known\.a: "),
    ],
)
def test_a_class_that_does_not_fit_is_refused(cls: type[Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(contract.ContractError, match=told):
        contract.of(cls, args(**more))


# Bodies.

FIELD_NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.dictionaries(FIELD_NAMES, st.binary(max_size=200), min_size=1, max_size=4))
def test_files_of_a_form_arrive_byte_for_byte(files: dict[str, bytes]) -> None:
    boundary = "a-boundary-that-nobody-draws"
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="f.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    )
    read = Reader(("form",)).read(f"multipart/form-data; boundary={boundary}", parts + f"--{boundary}--\r\n".encode())
    assert read == {name: File("f.bin", "application/octet-stream", content) for name, content in files.items()}


def test_fields_that_come_several_times_are_a_list() -> None:
    read = Reader(("form",)).read("application/x-www-form-urlencoded", b"a=1&b=2&a=3&c=")
    assert read == {"a": ["1", "3"], "b": "2", "c": ""}


@given(st.binary(max_size=60), st.sampled_from(["application/json", "multipart/form-data; boundary=x",
       "multipart/form-data", "application/x-www-form-urlencoded", ""]))  # fmt: skip
def test_no_body_is_more_than_refused(raw: bytes, content_type: str) -> None:
    for item_type in (Any, sample_predictors.Point):
        with contextlib.suppress(MalformedInput, BadInput):  # and nothing else, which would be a 500
            Reader(("json", "form"), item_type).read(content_type, raw)


def test_kinds_of_content_types() -> None:
    kinds = {
        "": "json",
        "Application/JSON; charset=utf-8": "json",
        "application/geo+json": "json",
        "image/png": "bytes",
    }
    assert {each: kind_of(each) for each in kinds} == kinds


@given(st.text())
def test_an_event_is_read_back_as_it_was_written(text: str) -> None:
    lines = write_event(text).decode().removesuffix("\n\n").split("\n")
    assert all(line.startswith("data: ") for line in lines)
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "\n".join(line.removeprefix("data: ") for line in lines) == ends


# Batches.


@given(st.lists(st.integers(-3, 103), min_size=1, max_size=20))
async def test_each_of_a_batch_has_the_outcome_it_has_alone(items: list[int]) -> None:
    predictor = sample_predictors.Batched()

    async def call(some: list[Any]) -> Any:
        return predictor.predict_batch(some)

    def seen(outcome: Outcome) -> Any:
        return outcome.value["item"] if outcome.error is None else type(outcome.error)

    def at_fault(error: Exception) -> bool:
        return isinstance(error, ValueError)

    found = await batches.compute(items, call, at_fault)
    alone = [(await batches.compute([item], call, at_fault))[0] for item in items]
    assert [seen(each) for each in found] == [seen(each) for each in alone]


@pytest.mark.parametrize("results", [None, "ab", [1], {"a": 1, "b": 2}, 7])
async def test_results_that_are_not_one_for_each_fail_all_with_the_reason(results: Any) -> None:
    async def call(_some: list[Any]) -> Any:
        return results

    outcomes = await batches.compute([1, 2], call, lambda _error: False)
    assert [type(each.error) for each in outcomes] == [Failed, Failed]


@given(st.integers(1, 8), st.integers(1, 3), st.lists(st.booleans(), min_size=1, max_size=30))
async def test_batches_are_cut_when_they_can_be_computed(size: int, concurrent: int, leaves: list[bool]) -> None:
    running, seen = 0, []
    gate = asyncio.Event()

    async def compute(jobs: list[int]) -> list[int]:
        nonlocal running
        running += 1
        assert running <= concurrent
        seen.append(jobs)
        await gate.wait()
        running -= 1
        return [job * 2 for job in jobs]

    batcher: Batcher[int, int] = Batcher(compute, size, 0.0, concurrent)
    tasks = [asyncio.create_task(batcher.submit(job)) for job in range(len(leaves))]
    await asyncio.sleep(0)  # all have come
    for task, leaves_early in zip(tasks, leaves, strict=True):
        if leaves_early:
            task.cancel()
    gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for job, (result, left) in enumerate(zip(found, leaves, strict=True)):
        assert isinstance(result, asyncio.CancelledError) if left else result == job * 2
    assert [job for batch in seen for job in batch] == [job for job, left in enumerate(leaves) if not left]
    assert all(len(batch) == size for batch in seen[:-1])
    assert batcher.waiting == 0


async def test_a_batch_grows_while_the_one_before_is_computed() -> None:
    sizes: list[int] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def compute(jobs: list[int]) -> list[int]:
        sizes.append(len(jobs))
        begun.set()
        await gate.wait()
        return jobs

    batcher: Batcher[int, int] = Batcher(compute, 8, 0.0, 1)
    first = asyncio.create_task(batcher.submit(0))
    await begun.wait()
    others = []
    for job in range(8):
        others.append(asyncio.create_task(batcher.submit(job)))
        await asyncio.sleep(0.001)  # one after another, each later than wait_s after the one before
    gate.set()
    await asyncio.gather(first, *others)
    assert sizes == [1, 8]


async def test_a_batch_that_fails_as_a_whole_fails_each_of_it() -> None:
    async def compute(_jobs: list[int]) -> list[int]:
        raise LookupError

    batcher: Batcher[int, int] = Batcher(compute, 2, 0.0, 1)
    found = await asyncio.gather(*(batcher.submit(job) for job in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [LookupError] * 3


# Models.


@given(st.lists(st.sampled_from(["take", "give", "retire"]), max_size=30))
def test_a_model_is_closed_once_and_never_in_use(steps: list[str]) -> None:
    class Closes:
        def close(self) -> None:
            closings.append(users)

    closings: list[int] = []
    users, retired = 0, False
    loaded = Loaded("m", Closes())
    for step in steps:
        if step == "take":
            if retired:
                with pytest.raises(RetiredError):
                    loaded.take()
            else:
                loaded.take()
                users += 1
        elif step == "give" and users:
            users -= 1
            loaded.give_back()
        elif step == "retire":
            retired = True
            loaded.retire()
        assert closings == ([0] if retired and users == 0 else [])


def test_unloading_waits_for_those_who_use_it() -> None:
    loaded = Loaded("m", object(), grace_s=60)
    loaded.take()
    thread = threading.Thread(target=loaded.retire)
    thread.start()
    loaded.give_back()
    thread.join(30)
    assert not thread.is_alive()


def test_which_model_a_request_means() -> None:
    clock = [100.0]
    catalog = Catalog(Models(known={"a": {}, "b": {}}, retry_load_after_s=5), lambda: clock[0])
    assert catalog.pick("a") == "a"
    with pytest.raises(NoModelNamed):
        catalog.pick("")
    with pytest.raises(UnknownModel):
        catalog.pick("c")
    catalog.failed("b", "because")
    clock[0] = 104.0
    with pytest.raises(Unavailable) as refused:
        catalog.pick("b")
    assert refused.value.retry_after_s == 1.0
    clock[0] = 105.0
    assert catalog.pick("b") == "b"


def test_names_that_callers_make_up_are_not_kept_for_ever() -> None:
    clock = [0.0]
    catalog = Catalog(Models(any=True, retry_load_after_s=5), lambda: clock[0])
    for number in range(100):
        clock[0] += 1
        catalog.failed(f"m{number}", "because")
    assert len(catalog.failures) <= 6
