"""The look at nodes, pods and quotas: what is asked of the API server, and what becomes of refusals and failures."""

from __future__ import annotations

import asyncio
import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import pytest

from rayservice_operator.core.decision import AskRoom
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, Ref
from rayservice_operator.core.room import PodsWanted, Room
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.surveys import FRESH_S, KEEP_S, RUNNING_PODS, SHARE, Surveyor
from rayservice_operator.kube.api import KubeApi, Listing
from rayservice_operator.kube.errors import ApiError, Forbidden, NotFound, ServerError
from tests.service.test_capacity import GPU, manifest, pod

KEY = Key("RayService", "ns", "svc")
PAGE = 2


class FakeApi:
    """Answers from lists, two objects a page; ``broken`` kinds raise. ``took`` passes with each page."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.objects: dict[str, list[Manifest]] = {"Node": [], "Pod": [], "ResourceQuota": []}
        self.broken: dict[str, ApiError | Exception] = {}
        self.calls: list[str] = []
        self.autoscaler = False
        self.took = 0.0
        self.gate: asyncio.Event | None = None

    async def page(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "", more: str = ""
    ) -> Listing:
        self.calls.append(f"{kind} {fields} {more}".strip())
        if self.gate is not None:
            await self.gate.wait()
        self.clock.advance(self.took)
        if kind in self.broken:
            raise self.broken[kind]
        begin = int(more or 0)
        items = self.objects[kind][begin : begin + PAGE]
        rest = len(self.objects[kind]) > begin + PAGE
        return Listing(tuple(items), "1", str(begin + PAGE) if rest else "")

    async def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> Listing:
        self.calls.append(f"{kind} in {namespace}")
        if kind in self.broken:
            raise self.broken[kind]
        return Listing(tuple(self.objects[kind]), "1")

    async def get(self, ref: Ref) -> Manifest:
        if "ConfigMap" in self.broken:
            raise self.broken["ConfigMap"]
        if not self.autoscaler:
            raise NotFound(404, "NotFound", "no such thing")
        return {"kind": ref.kind, "metadata": {"name": ref.name}}


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(self.clock)
        self.told: list[Key] = []
        self.surveyor = Surveyor(cast("KubeApi", self.api), self.clock, self.told.append)

    async def answer(self, question: AskRoom, key: Key = KEY) -> Room | None:
        """Ask and wait until nothing is going on."""
        self.surveyor.ask(key, question)
        await self.settled()
        return self.surveyor.view(key)[question.key].room

    async def settled(self) -> None:
        while self.surveyor._tasks:
            await asyncio.gather(*self.surveyor._tasks)
            await asyncio.sleep(0)


def question(name: str = "to", gpus: int = 1) -> AskRoom:
    return AskRoom(name, "ns", (PodsWanted("gpu", pod(gpus=gpus), 2, 2),))


def on(node: str, gpus: int, phase: str = "Running") -> Manifest:
    made = pod(gpus=gpus)
    return {**made, "spec": {**made["spec"], "nodeName": node}, "status": {"phase": phase}}


async def test_pods_of_all_pages_are_counted_on_their_nodes() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest(name, gpus=1) for name in ("a", "b", "c")]
    bench.api.objects["Pod"] = [on("a", 0), on("b", 0), on("c", 1)]
    room = await bench.answer(question())
    assert room == Room(2, 2, "2 of 2 pods fit now.")
    assert bench.told == [KEY]
    assert bench.api.calls == [
        f"Pod {RUNNING_PODS}",
        f"Pod {RUNNING_PODS} 2",
        "Node",
        "Node  2",
        "ResourceQuota in ns",
    ]
    bench.api.objects["Pod"].append(on("b", 1))
    bench.clock.advance(FRESH_S)
    room = await bench.answer(question())
    assert room is not None
    assert room.fit == 1


async def test_a_look_answers_everybody_who_asks_meanwhile_and_shortly_after() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=4)]
    others = [Key("RayService", "ns", f"svc-{number}") for number in range(5)]
    for key in others:
        bench.surveyor.ask(key, question())
    await bench.settled()
    assert bench.told == others
    await bench.answer(question("another"))
    assert bench.api.calls.count("Node") == 1
    assert bench.api.calls.count("ResourceQuota in ns") == 6
    bench.clock.advance(FRESH_S)
    await bench.answer(question("another"))
    assert bench.api.calls.count("Node") == 2


async def test_a_look_from_before_pods_were_placed_is_no_answer_about_the_others() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=3)]
    asked_before = await bench.answer(question())
    assert asked_before is not None
    assert not asked_before.short
    bench.api.objects["Pod"] = [on("a", 2)]  # which have got a node since
    later = dataclasses.replace(question("later"), since=bench.clock.now() + 0.5)
    bench.clock.advance(1.0)
    asked_after = await bench.answer(later)
    assert asked_after is not None
    assert asked_after.fit == 1


async def test_where_it_takes_long_it_is_done_seldom() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=4)]
    bench.api.took = 2.0
    await bench.answer(question())
    bench.clock.advance(SHARE * 4.0 - 5.0)
    await bench.answer(question())
    assert bench.api.calls.count("Node") == 1
    bench.clock.advance(2.0)
    await bench.answer(question())
    assert bench.api.calls.count("Node") == 2


def _forbidden() -> Forbidden:
    return Forbidden(403, "Forbidden", "not for you")


@pytest.mark.parametrize(
    ("broken", "fit", "said"),
    [
        (("Node",), None, "nodes cannot be seen, the operator may not list them"),
        (("Node", "Pod"), None, "nodes cannot be seen, the operator may not list them"),
        (("Pod",), 1, "on nodes without their other pods, which cannot be seen"),
        (("ResourceQuota",), 1, "1 of 2 pods fit now: nodes that match group gpu lack 1"),
        (("ConfigMap",), 1, "nodes are added"),
    ],
)
async def test_what_must_not_be_seen_is_said(broken: tuple[str, ...], fit: int | None, said: str) -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=1)]
    bench.api.broken = {kind: _forbidden() for kind in broken}
    room = await bench.answer(question())
    assert room is not None
    assert room.fit == fit
    assert said in room.message


async def test_the_cluster_autoscaler_is_known_by_its_config_map() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=1)]
    bench.api.autoscaler = True
    room = await bench.answer(question())
    assert room is not None
    assert "the cluster autoscaler adds nodes" in room.message


@pytest.mark.parametrize("error", [ServerError(500, "InternalError", "etcd"), ValueError("a mistake")])
async def test_after_a_failure_the_next_question_is_answered(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=2)]
    bench.api.broken["Node"] = error
    assert await bench.answer(question()) is None
    assert bench.told == []
    assert any(record.levelname in ("WARNING", "ERROR") for record in caplog.records)
    del bench.api.broken["Node"]
    assert await bench.answer(question()) == Room(2, 2, "2 of 2 pods fit now.")


async def test_the_former_answer_stands_while_it_is_asked_again() -> None:
    bench = Bench()
    bench.api.objects["Node"] = [manifest("a", gpus=2)]
    before = await bench.answer(question())
    bench.clock.advance(FRESH_S)
    bench.api.gate = asyncio.Event()
    bench.surveyor.ask(KEY, question())
    answer = bench.surveyor.view(KEY)["to"]
    assert answer.asked_at == bench.clock.now()
    assert answer.room == before
    bench.api.gate.set()
    await bench.settled()


async def test_an_object_that_is_gone_is_told_nothing() -> None:
    bench = Bench()
    bench.api.gate = asyncio.Event()
    bench.surveyor.ask(KEY, question())
    bench.surveyor.ask(KEY, question("second"))
    await asyncio.sleep(0)
    bench.surveyor.forget(KEY)
    bench.api.gate.set()
    await bench.settled()
    assert bench.told == []
    assert bench.surveyor.view(KEY) == {}


async def test_close_ends_what_goes_on() -> None:
    bench = Bench()
    bench.api.gate = asyncio.Event()
    bench.surveyor.ask(KEY, question())
    await asyncio.sleep(0)
    await bench.surveyor.close()
    assert not bench.surveyor._tasks


async def test_a_large_cluster_is_summed_up_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 nodes with 50,000 pods: what is kept at any time is a page and one sum for each node."""
    bench = Bench()
    pages: dict[str, Callable[[int], Manifest]] = {
        "Pod": lambda number: on(f"n{number % 5000}", 0),
        "Node": lambda number: manifest(f"n{number}", 1, "64", labels={f"label-{i}": "value" for i in range(10)}),
    }
    sizes = {"Pod": 50_000, "Node": 5_000}

    async def page(kind: str, namespace: str | None = None, *, more: str = "", **_: Any) -> Listing:
        begin = int(more or 0)
        items = tuple(pages[kind](number) for number in range(begin, begin + 500))
        return Listing(items, "1", str(begin + 500) if begin + 500 < sizes[kind] else "")

    monkeypatch.setattr(bench.api, "page", page)
    tracemalloc.start()
    try:
        room = await bench.answer(question())
        _, peak = tracemalloc.get_traced_memory()
        bench.clock.advance(KEEP_S + 1)
        bench.surveyor.view(KEY)
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert room == Room(2, 2, "2 of 2 pods fit now.")
    assert peak < 40 * 2**20
    assert left < 2 * 2**20
    assert GPU in pod(gpus=1)["spec"]["containers"][0]["resources"]["limits"]
