"""Decisions carried out on a real API server: what each action promises, and what is not written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from e2e.localkube import light
from rayservice_operator.api import names
from rayservice_operator.core.decision import (
    Apply,
    Create,
    Decision,
    Delete,
    DryRun,
    EnsureSecret,
    JsonPatch,
    MergePatch,
    Note,
)
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest, Ref, name_of, owner_reference, ref, uid_of
from rayservice_operator.engine.clock import ManualClock
from rayservice_operator.engine.dry_runs import DryRunCache
from rayservice_operator.engine.executor import SECRET_CHECK_S, ActionFailed, Executor
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Invalid,
    NotFound,
    ServerError,
    Unreachable,
)
from rayservice_operator.kube.events import EventRecorder
from rayservice_operator.kube.resources import reference
from rayservice_operator.kube.store import Store
from tests.api.conftest import connection
from tests.api.test_kube_app import ray_service


class Counting(KubeClient):
    """Counts calls by verb; ``lose`` loses that many answers to creates and patches that the server has carried out."""

    def __init__(self, api: light.Api) -> None:
        self.calls: list[str] = []
        self.lose = 0
        self.answer: ApiError = Unreachable("the answer was lost")
        super().__init__(lambda: connection(api), on_request=lambda verb, *_: self.calls.append(verb))

    async def create(self, obj: Manifest) -> Manifest:
        made = await super().create(obj)
        if obj["kind"] != "Event":
            self._lost()
        return made

    async def json_patch(self, ref: Ref, operations: Sequence[dict[str, Any]]) -> Manifest:
        done = await super().json_patch(ref, operations)
        self._lost()
        return done

    async def patch_status(self, ref: Ref, patch: Manifest) -> Manifest:
        done = await super().patch_status(ref, patch)
        self._lost()
        return done

    def _lost(self) -> None:
        if self.lose:
            self.lose -= 1
            raise self.answer


class Bench:
    """An executor with its store, about one RayService."""

    def __init__(self, api: Counting, service: Manifest) -> None:
        self.api = api
        self.clock = ManualClock()
        self.store = Store()
        self.dry_runs = DryRunCache()
        self.recorder = EventRecorder(api, now=self.clock.now, instance="test")
        tokens = iter(["first-token", "second-token"])
        self.executor = Executor(
            api,
            self.store,
            self.recorder,
            self.dry_runs,
            self.clock,
            surveyor=Surveyor(api, self.clock, on_answer=lambda _: None),
            new_token=lambda: next(tokens),
        )
        self.store.put(service)
        self.key = Key("RayService", service["metadata"]["namespace"], service["metadata"]["name"])

    @property
    def service(self) -> Manifest:
        found = self.store.get(*self.key)
        assert found is not None
        return found

    async def do(self, *actions: Any, **decision: Any) -> list[str]:
        """Carry out; which verbs were called."""
        self.api.calls.clear()
        await self.executor.execute(self.key, self.service, Decision(actions=actions, **decision))
        return list(self.api.calls)

    def child(self, kind: str, name: str = "", **rest: Any) -> Manifest:
        return {
            "apiVersion": reference(kind, "", "").api_version,
            "kind": kind,
            "metadata": {
                **({"name": name} if name else {"generateName": "x-"}),
                "namespace": self.key.namespace,
                "labels": {names.CREATED_BY: names.CREATED_BY_VALUE, names.CLUSTER: "c"},
                "ownerReferences": [owner_reference(self.service)],
            },
            **rest,
        }

    def pod(self, name: str = "") -> Manifest:
        return self.child("Pod", name, spec={"containers": [{"name": "c", "image": "i"}]})

    def account(self, name: str, **rest: Any) -> Manifest:
        return self.child("ServiceAccount", name, **rest)


@pytest.fixture
async def bench(apiserver: light.Api, namespace: str) -> AsyncIterator[Bench]:
    async with Counting(apiserver) as api:
        yield Bench(api, await api.create(ray_service(namespace)))


async def test_apply_is_sent_once_while_nobody_touches_it(bench: Bench) -> None:
    action = Apply(bench.account("a"))
    assert await bench.do(action) == ["apply"]
    assert await bench.do(action) == []
    changed = Apply({**action.obj, "automountServiceAccountToken": False})
    assert await bench.do(changed) == ["apply"]
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    bench.store.put(await bench.api.merge_patch(ref(stored), {"automountServiceAccountToken": True}))
    assert await bench.do(changed) == ["apply"]
    assert (await bench.api.get(ref(stored)))["automountServiceAccountToken"] is False


async def test_what_is_created_is_in_the_store(bench: Bench) -> None:
    assert await bench.do(Create(bench.pod())) == ["create"]
    assert len(bench.store.owned(uid_of(bench.service), "Pod")) == 1


async def test_created_before_by_us_is_success(bench: Bench) -> None:
    made = await bench.api.create(bench.account("a"))
    assert await bench.do(Create(bench.account("a"))) == ["create", "get"]
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    assert uid_of(stored) == uid_of(made)


async def test_created_by_somebody_else_fails_and_names_them(bench: Bench) -> None:
    theirs = bench.account("a")
    theirs["metadata"]["ownerReferences"][0] |= {"uid": "another", "name": "another-service"}
    await bench.api.create(theirs)
    with pytest.raises(ActionFailed, match="belongs to RayService another-service; delete it") as failed:
        await bench.do(Create(bench.account("a")))
    assert isinstance(failed.value.error, AlreadyExists)


async def test_a_failing_action_stops_the_rest(bench: Bench) -> None:
    bad = bench.pod("bad")
    bad["spec"]["containers"] = []
    with pytest.raises(ActionFailed, match=r"create Pod .*/bad: .*spec\.containers") as failed:
        await bench.do(Create(bad), Create(bench.pod("good")))
    assert isinstance(failed.value.error, Invalid)
    assert (await bench.api.list("Pod", bench.key.namespace)).items == ()


async def test_pods_are_refused_a_few_times_and_not_a_hundred(bench: Bench) -> None:
    """The first batch that is refused is the last, and what it made all the same is known."""
    pods = [bench.pod(f"ray-{number}") for number in range(40)]
    for number in (4, 5):  # in the third batch: 1, then 2, then 4
        pods[number]["spec"]["containers"] = []
    with pytest.raises(ActionFailed) as failure:
        await bench.do(*(Create(pod) for pod in pods))
    assert failure.value.what.endswith("/ray-4")
    assert isinstance(failure.value.error, Invalid)
    assert bench.api.calls.count("create") == 7
    stored = bench.store.owned(uid_of(bench.service), "Pod")
    assert sorted(name_of(pod) for pod in stored) == ["ray-0", "ray-1", "ray-2", "ray-3", "ray-6"]


async def test_a_lost_answer_to_a_create_does_not_make_a_second_pod(bench: Bench) -> None:
    bench.api.lose = 1
    with pytest.raises(ActionFailed):
        await bench.do(Create(bench.pod()))
    assert bench.store.kind("Pod") == ()
    await bench.executor.settle(bench.key.namespace)
    assert len(bench.store.owned(uid_of(bench.service), "Pod")) == 1
    bench.api.calls.clear()
    await bench.executor.settle(bench.key.namespace)
    assert bench.api.calls == []


@pytest.mark.parametrize(
    "answer", [Unreachable("the answer was lost"), ServerError(504, "Timeout", "etcdserver: request timed out")]
)
async def test_what_a_write_without_a_clear_answer_did_is_known_to_the_next_decision(
    bench: Bench, answer: ApiError
) -> None:
    bench.api.answer = answer
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    bench.api.lose = 1
    with pytest.raises(ActionFailed):
        await bench.do(JsonPatch(ref(stored), ({"op": "add", "path": "/metadata/labels/new", "value": "ours"},)))
    bench.api.lose = 1
    with pytest.raises(ActionFailed):
        await bench.do(status={"numServeEndpoints": 3})
    await bench.executor.settle(bench.key.namespace)
    known = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert known is not None
    assert known["metadata"]["labels"]["new"] == "ours"
    assert bench.service["status"]["numServeEndpoints"] == 3
    bench.api.calls.clear()
    await bench.executor.settle(bench.key.namespace)
    assert bench.api.calls == []


async def test_a_deletion_of_what_has_changed_since_is_none_and_refreshes_the_store(bench: Bench) -> None:
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    await bench.api.merge_patch(ref(stored), {"metadata": {"labels": {"new": "theirs"}}})
    with pytest.raises(ActionFailed) as failed:
        await bench.do(Delete(ref(stored), resource_version=stored["metadata"]["resourceVersion"]))
    assert isinstance(failed.value.error, Conflict)
    fresh = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert fresh is not None
    await bench.do(Delete(ref(fresh), resource_version=fresh["metadata"]["resourceVersion"]))
    assert bench.store.get("ServiceAccount", bench.key.namespace, "a") is None


async def test_patches_of_what_has_changed_conflict_and_refresh_the_store(bench: Bench) -> None:
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    await bench.api.merge_patch(ref(stored), {"metadata": {"labels": {"new": "theirs"}}})
    patch = JsonPatch(
        ref(stored),
        (
            {"op": "test", "path": "/metadata/labels/new", "value": "ours"},
            {"op": "remove", "path": "/metadata/labels/new"},
        ),
    )
    with pytest.raises(ActionFailed) as failed:
        await bench.do(patch)
    assert isinstance(failed.value.error, Conflict)
    fresh = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert fresh is not None
    assert fresh["metadata"]["labels"]["new"] == "theirs"


async def test_a_patch_of_what_is_gone_takes_it_out_of_the_store(bench: Bench) -> None:
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    await bench.api.delete(ref(stored))
    with pytest.raises(ActionFailed) as failed:
        await bench.do(MergePatch(ref(stored), {"metadata": {"labels": {"x": "y"}}}))
    assert isinstance(failed.value.error, NotFound)
    assert bench.store.get("ServiceAccount", bench.key.namespace, "a") is None


async def test_delete_of_what_is_gone_is_success(bench: Bench) -> None:
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    assert await bench.do(Delete(ref(stored))) == ["delete"]
    assert bench.store.get("ServiceAccount", bench.key.namespace, "a") is None
    assert await bench.do(Delete(ref(stored))) == ["delete"]


async def test_delete_spares_a_successor(bench: Bench) -> None:
    await bench.do(Create(bench.account("a")))
    stored = bench.store.get("ServiceAccount", bench.key.namespace, "a")
    assert stored is not None
    await bench.api.delete(ref(stored))
    successor = await bench.api.create(bench.account("a"))
    await bench.do(Delete(ref(stored)))
    assert uid_of(await bench.api.get(ref(successor))) == uid_of(successor)


async def test_a_terminating_object_stays_in_the_store_as_such(bench: Bench) -> None:
    pod = bench.pod("p")
    pod["metadata"]["finalizers"] = ["example.com/hold"]
    await bench.do(Create(pod))
    await bench.do(Delete(reference("Pod", bench.key.namespace, "p")))
    stored = bench.store.get("Pod", bench.key.namespace, "p")
    assert stored is not None
    assert stored["metadata"]["deletionTimestamp"]


async def test_a_secret_is_made_once_and_its_token_never_changes(bench: Bench) -> None:
    action = EnsureSecret(
        reference("Secret", bench.key.namespace, "token"), "auth_token", {"a": "b"}, owner_reference(bench.service)
    )
    assert await bench.do(action) == ["get", "create"]
    made = await bench.api.get(action.ref)
    assert made["data"] == {"auth_token": "Zmlyc3QtdG9rZW4="}
    assert made["metadata"]["labels"] == {"a": "b"}
    assert await bench.do(action) == []
    bench.clock.advance(SECRET_CHECK_S + 1)
    assert await bench.do(action) == ["get"]
    await bench.api.delete(ref(made))
    bench.clock.advance(SECRET_CHECK_S + 1)
    assert await bench.do(action) == ["get", "create"]


async def test_dry_runs_are_answered_and_ask_for_another_look(bench: Bench) -> None:
    bad = bench.pod()
    bad["spec"]["contaners"] = []
    decision = Decision(actions=(DryRun("good", bench.pod()), DryRun("bad", bad)))
    assert await bench.executor.execute(bench.key, bench.service, decision)
    answers = bench.dry_runs.view(bench.key)
    assert answers["good"].error is None
    assert 'unknown field "spec.contaners"' in (answers["bad"].error or "")
    assert answers["bad"].at == bench.clock.now()
    assert (await bench.api.list("Pod", bench.key.namespace)).items == ()


async def test_a_dry_run_of_a_taken_name_is_no_refusal(bench: Bench) -> None:
    await bench.do(Create(bench.pod("p")))
    await bench.do(DryRun("taken", bench.pod("p")))
    assert bench.dry_runs.view(bench.key)["taken"].error is None


async def test_status_is_written_when_it_differs_and_only_then(bench: Bench) -> None:
    first = {"numServeEndpoints": 2, "activeServiceStatus": {"rayClusterName": "c1"}}
    assert await bench.do(status=first) == ["patch_status"]
    assert bench.service["status"] == first
    assert await bench.do(status=first) == []
    second = {"numServeEndpoints": 2, "pendingServiceStatus": {"rayClusterName": "c2"}}
    assert await bench.do(status=second) == ["patch_status"]
    assert (await bench.api.get(ref(bench.service)))["status"] == second


async def test_a_status_field_that_the_crd_does_not_know_is_not_sent_again_and_again(bench: Bench) -> None:
    wanted = {"numServeEndpoints": 2, "notInTheCrd": True}
    assert await bench.do(status=wanted) == ["patch_status"]
    assert await bench.do(status=wanted) == []
    assert await bench.do(status=wanted | {"numServeEndpoints": 3}) == ["patch_status"]


async def test_status_of_a_service_that_is_gone_is_not_an_error(bench: Bench) -> None:
    service = bench.service
    await bench.api.delete(ref(service))
    await bench.executor.execute(bench.key, service, Decision(status={"numServeEndpoints": 2}))
    assert bench.store.get(*bench.key) is None
    await bench.executor.execute(bench.key, service, Decision(status={"numServeEndpoints": 2}))


async def test_notes_become_events_after_all_else(bench: Bench) -> None:
    with pytest.raises(ActionFailed):
        await bench.do(
            JsonPatch(reference("Pod", bench.key.namespace, "none"), ()), notes=(Note("TooEarly", "never said"),)
        )
    await bench.do(notes=(Note("Created", "it is there"),))
    assert bench.recorder._queue.qsize() == 1


@pytest.mark.parametrize(("commits", "written"), [(False, True), (True, False)])
async def test_status_after_a_failing_action(bench: Bench, commits: bool, written: bool) -> None:
    """What was observed is told even then; what would say that the actions are done is not."""
    bad = bench.child("Service", "never") | {"spec": {"ports": [{"port": 0}]}}
    with pytest.raises(ActionFailed, match="create Service"):
        await bench.do(Create(bad), status={"serviceStatus": "told", "observedGeneration": 1}, commits=commits)
    stored = (await bench.api.get(ref(bench.service))).get("status") or {}
    assert (stored.get("serviceStatus") == "told") is written
