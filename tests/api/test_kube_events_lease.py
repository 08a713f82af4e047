"""Events and leadership on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import kopf
import pytest

from rayservice_operator.core.decision import Level, Note
from rayservice_operator.core.objects import Manifest, metadata
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.events import REPEAT_S, EventRecorder
from rayservice_operator.kube.lease import LeaderElector, LeadershipLost
from rayservice_operator.kube.resources import reference
from tests.api.test_kube_app import ray_service


class Now:
    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


@contextlib.asynccontextmanager
async def recording(client: KubeClient, now: Now) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, now=now, instance="test")
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        await recorder.flush()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def events_of(client: KubeClient, namespace: str) -> list[Manifest]:
    return list((await client.list("Event", namespace)).items)


async def test_a_note_becomes_an_event_and_repeats_a_series(client: KubeClient, namespace: str) -> None:
    service = await client.create(ray_service(namespace))
    now = Now()
    note = Note("DeployFailed", "x" * 3000, Level.WARNING)
    async with recording(client, now) as recorder:
        for _ in range(5):
            recorder.record(service, note)
            await recorder.flush()
        (event,) = await events_of(client, namespace)
        assert (event["reason"], event["type"], len(event["note"])) == ("DeployFailed", "Warning", 1023)
        assert event["regarding"]["uid"] == service["metadata"]["uid"]
        assert event["reportingController"] == "rayservice-operator"
        assert "series" not in event
        now.at += REPEAT_S
        recorder.record(service, note)
        await recorder.flush()
        (event,) = await events_of(client, namespace)
        assert event["series"]["count"] == 6
        recorder.record(service, Note("DeployFailed", "another message"))
    assert len(await events_of(client, namespace)) == 2


async def test_after_a_restart_the_series_goes_on(client: KubeClient, namespace: str) -> None:
    service = await client.create(ray_service(namespace))
    for _ in range(3):
        async with recording(client, Now()) as recorder:
            recorder.record(service, Note("Seen", "again"))
    (event,) = await events_of(client, namespace)
    assert event["series"]["count"] == 3


async def test_an_event_that_the_server_forgot_is_written_anew(client: KubeClient, namespace: str) -> None:
    service = await client.create(ray_service(namespace))
    now = Now()
    async with recording(client, now) as recorder:
        recorder.record(service, Note("Seen", "again"))
        await recorder.flush()
        (event,) = await events_of(client, namespace)
        await client.delete(reference("Event", namespace, event["metadata"]["name"]))
        now.at += 7200
        recorder.record(service, Note("Seen", "again"))
    (event,) = await events_of(client, namespace)
    assert "series" not in event


def elector(client: KubeClient, namespace: str, identity: str, **times: float) -> LeaderElector:
    quick = {"lease_duration_s": 2.0, "renew_deadline_s": 1.0, "retry_period_s": 0.1} | times
    return LeaderElector(client, namespace, "operator", identity, **quick)


async def lease_of(client: KubeClient, namespace: str) -> Manifest:
    return await client.get(reference("Lease", namespace, "operator"))


async def test_one_leads_and_the_other_takes_over_on_release(client: KubeClient, namespace: str) -> None:
    first, second = elector(client, namespace, "first"), elector(client, namespace, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    keeping = asyncio.create_task(first.keep())
    done, _ = await asyncio.wait({waiting, keeping}, timeout=3)  # longer than the lease: it is renewed
    assert not done
    keeping.cancel()
    await first.release()
    await asyncio.wait_for(waiting, 120)
    spec = (await lease_of(client, namespace))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)
    assert second.leading
    assert not first.leading


async def test_a_lease_that_is_no_longer_renewed_is_taken(client: KubeClient, namespace: str) -> None:
    await elector(client, namespace, "dead").acquire()
    second = elector(client, namespace, "second")
    await asyncio.wait_for(second.acquire(), 120)
    assert second.leading


async def test_who_lost_the_lease_is_told(client: KubeClient, namespace: str) -> None:
    first = elector(client, namespace, "first")
    await first.acquire()
    await client.merge_patch(reference("Lease", namespace, "operator"), {"spec": {"holderIdentity": "usurper"}})
    with pytest.raises(LeadershipLost, match="usurper"):
        await asyncio.wait_for(first.keep(), 120)
    assert not first.leading
    before = await lease_of(client, namespace)
    await first.release()
    assert await lease_of(client, namespace) == before


async def test_a_server_that_is_away_ends_leadership_in_time(client: KubeClient, namespace: str) -> None:
    async with KubeClient(client._http._login) as own:
        first = elector(own, namespace, "first")
        await first.acquire()
        own._http._login = _nowhere
        own._http._forget_login()
        with pytest.raises(LeadershipLost, match="no renewal"):
            await asyncio.wait_for(first.keep(), 120)


async def test_a_restarted_leader_of_the_same_name_leads_at_once(client: KubeClient, namespace: str) -> None:
    await elector(client, namespace, "pod-0").acquire()
    again = elector(client, namespace, "pod-0", lease_duration_s=600.0)
    await asyncio.wait_for(again.acquire(), 120)
    assert metadata(await lease_of(client, namespace))["name"] == "operator"


def _nowhere() -> kopf.ConnectionInfo:

    return kopf.ConnectionInfo(server="http://127.0.0.1:9")
